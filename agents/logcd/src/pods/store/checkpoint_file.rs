//! The file of the checkpoint: a whole checkpoint in the first line, then a line with the changes of each later
//! commit.
//!
//! A commit costs as much as has changed. The file is replaced when its changes have grown larger than the
//! whole. Each commit is synced before the next one, so only the last line can be torn by a crash. It is
//! ignored: its commit has not happened. A file without changes is what earlier versions wrote.

use super::checkpoint_change::CheckpointChange;
use crate::error::ArchiveError;
use crate::pods::cursor::Checkpoint;
use crate::safe_dir::{SafeDir, status_at, status_of};
use kit::disk::sync::still_takes_changes;
use nix::fcntl::renameat;
use nix::unistd::fsync;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub const CHECKPOINT: &str = ".logcd-pods.checkpoint";
/// Changes of this size never cause a new file. A small checkpoint would be replaced too often.
const CHANGES_BYTES_MIN: u64 = 64 * 1024;

/// A file of this process, to which changes can be appended.
struct Appendable {
    file: File,
    whole_bytes: u64,
    changes_bytes: u64,
}

/// Shows if the last commit would survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    Synced,
    /// A line was appended, and is not synced.
    Appended,
    /// The file was replaced, and the directory is not synced.
    Replaced,
    /// A sync has failed. Another one may succeed although the line is not on the disk, so the file must be
    /// replaced.
    Doubtful,
}

/// The checkpoint file of the daemon that holds the lock.
pub struct CheckpointFile {
    mode: u32,
    /// The checkpoint of the last commit.
    last: Checkpoint,
    /// `None` if the next commit must replace the file, because its end may be torn.
    appendable: Option<Appendable>,
    durability: Durability,
}

impl CheckpointFile {
    /// Prepares the file for commits. The first one replaces it.
    pub fn new(mode: u32) -> CheckpointFile {
        let durability = Durability::Synced;
        CheckpointFile { mode, last: Checkpoint::default(), appendable: None, durability }
    }

    /// Writes the checkpoint of a commit. After an error, the commit has not happened. Otherwise it has, and
    /// the caller must call [`CheckpointFile::sync`] before the next commit.
    pub fn commit(&mut self, at: &SafeDir, checkpoint: Checkpoint) -> Result<(), ArchiveError> {
        let line = line_of(&CheckpointChange::between(&self.last, &checkpoint)).map_err(failed(at))?;
        match self.appendable.take().filter(|own| own.takes(line.len()) && own.has_its_name(at)) {
            Some(mut own) => {
                // After an error, the line has no end. No other line may follow it.
                own.file.write_all(&line).map_err(failed(at))?;
                own.changes_bytes += line.len() as u64;
                self.appendable = Some(own);
                self.durability = Durability::Appended;
            }
            None => {
                self.appendable = Some(replace(at, self.mode, &checkpoint)?);
                self.durability = Durability::Replaced;
            }
        }
        self.last = checkpoint;
        Ok(())
    }

    /// Makes the last commit durable. May be retried after an error. `lock` is a file in the directory that
    /// does not grow.
    pub fn sync(&mut self, at: &SafeDir, lock: &File) -> Result<(), ArchiveError> {
        if self.durability == Durability::Appended {
            let file = self.appendable.as_ref().map(|own| &own.file);
            let synced =
                file.map_or(Ok(()), |file| file.sync_data().and_then(|()| still_takes_changes(file)));
            self.durability = if synced.is_ok() { Durability::Synced } else { Durability::Doubtful };
            return synced.map_err(ArchiveError::on("sync", &at.path().join(CHECKPOINT)));
        }
        if self.durability == Durability::Doubtful {
            self.appendable = Some(replace(at, self.mode, &self.last)?);
            self.durability = Durability::Replaced;
        }
        if self.durability == Durability::Replaced {
            sync_names(at, lock)?;
            self.durability = Durability::Synced;
        }
        Ok(())
    }
}

impl Appendable {
    fn takes(&self, bytes: usize) -> bool {
        self.changes_bytes + bytes as u64 <= self.whole_bytes.max(CHANGES_BYTES_MIN)
    }

    /// True unless the file was removed or replaced.
    fn has_its_name(&self, at: &SafeDir) -> bool {
        let found = status_at(at.fd(), OsStr::new(CHECKPOINT));
        found.is_ok_and(|found| status_of(&self.file).is_ok_and(|own| own.stamp.id() == found.stamp.id()))
    }
}

fn failed(at: &SafeDir) -> impl Fn(io::Error) -> ArchiveError {
    let path = at.path().join(CHECKPOINT);
    move |error| ArchiveError::on("write", &path)(error)
}

