//! The room that container logs must leave for the next archive of a day.

use crate::day::{day_of, is_draft};
use std::path::Path;

/// Returns the bytes that the next archive may still need: the size of the largest archive, minus what its
/// drafts have.
pub fn day_room(out: &Path) -> u64 {
    let (mut largest, mut drafts) = (0, 0_u64);
    for entry in std::fs::read_dir(out).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_day = day_of(name).is_some();
        if !is_day && !is_draft(name) {
            continue;
        }
        let Some(metadata) = entry.metadata().ok().filter(std::fs::Metadata::is_file) else { continue };
        match is_day {
            true => largest = metadata.len().max(largest),
            false => drafts = drafts.saturating_add(metadata.len()),
        }
    }
    largest.saturating_sub(drafts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_archive_counts_less_the_draft() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, bytes| std::fs::write(directory.path().join(name), vec![0; bytes]).unwrap();
        for (name, bytes, room) in [
            ("other.tar.gz", 900, 0),
            ("all-logs-2026-11-27.tar.gz", 300, 300),
            ("all-logs-2026-11-28.tar.zst", 200, 300),
            (".all-logs-2026-11-28.tar.zst.draft", 250, 50),
        ] {
            make(name, bytes);
            assert_eq!(day_room(directory.path()), room, "{name}");
        }
        assert_eq!(day_room(&directory.path().join("missing")), 0);
    }
}
