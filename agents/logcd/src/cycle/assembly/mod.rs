//! Assembles one archive: writes kept, continued and new entries to a draft.

mod packing;

use crate::archive::block::{self, Block, packed_len, plain_len};
use crate::archive::checksum::Checksum;
use crate::archive::codec::Codec;
use crate::archive::draft::Draft;
use crate::archive::entry::{Entry, EntryLayout, Origin};
use crate::archive::header;
use crate::archive::header::Meta;
use crate::archive::member;
use crate::archive::pack_error::PackError;
use crate::archive::pool::Pool;
use crate::config::Config;
use crate::cycle::comparison::{Comparison, compare};
use crate::cycle::superseded;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::open_logs::OpenLogs;
use crate::logs::scan::{Found, Skip};
use crate::logs::source::{OpenError, Source};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

/// Attempts to read a file that changes during each read.
const ATTEMPTS: u32 = 3;
/// Smaller entries are not worth the padding that lets their blocks be shared.
const ALIGNED_FROM_BYTES: u64 = 128 * 1024;
const ALIGNMENT: u64 = 4096;

pub struct Assembly<'a> {
    pub config: &'a Config,
    pub roots: &'a Roots,
    pub draft: Draft<'a>,
    pub pool: Pool,
    pub round: u64,
    /// The suffix for names of superseded content, if any is kept.
    pub suffix: Option<String>,
    pub aligned: bool,
    pub taken: HashSet<Vec<u8>>,
    /// Logs that can be read even after they were deleted.
    pub open: Option<&'a OpenLogs>,
    /// Archived files that were renamed to names that do not match.
    pub moved: HashMap<(u64, u64), Found>,
    /// Called with the number of bytes compressed so far.
    pub progress: &'a dyn Fn(u64),
    pub entries: Vec<Entry>,
    pub sum: Checksum,
    pub skipped: BTreeMap<Vec<u8>, Skip>,
    pub compressed: u64,
    pub superseded: u64,
    zeros: Vec<u8>,
}

/// The result of reading a file once.
enum Read {
    Done,
    /// The file changed while it was read.
    Changed,
    OpenError(OpenError),
}