/// Writes a new file and gives it the name. The caller must sync the directory.
fn replace(at: &SafeDir, mode: u32, checkpoint: &Checkpoint) -> Result<Appendable, ArchiveError> {
    let name = format!("{CHECKPOINT}.draft");
    let mut bytes = serde_json::to_vec(checkpoint).map_err(|error| failed(at)(error.into()))?;
    bytes.push(b'\n');
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode).custom_flags(nix::libc::O_NOFOLLOW);
    let write = |mut file: File| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        renameat(at.fd(), name.as_str(), at.fd(), CHECKPOINT)?;
        Ok(file)
    };
    let file = options.open(at.path().join(&name)).and_then(write).map_err(failed(at))?;
    Ok(Appendable { file, whole_bytes: bytes.len() as u64, changes_bytes: 0 })
}

/// Returns a line with its checksum in front.
fn line_of(change: &CheckpointChange) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(change)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// Reads a line; `None` if it is torn or damaged. A whole line of another version is an error.
fn change_in(line: &[u8]) -> serde_json::Result<Option<CheckpointChange>> {
    let Some((crc, json)) = line.strip_suffix(b"\n").and_then(|line| line.split_at_checked(9)) else {
        return Ok(None);
    };
    let crc = std::str::from_utf8(crc).ok().and_then(|crc| u32::from_str_radix(crc.trim_end(), 16).ok());
    (crc == Some(crc32fast::hash(json))).then(|| serde_json::from_slice(json)).transpose()
}

/// Loads the checkpoint, if there is one, and makes it durable. Renames a damaged one. Only the daemon may do
/// this, because it holds the lock.
pub fn load_or_set_aside(at: &SafeDir, lock: &File) -> Result<Option<Checkpoint>, ArchiveError> {
    match load(at.path()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => set_aside(at.path(), &error),
        loaded => {
            let loaded = loaded.map_err(ArchiveError::on("read", &at.path().join(CHECKPOINT)))?;
            if loaded.is_some() {
                // The earlier process may have been killed before it synced the last commit. Logs of that
                // commit may be gone by the next one.
                File::open(at.path().join(CHECKPOINT))
                    .and_then(|file| file.sync_all())
                    .map_err(ArchiveError::on("sync", &at.path().join(CHECKPOINT)))?;
                sync_names(at, lock)?;
            }
            Ok(loaded)
        }
    }
}

/// Makes the names in the directory durable. `lock` is a file in it that does not grow.
fn sync_names(at: &SafeDir, lock: &File) -> Result<(), ArchiveError> {
    fsync(at.fd())
        .map_err(io::Error::from)
        .and_then(|()| still_takes_changes(lock))
        .map_err(ArchiveError::on("sync the directory", at.path()))
}

