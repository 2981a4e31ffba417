//! The newest archive with its index, and the checks that the index still describes the archive.

use crate::archive::checksum::Checksum;
use crate::archive::codec::Codec;
use crate::archive::entry::Entry;
use crate::archive::header;
use crate::archive::index::{ArchiveIdentity, Index};
use crate::archive::member;
use crate::archive_dir::{ArchiveDir, LockedArchiveDir};
use crate::day::{archive_name, index_name};
use crate::error::ArchiveError;
use crate::safe_dir::{FileStatus, status_of};
use jiff::civil::Date;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// A larger file is not an index, and is not read.
const INDEX_BYTES_MAX: u64 = 1 << 30;
/// Limit on an unpacked header or padding. A header with the longest possible name is far smaller.
const SMALL_BYTES_MAX: usize = 16 * 1024;
/// Before each copy, one in this many blocks of the archive is checked. The next copy checks other blocks.
const SHARE: u64 = 64;
/// Time between two lookups of an index that is about to be published.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// After this time, the index is taken for that of another archive.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);

/// An archive and its index.
#[derive(Clone, Debug)]
pub struct IndexedArchive {
    pub day: Date,
    pub index: Index,
}

/// The result of one look at an index.
enum IndexLookup {
    Fits(IndexedArchive),
    OfAnotherArchive,
    /// There is no index, or the log tells what is wrong with it.
    Unusable,
}

impl IndexLookup {
    fn of(out: &ArchiveDir, day: Date, codec: Codec) -> Result<IndexLookup, ArchiveError> {
        let name = index_name(&archive_name(day, codec));
        let Some((file, status)) = out.open(&name)? else { return Ok(IndexLookup::Unusable) };
        let mut bytes = Vec::new();
        if status.stamp.size > INDEX_BYTES_MAX || file.take(INDEX_BYTES_MAX).read_to_end(&mut bytes).is_err()
        {
            tracing::warn!(
                event = "index_rejected",
                index = name,
                "the index cannot be read; reading the archive instead"
            );
            return Ok(IndexLookup::Unusable);
        }
        let index = match Index::decode(&bytes) {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(
                    event = "index_rejected",
                    index = name,
                    %error,
                    "the index is invalid; reading the archive instead"
                );
                return Ok(IndexLookup::Unusable);
            }
        };
        let mut found = IndexedArchive { day, index };
        match found.index.codec == codec && found.open(out)?.is_some() {
            true => Ok(IndexLookup::Fits(found)),
            false => Ok(IndexLookup::OfAnotherArchive),
        }
    }
}

impl IndexedArchive {
    /// Reads the index of the archive of `day`. Returns `None` unless an index describes it.
    pub fn load(out: &ArchiveDir, day: Date, codec: Codec) -> Result<Option<IndexedArchive>, ArchiveError> {
        match IndexLookup::of(out, day, codec)? {
            IndexLookup::Fits(found) => Ok(Some(found)),
            IndexLookup::OfAnotherArchive => {
                tracing::warn!(
                    event = "index_rejected",
                    index = index_name(&archive_name(day, codec)),
                    "the index describes another archive; reading the archive instead"
                );
                Ok(None)
            }
            IndexLookup::Unusable => Ok(None),
        }
    }

    /// Like `load`, while a cycle may be publishing: a new archive has its index a moment later.
    pub fn load_while_published(
        out: &ArchiveDir,
        day: Date,
        codec: Codec,
    ) -> Result<Option<IndexedArchive>, ArchiveError> {
        let began = Instant::now();
        while began.elapsed() < PUBLISHED_WITHIN {
            match IndexLookup::of(out, day, codec)? {
                IndexLookup::Fits(found) => return Ok(Some(found)),
                IndexLookup::OfAnotherArchive => std::thread::park_timeout(LOOK_AGAIN_AFTER),
                IndexLookup::Unusable => return Ok(None),
            }
        }
        IndexedArchive::load(out, day, codec)
    }

    /// Opens the archive. Returns `None` if the index does not describe it. If the archive was touched
    /// (linked, restored, given another mode), everything in it is compared with the index.
    pub fn open(&mut self, out: &ArchiveDir) -> Result<Option<File>, ArchiveError> {
        let name = self.archive_name();
        let Some((file, FileStatus { stamp, .. })) = out.open(&name)? else { return Ok(None) };
        if self.index.describes(&file) {
            return Ok(Some(file));
        }
        let same = stamp.size == self.index.identity.size
            && self.index.has_trailer(&file)
            && self.holds_everything(&file);
        if !same {
            return Ok(None);
        }
        tracing::info!(
            event = "archive_touched",
            archive = name,
            "the archive's times have changed, but not its content"
        );
        let ArchiveIdentity { size, sum, .. } = self.index.identity;
        self.index.identity =
            ArchiveIdentity { ino: stamp.ino, size, mtime: stamp.mtime, ctime: stamp.ctime, sum };
        Ok(Some(file))
    }

