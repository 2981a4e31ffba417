//! The index next to an archive lists its blocks. It is a cache: if anything is wrong with it, decoding fails
//! and the archive itself is read instead.

mod format;

use crate::archive::checksum::Checksum;
use crate::archive::codec::Codec;
use crate::archive::entry::Entry;
use crate::archive::file_stamp::FileTime;
use crate::safe_dir::{FileStatus, status_of};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The archive that an index describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveIdentity {
    pub ino: u64,
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
    /// The sum of the whole uncompressed content, as in the trailer.
    pub sum: Checksum,
}

/// An archive's identity and its entries, in archive order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The kind of the archive.
    pub codec: Codec,
    pub identity: ArchiveIdentity,
    /// The path in the archive of the first log directory.
    pub prefix: Vec<u8>,
    pub entries: Vec<Entry>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IndexError {
    #[error("it is not an index of this version")]
    Foreign,
    #[error("it ends early")]
    Torn,
    #[error("its checksum is wrong")]
    Damaged,
    #[error("it is inconsistent: {0}")]
    Incoherent(&'static str),
}

impl Index {
    /// True if the file system and the trailer say that an opened archive is the one of this index.
    pub fn describes(&self, archive: &File) -> bool {
        let identity = &self.identity;
        let Ok(FileStatus { stamp, .. }) = status_of(archive) else { return false };
        let times = (identity.mtime, identity.ctime) == (stamp.mtime, stamp.ctime);
        times && (identity.ino, identity.size) == (stamp.ino, stamp.size) && self.has_trailer(archive)
    }

    pub fn has_trailer(&self, archive: &File) -> bool {
        let expected = self.codec.trailer(self.identity.sum);
        let mut trailer = vec![0; expected.len()];
        let at = self.identity.size.saturating_sub(expected.len() as u64);
        archive.read_exact_at(&mut trailer, at).is_ok() && trailer == expected
    }

    /// Checks that the entries follow each other without gaps and that their sums add up to the archive's
    /// sum.
    fn check(&self) -> Result<(), IndexError> {
        let mut offset = self.codec.preamble().len() as u64;
        let mut sum = Checksum::default();
        for entry in &self.entries {
            if entry.layout.offset != offset {
                return Err(IndexError::Incoherent("an entry does not begin where the previous one ends"));
            }
            offset = offset.saturating_add(entry.packed_len());
            sum = sum.then(entry.sum());
        }
        if offset >= self.identity.size {
            return Err(IndexError::Incoherent("the entries end after the archive"));
        }
        if sum.then(Checksum::of(&[0; 1024])) != self.identity.sum {
            return Err(IndexError::Incoherent("the entries' checksums do not match the archive's"));
        }
        Ok(())
    }
}
