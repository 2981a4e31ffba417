//! Writes the entries of the next archive to a draft: those that are copied from the base, and those of
//! files.

mod files;
mod packing;

use crate::archive::block::packed_len;
use crate::archive::checksum::Checksum;
use crate::archive::codec::Codec;
use crate::archive::draft::Draft;
use crate::archive::entry::{Entry, EntryLayout, Origin};
use crate::archive::header::{self, Meta};
use crate::archive::member;
use crate::archive::pack_error::PackError;
use crate::archive::pool::Pool;
use crate::config::Config;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::open_logs::OpenLogs;
use crate::logs::scanned_file::ScannedFile;
use crate::logs::skip::Skip;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Smaller entries are not aligned: the padding costs more than sharing their blocks saves.
const ALIGNED_FROM_BYTES: u64 = 128 * 1024;
const ALIGNMENT: u64 = 4096;

pub struct Assembly<'a> {
    pub config: &'a Config,
    pub roots: &'a Roots,
    pub draft: Draft<'a>,
    pub pool: Pool,
    pub round: u64,
    /// The suffix for names of superseded content; `None` if it is not kept.
    pub suffix: Option<String>,
    pub aligned: bool,
    pub taken: HashSet<Vec<u8>>,
    /// Logs that can be read even after they were deleted.
    pub open: Option<&'a OpenLogs>,
    /// Archived files that were renamed to names that do not match.
    pub moved: HashMap<(u64, u64), ScannedFile>,
    /// Called with the number of bytes compressed so far.
    pub progress: &'a dyn Fn(u64),
    pub entries: Vec<Entry>,
    pub sum: Checksum,
    pub skipped: BTreeMap<Vec<u8>, Skip>,
    pub compressed: u64,
    pub superseded: u64,
    zeros: Vec<u8>,
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

    fn member(&self, name: &[u8]) -> Vec<u8> {
        member::path(&self.config.prefix, name)
    }

    /// Writes the header. If files can share disk blocks, the next byte begins a disk block.
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