impl<'a> Assembly<'a> {
    pub fn new(
        config: &'a Config,
        roots: &'a Roots,
        draft: Draft<'a>,
        round: u64,
    ) -> Result<Assembly<'a>, PackError> {
        Ok(Assembly {
            config,
            roots,
            draft,
            pool: Pool::new(&config.packing)?,
            round,
            suffix: None,
            aligned: false,
            taken: HashSet::new(),
            open: None,
            moved: HashMap::new(),
            progress: &|_| {},
            entries: Vec::new(),
            sum: Checksum::default(),
            skipped: BTreeMap::new(),
            compressed: 0,
            superseded: 0,
            zeros: Vec::new(),
        })
    }

    fn codec(&self) -> Codec {
        self.config.packing.codec
    }

    /// Copies all blocks of an entry under the given name and header.
    pub fn carry(
        &mut self,
        old: &Entry,
        name: &[u8],
        origin: Origin,
        meta: Meta,
    ) -> Result<(), ArchiveError> {
        let header = header::encode(&self.member(name), &meta, old.size());
        let (start, whole) = (self.draft.at(), Checksum::of(&header) == old.layout.header && !self.aligned);
        let layout = if whole {
            self.draft.copy(old.layout.offset, old.packed_len())?;
            EntryLayout { offset: start, ..old.layout }
        } else {
            let mut layout = self.begin(&header, packed_len(&old.blocks))?;
            self.draft.copy(old.blocks_offset(), packed_len(&old.blocks))?;
            layout.padding_packed_len = self.end(old.size())?;
            layout
        };
        self.push(Entry { name: name.to_vec(), origin, meta, layout, blocks: old.blocks.clone() });
        Ok(())
    }

    /// Keeps content that a file no longer holds, if superseded content is kept at all. Bytes that were
    /// written to the file since the last cycle are kept too if the file is held open or was renamed.
    pub fn supersede(&mut self, old: &Entry) -> Result<(), ArchiveError> {
        let Some(suffix) = self.suffix.clone() else { return Ok(()) };
        let name = superseded::name(&old.name, &suffix, &self.taken);
        if let Some(source) = self.source_of_lost(old).filter(|source| source.look.stamp.size > old.size()) {
            let start = self.draft.at();
            if matches!(self.read_source(&source, &name, Origin::Superseded, Some(old))?, Read::Done) {
                self.superseded += 1;
                return Ok(());
            }
            self.draft.rewind(start)?;
        }
        if old.size() > 0 {
            self.superseded += 1;
            self.carry(old, &name, Origin::Superseded, old.meta)?;
        }
        Ok(())
    }

    /// Writes the entry of a file. Even if the file changes meanwhile, the entry is one state of it.
    pub fn live(&mut self, found: &Found, old: Option<&Entry>) -> Result<(), ArchiveError> {
        let (start, count, sum) = (self.draft.at(), self.entries.len(), self.sum);
        let superseded = self.superseded;
        let mut reason = Skip::Unstable;
        for _ in 0..ATTEMPTS {
            let read = self.read(found, old)?;
            if matches!(read, Read::Done) {
                return Ok(());
            }
            self.draft.rewind(start)?;
            for entry in self.entries.drain(count..) {
                self.taken.remove(&entry.name);
            }
            (self.sum, self.superseded) = (sum, superseded);
            match read {
                Read::Done | Read::Changed => {}
                Read::OpenError(OpenError::Gone) => return old.map_or(Ok(()), |old| self.supersede(old)),
                Read::OpenError(OpenError::Skip(skip)) => {
                    reason = skip;
                    break;
                }
            }
        }
        self.skipped.insert(found.name.clone(), reason);
        match old {
            // The archived content stays; the stamp still shows that there is more to read.
            Some(old) if matches!(reason, Skip::Unstable | Skip::Unreadable) => {
                self.carry(old, &old.name, old.origin, old.meta)
            }
            Some(old) => self.supersede(old),
            None => Ok(()),
        }
    }

    /// Opens the file of an entry that lost its name.
    fn source_of_lost(&self, old: &Entry) -> Option<Source> {
        let stamp = old.stamp()?;
        let id = (stamp.dev, stamp.ino);
        let open = self.open.and_then(|open| open.get(id)).and_then(|file| Source::of(file).ok());
        open.or_else(|| Source::open(self.roots, self.moved.get(&id)?, self.config.select.hard_links).ok())
    }

    fn read(&mut self, found: &Found, old: Option<&Entry>) -> Result<Read, ArchiveError> {
        let untouched =
            |old: &&Entry| old.name == found.name && compare(old, &found.stamp) == Comparison::Same;
        if let Some(old) = old.filter(untouched) {
            self.carry(old, &found.name, Origin::Live(found.stamp), old.meta)?;
            return Ok(Read::Done);
        }
        match Source::open(self.roots, found, self.config.select.hard_links) {
            Ok(source) => self.read_source(&source, &found.name, Origin::Live(source.look.stamp), old),
            Err(closed) => Ok(Read::OpenError(closed)),
        }
    }

    /// Writes an entry that continues the old one with the file's new bytes.
    fn read_source(
        &mut self,
        source: &Source,
        name: &[u8],
        origin: Origin,
        old: Option<&Entry>,
    ) -> Result<Read, ArchiveError> {
        let unreadable = Read::OpenError(OpenError::Skip(Skip::Unreadable));
        let (stamp, meta) = (source.look.stamp, source.look.meta);
        let Ok(matched) = self.matching(source, old) else { return Ok(unreadable) };
        let mut blocks: Vec<Block> = Vec::new();
        let mut kept_at = 0;
        if let Some(old) = old {
            kept_at = old.blocks_offset();
            blocks.extend(&old.blocks[..matched]);
            if matched < old.blocks.len() && origin == Origin::Superseded {
                return Ok(Read::Changed);
            } else if matched < old.blocks.len() {
                self.supersede(old)?;
            } else if stamp.size == old.size() {
                self.carry(old, name, origin, meta)?;
                return Ok(Read::Done);
            }
        }
        let cut = self.codec().block_sizes();
        let kept = block::kept_after_append(&cut, &blocks, stamp.size - plain_len(&blocks));
        let first = block::first_of_last(cut.dictionary_bytes_max, &blocks, kept);
        let dictionary = match source.read_blocks(&blocks, first, kept) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Read::Changed),
            Err(_) => return Ok(unreadable),
        };
        blocks.truncate(kept);
        let header = header::encode(&self.member(name), &meta, stamp.size);
        let mut layout = self.begin(&header, packed_len(&blocks).max(stamp.size / 6))?;
        if !blocks.is_empty() {
            self.draft.copy(kept_at, packed_len(&blocks))?;
        }
        match self.pack_all(&mut &*source, stamp.size, &mut blocks, &dictionary)? {
            Ok(true) => {}
            Ok(false) => return Ok(Read::Changed),
            Err(_) => return Ok(unreadable),
        }
        if !self.is_one_state(source, &blocks, kept) {
            return Ok(Read::Changed);
        }
        layout.padding_packed_len = self.end(stamp.size)?;
        self.push(Entry { name: name.to_vec(), origin, meta, layout, blocks });
        Ok(Read::Done)
    }

    /// Counts the blocks of the old entry that the file still holds.
    fn matching(&self, source: &Source, old: Option<&Entry>) -> io::Result<usize> {
        let Some(old) = old else { return Ok(0) };
        let mut buffer = Vec::new();
        let all = match compare(old, &source.look.stamp) {
            Comparison::Same => true,
            Comparison::Grown => source.ends_match(&old.blocks, &mut buffer)?,
            Comparison::Doubtful => false,
        };
        if all { Ok(old.blocks.len()) } else { source.matching(&old.blocks, &mut buffer) }
    }

    /// Removes the last entry if one of the `carried` ones has this name and the same content.
    pub fn drop_if_carried(&mut self, carried: usize, name: &[u8]) -> Result<(), ArchiveError> {
        let Some(last) = self.entries.last() else { return Ok(()) };
        let repeated = |entry: &Entry| entry.name == name && entry.content() == last.content();
        if self.entries.len() > carried && self.entries[..carried].iter().any(repeated) {
            self.draft.rewind(last.layout.offset)?;
            if let Some(last) = self.entries.pop() {
                self.taken.remove(&last.name);
            }
            self.sum = self.entries.iter().fold(Checksum::default(), |sum, entry| sum.then(entry.sum()));
        }
        Ok(())
    }

    /// Detects a file that was rewritten while it was read, which would make an entry of two halves: its
    /// first or last block differs now.
    fn is_one_state(&self, source: &Source, blocks: &[Block], kept: usize) -> bool {
        let Ok(now) = source.look_again() else { return false };
        let (before, now) = (source.look.stamp, now.stamp);
        let untouched = (before.size, before.mtime, before.ctime) == (now.size, now.mtime, now.ctime);
        untouched && !before.racy
            || now.size >= before.size
                && source.samples_match(blocks, kept, self.round, &mut Vec::new()).unwrap_or(false)
    }

    fn member(&self, name: &[u8]) -> Vec<u8> {
        member::path(&self.config.prefix, name)
    }

    /// Writes the header. If files can share disk blocks, the blocks after it begin on a disk block.
    fn begin(&mut self, header: &[u8], blocks_packed_len: u64) -> Result<EntryLayout, ArchiveError> {
        let offset = self.draft.at();
        let mut packed = Vec::new();
        self.pool.own().pack(&[], header, &mut packed)?;
        if self.aligned && blocks_packed_len >= ALIGNED_FROM_BYTES {
            let end = offset + (packed.len() + self.codec().padding_min()) as u64;
            let padding = end.next_multiple_of(ALIGNMENT) - offset - packed.len() as u64;
            self.codec().pad(usize::try_from(padding).unwrap_or(0), &mut packed);
        }
        self.draft.write(&packed)?;
        let header_packed_len = u32::try_from(packed.len()).map_err(|_| PackError::too_long())?;
        Ok(EntryLayout { offset, header_packed_len, header: Checksum::of(header), padding_packed_len: 0 })
    }

    /// Writes the zeros after the content and returns their compressed length.
    fn end(&mut self, size: u64) -> Result<u32, ArchiveError> {
        let padding = usize::try_from(header::padding_len(size)).unwrap_or(0);
        let mut packed = Vec::new();
        if padding > 0 {
            self.pool.own().pack(&[], &[0; 512][..padding], &mut packed)?;
        }
        self.draft.write(&packed)?;
        u32::try_from(packed.len()).map_err(|_| PackError::too_long().into())
    }

    fn push(&mut self, entry: Entry) {
        self.sum = self.sum.then(entry.sum());
        self.taken.insert(entry.name.clone());
        self.entries.push(entry);
    }
}