/// Loads the checkpoint, if there is one. The error for a damaged one is [`io::ErrorKind::InvalidData`].
pub fn load(out: &Path) -> io::Result<Option<Checkpoint>> {
    match std::fs::read(out.join(CHECKPOINT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => parse(&read?).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    let mut lines = bytes.split_inclusive(|b| *b == b'\n');
    let whole = lines.next().unwrap_or_default();
    let mut checkpoint: Checkpoint = serde_json::from_slice(whole).map_err(|error| error.to_string())?;
    let mut is_torn = false;
    for (number, line) in (2..).zip(lines) {
        match change_in(line).map_err(|error| format!("line {number}: {error}"))? {
            // No crash leaves a whole line after a torn one.
            Some(_) if is_torn => return Err(format!("a line before line {number} is damaged")),
            Some(change) => change.apply_to(&mut checkpoint),
            None => is_torn = true,
        }
    }
    Ok(checkpoint)
}

fn set_aside(out: &Path, error: &io::Error) -> Result<Option<Checkpoint>, ArchiveError> {
    let path = out.join(CHECKPOINT);
    tracing::error!(event = "checkpoint_damaged", path = %path.display(), %error, "the checkpoint is damaged: logs that are archived already are archived again");
    let kept = out.join(format!("{CHECKPOINT}.damaged"));
    std::fs::rename(&path, kept).map_err(ArchiveError::on("rename", &path))?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint_change::tests::checkpoints;
    use super::*;
    use crate::pods::cursor::{ArchivedCopy, Cursors};
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    struct Fixture {
        _directory: tempfile::TempDir,
        path: PathBuf,
        at: SafeDir,
        lock: File,
        file: CheckpointFile,
    }

    impl Fixture {
        fn new() -> Fixture {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().canonicalize().unwrap();
            let at = SafeDir::open(&path).unwrap();
            let lock = File::create(path.join("lock")).unwrap();
            Fixture { _directory: directory, path, at, lock, file: CheckpointFile::new(0o600) }
        }

        fn commit(&mut self, checkpoint: &Checkpoint) {
            self.file.commit(&self.at, checkpoint.clone()).unwrap();
            self.file.sync(&self.at, &self.lock).unwrap();
        }

        fn file(&self) -> PathBuf {
            self.path.join(CHECKPOINT)
        }

        fn loaded(&self) -> Checkpoint {
            load(&self.path).unwrap().unwrap()
        }
    }

    proptest! {
        /// A crash may leave any part of the last line.
        #[test]
        fn torn_line_is_a_commit_that_has_not_happened(
            commits in prop::collection::vec(checkpoints(), 1..6), torn in any::<prop::sample::Index>(), is_zeroed: bool,
        ) {
            let mut room = Fixture::new();
            let mut before = (Checkpoint::default(), 0);
            for checkpoint in &commits {
                let bytes = room.file().metadata().map_or(0, |metadata| metadata.len());
                before = (room.file.last.clone(), bytes);
                room.commit(checkpoint);
                prop_assert_eq!(&room.loaded(), checkpoint);
            }
            if commits.len() > 1 {
                let (expected, whole) = before;
                let bytes = std::fs::read(room.file()).unwrap();
                let whole = usize::try_from(whole).unwrap();
                let cut = whole + torn.index(bytes.len() - whole);
                let mut left = bytes[..cut].to_vec();
                if is_zeroed {
                    left.resize(bytes.len(), 0);
                }
                std::fs::write(room.file(), left).unwrap();
                prop_assert_eq!(room.loaded(), expected);
            }
        }
    }

    fn checkpoint(containers: u64, inode: u64) -> Checkpoint {
        let cursors =
            Cursors { logs: Vec::new(), settled: vec![ArchivedCopy { name: "x".repeat(99), inode }] };
        let containers = (0..containers).map(|number| (number.to_string(), cursors.clone())).collect();
        Checkpoint { containers, ..Checkpoint::default() }
    }

    #[test]
    fn few_changes_are_appended_and_many_replace_the_file() {
        let mut room = Fixture::new();
        let mut present = checkpoint(600, 0);
        room.commit(&present);
        let (inode, whole) = room.file().metadata().map(|file| (file.ino(), file.len())).unwrap();
        let other = checkpoint(1, 0).containers["0"].clone();
        let mut appended = 0;
        while room.file().metadata().unwrap().ino() == inode {
            appended += 1;
            assert!(room.file().metadata().unwrap().len() <= 2 * whole);
            present.containers.insert(format!("new {appended}"), other.clone());
            room.commit(&present);
        }
        assert_eq!(room.loaded(), present);
        assert!(appended > 200, "{appended} changes");
    }

    #[test]
    fn damaged_line_before_others_is_reported() {
        let mut room = Fixture::new();
        for inode in 0..3 {
            room.commit(&checkpoint(1, inode));
        }
        let text = std::fs::read_to_string(room.file()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(room.file(), format!("{}\nx{}\n{}\n", lines[0], lines[1], lines[2])).unwrap();
        assert_eq!(load(&room.path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn whole_line_of_another_version_is_reported() {
        let mut room = Fixture::new();
        room.commit(&checkpoint(1, 0));
        let json = br#"{"other":1}"#;
        let line = format!("{:08x} {}\n", crc32fast::hash(json), String::from_utf8_lossy(json));
        let mut file = OpenOptions::new().append(true).open(room.file()).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        assert_eq!(load(&room.path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn removed_or_failed_file_is_replaced() {
        let mut room = Fixture::new();
        room.commit(&checkpoint(1, 0));
        std::fs::remove_file(room.file()).unwrap();
        room.commit(&checkpoint(1, 1));
        assert_eq!(room.loaded(), checkpoint(1, 1));
        // The next line cannot be written.
        room.file.appendable.as_mut().unwrap().file = File::open(room.file()).unwrap();
        assert!(room.file.commit(&room.at, checkpoint(1, 2)).is_err());
        assert_eq!(room.loaded(), checkpoint(1, 1));
        room.commit(&checkpoint(1, 2));
        assert_eq!(room.loaded(), checkpoint(1, 2));
        // The next line is written, but the sync fails.
        room.file.commit(&room.at, checkpoint(1, 3)).unwrap();
        let file = File::open("/dev/null").unwrap();
        let own = std::mem::replace(&mut room.file.appendable.as_mut().unwrap().file, file);
        let inode = own.metadata().unwrap().ino();
        assert!(room.file.sync(&room.at, &room.lock).is_err());
        room.file.sync(&room.at, &room.lock).unwrap();
        assert_ne!(room.file().metadata().unwrap().ino(), inode);
        assert_eq!(room.loaded(), checkpoint(1, 3));
    }

    #[test]
    fn file_of_an_earlier_version_is_read() {
        let room = Fixture::new();
        let old = checkpoint(3, 7);
        std::fs::write(room.file(), serde_json::to_vec(&old).unwrap()).unwrap();
        assert_eq!(room.loaded(), old);
    }
}