    /// True if the archive has every header, block and padding that the index lists.
    fn holds_everything(&self, archive: &File) -> bool {
        let codec = self.index.codec;
        let mut packed = Vec::new();
        let mut read = |len: u32, at: u64| {
            packed.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
            archive.read_exact_at(&mut packed, at).ok().map(|()| packed.clone())
        };
        self.index.entries.iter().all(|entry| {
            let header = read(entry.layout.header_packed_len, entry.layout.offset);
            let mut at = entry.blocks_offset();
            let blocks = entry.blocks.iter().all(|block| {
                let packed = read(block.packed_len, at);
                at += u64::from(block.packed_len);
                packed.is_some_and(|packed| crc32fast::hash(&packed) == block.packed_crc)
            });
            let zeros = header::padding_len(entry.size());
            let padding = read(entry.layout.padding_packed_len, at);
            blocks
                && header.and_then(|packed| unpacked(codec, &packed)).map(|h| Checksum::of(&h))
                    == Some(entry.layout.header)
                && padding
                    .and_then(|packed| unpacked(codec, &packed))
                    .is_some_and(|padding| padding.len() as u64 == zeros && padding.iter().all(|b| *b == 0))
        })
    }

    /// True if the opened archive has not changed since it was opened.
    pub fn is_unchanged(&self, base: &File) -> bool {
        // The change time may differ: it changes when the archive is unlinked.
        status_of(base).is_ok_and(|status| {
            let identity = self.index.identity;
            (identity.size, identity.mtime) == (status.stamp.size, status.stamp.mtime)
        })
    }

    /// Renames the entries for another prefix, so that their paths in the archive stay the same.
    pub fn name_below(&mut self, prefix: &[u8]) {
        if self.index.prefix == prefix {
            return;
        }
        for entry in &mut self.index.entries {
            entry.name = member::name(prefix, &member::path(&self.index.prefix, &entry.name));
        }
        self.index.prefix = prefix.to_vec();
    }

    /// Checks a share of the blocks, so that damage on the disk is not copied forever. `round` selects them.
    pub fn check_share(&self, base: &File, round: u64) -> Result<(), ArchiveError> {
        let mut buffer = Vec::new();
        let mut number = 0_u64;
        for entry in &self.index.entries {
            let mut offset = entry.blocks_offset();
            for block in &entry.blocks {
                number += 1;
                if number.wrapping_add(round).is_multiple_of(SHARE) {
                    buffer.resize(usize::try_from(block.packed_len).unwrap_or(usize::MAX), 0);
                    let read = base.read_exact_at(&mut buffer, offset);
                    if read.is_err() || crc32fast::hash(&buffer) != block.packed_crc {
                        return Err(ArchiveError::ArchiveDamaged {
                            name: self.archive_name(),
                            why: format!("a block of {} has changed", entry.name.escape_ascii()),
                        });
                    }
                }
                offset += u64::from(block.packed_len);
            }
        }
        Ok(())
    }

    pub fn archive_name(&self) -> String {
        archive_name(self.day, self.index.codec)
    }

    pub fn entries(&self) -> &[Entry] {
        &self.index.entries
    }

    /// Writes the index. It is a cache: a failure only costs time at the next start.
    pub fn save(&self, out: &LockedArchiveDir) -> Result<(), ArchiveError> {
        let name = index_name(&self.archive_name());
        let written = out.draft(&name).and_then(|file| {
            let done = self.index.encode(BufWriter::new(file));
            done.map_err(ArchiveError::doing(format!("write {}", out.path_of(&name))))
        });
        match written.and_then(|()| out.publish(&name)) {
            Ok(()) => Ok(()),
            Err(error) => {
                out.remove(&crate::day::draft_name(&name))?;
                // The old index describes an archive that is gone.
                out.remove(&name)?;
                tracing::warn!(event = "index_write_failed", index = name, %error, "cannot write the index");
                Ok(())
            }
        }
    }
}

/// Decompresses a header or padding, which is small and has no dictionary.
fn unpacked(codec: Codec, packed: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    codec.unpacker().ok()?.unpack(packed, SMALL_BYTES_MAX, &mut plain).ok()?;
    Some(plain)
}
