//! The file of a segment: its name, its header, and its preparation as a spare.
//!
//! ```text
//! "nodecrew queued\n" | version u32 | nonce u32 | number u32 | checksum u32 | epoch u64 | first group u64
//!   and since version 2 | nonce of the previous segment u32 | checksum of its last group u32
//! ```
//! The last two are 0 in a segment without a predecessor. They reveal a segment that was exchanged. The
//! [`super::head`] says which segments must exist.

use super::LogError;
use kit::disk::draft::Draft;
use kit::disk::sync::sync_name;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The version of new segments; those of version 1 can still be read.
pub const VERSION: u32 = 2;
/// Size of a version 2 header.
pub const HEADER_BYTES: usize = 56;
const HEADER_BYTES_1: usize = 48;
const MAGIC: &[u8; 16] = b"nodecrew queued\n";
/// Size of each write that fills a spare. Larger writes leave pages of up to a megabyte in the page
/// cache, and the sync of a small group then looks through all blocks of such a page. Measured in
/// alternating runs: 143 µs a sync of 128 bytes after writes of 1 MiB, 128 µs after writes of 4 KiB.
const FILL_BYTES: usize = 4 << 10;
/// A spare is synced in steps: a single large sync would delay the pushes' syncs in the disk's queue.
const FILL_SYNC_BYTES: u64 = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u32,
    pub nonce: u32,
    pub number: u32,
    /// The first half of every id.
    pub epoch: u64,
    /// The number of the first group in the segment.
    pub first_group: u64,
    pub previous: Option<End>,
}

/// The end of a segment, which the next one continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The segment's nonce.
    pub nonce: u32,
    /// The checksum of its last group; 0 without one.
    pub checksum: u32,
}

impl Header {
    /// Creates the header of a new segment.
    pub fn new(number: u32, epoch: u64, first_group: u64, previous: Option<End>) -> Header {
        Header { version: VERSION, nonce: fastrand::u32(1..), number, epoch, first_group, previous }
    }

    /// Returns the size of the header: the bytes before the first group.
    pub fn bytes(&self) -> usize {
        if self.version == 1 { HEADER_BYTES_1 } else { HEADER_BYTES }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.extend(MAGIC);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.nonce.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.checksum().to_le_bytes());
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(self.first_group.to_le_bytes());
        if self.version > 1 {
            bytes.extend(self.previous_bytes());
        }
        bytes
    }

    fn previous_bytes(&self) -> Vec<u8> {
        let End { nonce, checksum } = self.previous.unwrap_or_default();
        [nonce.to_le_bytes(), checksum.to_le_bytes()].concat()
    }

    fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.nonce.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&self.epoch.to_le_bytes());
        hasher.update(&self.first_group.to_le_bytes());
        if self.version > 1 {
            hasher.update(&self.version.to_le_bytes());
            hasher.update(&self.previous_bytes());
        }
        hasher.finalize()
    }

    /// Reads a segment's header.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Header, LogError> {
        let damaged = |why: &str| LogError::damaged(path, 0, why);
        if bytes.get(..16) != Some(MAGIC) {
            return Err(damaged("it does not begin with a segment's header"));
        }
        let Some((header, checksum)) = Header::fields(bytes) else {
            return Err(damaged("the header is incomplete"));
        };
        if header.version == 0 || header.version > VERSION {
            return Err(LogError::Version { path: path.to_owned(), version: header.version, known: VERSION });
        }
        if checksum != header.checksum() {
            return Err(damaged("the header's checksum is wrong"));
        }
        Ok(header)
    }

    fn fields(bytes: &[u8]) -> Option<(Header, u32)> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let (version, nonce, number, checksum) = (word(16)?, word(20)?, word(24)?, word(28)?);
        let previous = match version {
            1 => None,
            _ => Some(End { nonce: word(48)?, checksum: word(52)? }).filter(|end| *end != End::default()),
        };
        let (epoch, first_group) = (long(32)?, long(40)?);
        Some((Header { version, nonce, number, epoch, first_group, previous }, checksum))
    }
}

pub fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(name(number))
}

pub fn name(number: u32) -> String {
    format!("{number:010}.log")
}

/// Returns the number of the segment with this file name.
pub fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(".log").filter(|digits| digits.len() == 10)?.parse().ok()
}

/// Returns the path of the spare, which becomes the next segment.
pub fn spare_path(dir: &Path) -> PathBuf {
    dir.join("spare")
}

/// Returns the numbers of a directory's segments, ascending.
pub fn list(dir: &Path) -> Result<Vec<u32>, LogError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(LogError::io("list", dir))? {
        let name = entry.map_err(LogError::io("list", dir))?.file_name();
        numbers.extend(name.to_str().and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes the spare: a file of zeros that are really on the disk.
pub fn make_spare(dir: &Path, bytes: u64) -> io::Result<()> {
    let draft = Draft::public(&spare_path(dir))?;
    // Shows at once if there is enough space, and keeps the blocks together. Not every file system supports
    // it.
    if let Ok(len) = nix::libc::off_t::try_from(bytes) {
        match fallocate(draft.file(), FallocateFlags::empty(), 0, len) {
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    fill(draft.file(), 0, bytes)?;
    draft.finish()
}

/// Writes and syncs zeros.
pub fn fill(file: &File, from: u64, to: u64) -> io::Result<()> {
    let (zeros, mut at) = ([0; FILL_BYTES], from);
    while at < to {
        let now = usize::try_from(to - at).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        file.write_all_at(zeros.get(..now).unwrap_or_default(), at)?;
        at += now as u64;
        if at.is_multiple_of(FILL_SYNC_BYTES) {
            file.sync_data()?;
        }
    }
    file.sync_all()
}

/// True if the spare exists and has the right size.
pub fn has_spare(dir: &Path, bytes: u64) -> bool {
    std::fs::metadata(spare_path(dir)).is_ok_and(|meta| meta.len() == bytes)
}

/// Turns the spare into a segment that survives a power loss. Can be repeated after a failure.
pub fn begin(dir: &Path, header: &Header) -> io::Result<File> {
    let (spare, path) = (spare_path(dir), path(dir, header.number));
    let half_way = path.exists();
    let file = OpenOptions::new().read(true).write(true).open(if half_way { &path } else { &spare })?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()?;
    if !half_way {
        std::fs::rename(spare, path)?;
    }
    sync_name(dir, &file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_header_is_read_back_or_refused() {
        let path = Path::new("/data/0000000002.log");
        let second = Header::new(2, 3, 4, Some(End { nonce: 5, checksum: 0 }));
        for header in [second, Header { version: 1, previous: None, ..second }, Header::new(2, 3, 1, None)] {
            let bytes = header.encode();
            assert_eq!((bytes.len(), Header::decode(&bytes, path).unwrap()), (header.bytes(), header));
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let error = Header::decode(&bad, path).unwrap_err().to_string();
                assert!(error.contains("/data/0000000002.log"), "bit {bit}: {error}");
            }
            assert!(Header::decode(&bytes[..bytes.len() - 1], path).is_err());
        }
    }

    #[test]
    fn a_spare_becomes_a_segment() {
        let dir = tempfile::tempdir().unwrap();
        make_spare(dir.path(), 100_000).unwrap();
        assert!(has_spare(dir.path(), 100_000) && !has_spare(dir.path(), 100_001));
        let header = Header::new(7, 3, 4, None);
        begin(dir.path(), &header).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [7]);
        let bytes = std::fs::read(path(dir.path(), 7)).unwrap();
        assert_eq!((bytes.len(), Header::decode(&bytes, dir.path()).unwrap()), (100_000, header));
    }
}
