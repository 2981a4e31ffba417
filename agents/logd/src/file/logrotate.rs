//! Files that logrotate moved away: `node_log.1`, `node_log.2.gz`, or with `dateext` `node_log-20261128.gz`.

use crate::file::rotated::directory_of;
use kit::disk::inode::Inode;
use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The age of a file according to its name; the oldest sorts first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Date(String),
    /// A larger number means an older file.
    Number(Reverse<u32>),
}

/// A file that logrotate moved away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogrotateFile {
    age: Age,
    pub compressed: bool,
    pub path: PathBuf,
    /// Identifies the file, because each rotation gives its name to another file.
    pub inode: Inode,
}

/// Lists the files moved away from `path`, oldest first. A file under compression exists twice; only the
/// uncompressed copy is listed.
pub fn list(path: &Path) -> io::Result<Vec<LogrotateFile>> {
    let base = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let Some((age, compressed)) = parse(&base, &entry.file_name().to_string_lossy()) else { continue };
        // A file that was renamed or compressed meanwhile is found by the next look.
        let Ok(metadata) = entry.metadata() else { continue };
        let (path, inode) = (path.with_file_name(entry.file_name()), Inode::from(&metadata));
        found.push(LogrotateFile { age, compressed, path, inode });
    }
    found.sort_by(|a, b| (&a.age, a.compressed).cmp(&(&b.age, b.compressed)));
    found.dedup_by(|a, b| a.age == b.age);
    Ok(found)
}

/// Opens the listed files. `None` if one of them has another name by now.
pub fn open_all(listed: &[LogrotateFile]) -> io::Result<Option<Vec<File>>> {
    let mut files = Vec::with_capacity(listed.len());
    for moved in listed {
        match File::open(&moved.path) {
            Ok(file) if Inode::of(&file)? == moved.inode => files.push(file),
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(Some(files))
}

/// Recognizes logrotate's names of `base`, without `.gz` or with it.
fn parse(base: &str, name: &str) -> Option<(Age, bool)> {
    let rest = name.strip_prefix(base)?;
    let (rest, compressed) = match rest.strip_suffix(".gz") {
        Some(stem) => (stem, true),
        None => (rest, false),
    };
    let is_digits = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    if let Some(number) = rest.strip_prefix('.') {
        let number = Some(number).filter(|number| is_digits(number, 1..=5))?;
        return Some((Age::Number(Reverse(number.parse().ok()?)), compressed));
    }
    let date = rest.strip_prefix('-')?;
    // `%Y%m%d` and `%Y%m%d%H` are the defaults; some configurations add the seconds since 1970.
    let (day, seconds) = date.split_once('-').unwrap_or((date, "0"));
    let dated = is_digits(day, 8..=10) && is_digits(seconds, 1..=12);
    dated.then(|| (Age::Date(date.to_owned()), compressed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logrotate_names_are_recognized_oldest_first() {
        let directory = tempfile::tempdir().unwrap();
        let mine = [
            "node_log-20261127.gz",
            "node_log-20261128-1795800000",
            "node_log.10.gz",
            "node_log.2.gz",
            "node_log.1",
        ];
        let others = [
            "node_log",
            "node_log.000001-20260101T000000Z",
            "node_log.2.gz.tmp",
            "node_log.old",
            "node_log-1",
            "node_log-20261128.backup",
            "node_log.1.xz",
            "other.1",
            // Compression of this file is under way.
            "node_log.1.gz",
        ];
        for name in mine.iter().chain(&others) {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let listed = list(&directory.path().join("node_log")).unwrap();
        let names: Vec<_> = listed.iter().map(|f| f.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, mine);
        assert_eq!(listed.iter().filter(|file| file.compressed).count(), 3);
    }

    #[test]
    fn renamed_file_is_not_mistaken() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("node_log.1"), "one").unwrap();
        let listed = list(&path("node_log")).unwrap();
        assert_eq!(open_all(&listed).unwrap().unwrap().len(), 1);
        std::fs::rename(path("node_log.1"), path("node_log.2")).unwrap();
        assert!(open_all(&listed).unwrap().is_none());
        std::fs::write(path("node_log.1"), "two").unwrap();
        assert!(open_all(&listed).unwrap().is_none());
    }
}
