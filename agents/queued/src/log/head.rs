//! The head: a small file that says which segments a directory must hold, and up to which group.
//!
//! The file has two places that are written alternately, and it keeps its size. A full disk therefore does
//! not prevent a write, and a power loss during a write leaves the other place, which is one change older.
//! Each place:
//!
//! ```text
//! "nodecrew q-head\n" | version u32 | checksum u32 | change u64 | epoch u64 | oldest u32 | newest u32 |
//! group u64
//! ```
//! A segment exists before the head names it as the newest, and is empty until then. A segment is removed
//! only after the head has named its successor as the oldest. There may therefore be one segment more at each
//! end than the head names.

use super::{LogError, if_exists};
use kit::disk::draft::Draft;
use kit::disk::inode::Inode;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"nodecrew q-head\n";
const VERSION: u32 = 1;
/// Size of a place: each has a disk block to itself.
const PLACE_BYTES: usize = 4096;
const PLACES: u64 = 2;
const USED_BYTES: usize = 56;
pub const NAME: &str = "head";

/// The segments and the last group that a directory must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub epoch: u64,
    /// The first segment that is needed.
    pub oldest: u32,
    /// The last segment; 0 before the first.
    pub newest: u32,
    /// The last group that was certainly on the disk.
    pub group: u64,
}

impl Head {
    fn encode(&self, change: u64) -> Vec<u8> {
        let mut fields = Vec::with_capacity(USED_BYTES);
        fields.extend(change.to_le_bytes());
        fields.extend(self.epoch.to_le_bytes());
        fields.extend(self.oldest.to_le_bytes());
        fields.extend(self.newest.to_le_bytes());
        fields.extend(self.group.to_le_bytes());
        let checksum = crc32fast::hash(&fields);
        [&MAGIC[..], &VERSION.to_le_bytes(), &checksum.to_le_bytes(), &fields].concat()
    }

    fn decode(bytes: &[u8]) -> Option<(u64, Head)> {
        let bytes = bytes.get(..USED_BYTES)?;
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let sound = bytes.starts_with(MAGIC)
            && word(16)? == VERSION
            && word(20)? == crc32fast::hash(bytes.get(24..)?);
        let head = Head { epoch: long(32)?, oldest: word(40)?, newest: word(44)?, group: long(48)? };
        sound.then_some((long(24)?, head))
    }

    /// Encodes the whole content of a new file.
    pub fn file(&self) -> Vec<u8> {
        let mut bytes = self.encode(0);
        bytes.resize(PLACE_BYTES * 2, 0);
        bytes
    }

    /// Returns the head in the later of a file's two places, with the number of its change.
    pub fn in_file(bytes: &[u8], path: &Path) -> Result<(u64, Head), LogError> {
        let places = bytes.chunks(PLACE_BYTES).filter_map(Head::decode);
        let later = places.max_by_key(|(change, _)| *change);
        later.ok_or_else(|| LogError::damaged(path, 0, "it is not a valid head"))
    }

    /// Reads the directory's head, if it has one.
    pub fn of(dir: &Path) -> Result<Option<Head>, LogError> {
        let path = path(dir);
        let bytes = if_exists(std::fs::read(&path)).map_err(LogError::io("read", &path))?;
        bytes.map(|bytes| Ok(Head::in_file(&bytes, &path)?.1)).transpose()
    }
}

pub fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The head of the directory that this process writes to.
#[derive(Debug)]
pub struct HeadFile {
    dir: PathBuf,
    /// `None` while the directory has no head, as in version 1.
    file: Option<File>,
    change: u64,
    head: Head,
}

impl HeadFile {
    /// Opens the directory's head, or remembers the contents of a new one.
    pub fn open(dir: &Path, first: Head) -> Result<HeadFile, LogError> {
        let path = path(dir);
        let file = if_exists(OpenOptions::new().read(true).write(true).open(&path));
        let file = file.map_err(LogError::io("open", &path))?;
        let (change, head) = match file {
            None => (0, first),
            Some(_) => Head::in_file(&std::fs::read(&path).map_err(LogError::io("read", &path))?, &path)?,
        };
        Ok(HeadFile { dir: dir.to_owned(), file, change, head })
    }

    pub fn head(&self) -> Head {
        self.head
    }

    /// False if the file was removed, moved or replaced.
    pub fn is_there(&self) -> bool {
        self.file.as_ref().is_none_or(|file| Inode::of(file).ok() == Inode::at(&path(&self.dir)).ok())
    }

    /// Creates the head if it does not exist yet.
    pub fn ensure(&mut self) -> Result<(), LogError> {
        match self.file {
            Some(_) => Ok(()),
            None => self.replace(self.head),
        }
    }

    /// Creates a new file that replaces any head that exists.
    pub fn replace(&mut self, head: Head) -> Result<(), LogError> {
        let path = path(&self.dir);
        let make = || {
            let mut draft = Draft::public(&path)?;
            draft.write_all(&head.file())?;
            let file = draft.file().try_clone()?;
            draft.finish().map(|()| file)
        };
        let file = make().map_err(LogError::io("write", &path))?;
        (self.file, self.head, self.change) = (Some(file), head, 0);
        Ok(())
    }

    /// Names a segment as the newest, durably: a power loss does not undo this.
    pub fn begin(&mut self, newest: u32, group: u64) -> Result<(), LogError> {
        self.write(Head { newest, group: group.max(self.head.group), ..self.head })
    }

    /// Declares the segments before `oldest` as no longer needed, durably: a power loss does not undo this.
    pub fn let_go_before(&mut self, oldest: u32, group: u64) -> Result<(), LogError> {
        self.write(Head { oldest, group: group.max(self.head.group), ..self.head })
    }

    fn write(&mut self, head: Head) -> Result<(), LogError> {
        let Some(file) = &self.file else { return self.replace(head) };
        let change = self.change + 1;
        let at = change % PLACES * PLACE_BYTES as u64;
        let write = || {
            file.write_all_at(&head.encode(change), at)?;
            file.sync_data()
        };
        write().map_err(LogError::io("write", &path(&self.dir)))?;
        (self.head, self.change) = (head, change);
        Ok(())
    }

    /// Prevents backups from starting. `None` while a backup runs, because it needs every existing segment.
    pub fn keep_backups_out(&self) -> Option<NoBackup> {
        let Some(file) = &self.file else { return Some(NoBackup(None)) };
        // Another descriptor of the same lock.
        let file = file.try_clone().ok()?;
        file.try_lock().is_ok().then_some(NoBackup(Some(file)))
    }
}

/// Prevents backups from starting until it is dropped.
#[derive(Debug)]
pub struct NoBackup(Option<File>);

impl Drop for NoBackup {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = file.unlock();
        }
    }
}

/// Held while a backup runs: no segment is removed until it is dropped.
#[derive(Debug)]
pub struct Pin(#[allow(dead_code, reason = "the lock is held as long as the file is open")] File);

impl Pin {
    /// Waits for a removal of a segment that is in progress. `None` in a directory without a head.
    pub fn take(dir: &Path) -> Result<Option<Pin>, LogError> {
        let path = path(dir);
        let file = if_exists(File::open(&path)).map_err(LogError::io("open", &path))?;
        let Some(file) = file else { return Ok(None) };
        file.lock_shared().map_err(LogError::io("lock", &path))?;
        Ok(Some(Pin(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Head = Head { epoch: 7, oldest: 1, newest: 0, group: 0 };

    #[test]
    fn torn_head_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = HeadFile::open(dir.path(), FIRST).unwrap();
        assert_eq!(Head::of(dir.path()).unwrap(), None, "nothing is written before it is asked for");
        file.ensure().unwrap();
        let mut before = Head::of(dir.path()).unwrap().unwrap();
        assert_eq!(before, FIRST);
        for newest in 1..6 {
            file.begin(newest, u64::from(newest) * 10).unwrap();
            file.let_go_before(newest, u64::from(newest) * 10 + 1).unwrap();
            let now = Head::of(dir.path()).unwrap().unwrap();
            assert_eq!((now.oldest, now.newest, now.group), (newest, newest, u64::from(newest) * 10 + 1));
            let sound = std::fs::read(path(dir.path())).unwrap();
            for bit in 0..USED_BYTES * 8 {
                let place = usize::try_from(file.change % PLACES).unwrap() * PLACE_BYTES;
                let mut torn = sound.clone();
                torn[place + bit / 8] ^= 1 << (bit % 8);
                before = Head { newest, group: u64::from(newest) * 10, ..before };
                assert_eq!(Head::in_file(&torn, dir.path()).unwrap().1, before, "bit {bit}");
            }
            before = now;
        }
        let again = HeadFile::open(dir.path(), FIRST).unwrap();
        assert_eq!((again.head, again.change), (file.head, file.change));
    }

    #[test]
    fn a_head_without_a_sound_place_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path()), [0; 8192]).unwrap();
        let error = Head::of(dir.path()).unwrap_err().to_string();
        assert!(error.contains("/head is damaged"), "{error}");
    }

    #[test]
    fn a_backup_and_a_cleaning_keep_each_other_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = HeadFile::open(dir.path(), FIRST).unwrap();
        file.ensure().unwrap();
        let pins = [Pin::take(dir.path()).unwrap().unwrap(), Pin::take(dir.path()).unwrap().unwrap()];
        assert!(file.keep_backups_out().is_none());
        drop(pins);
        assert!(file.keep_backups_out().is_some());
        let _pin = Pin::take(dir.path()).unwrap().unwrap();
    }
}
