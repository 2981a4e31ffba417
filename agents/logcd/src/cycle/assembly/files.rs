//! Writes the entry of one file: opens the file, lets the plan decide about it, and carries the decision out.

use super::Assembly;
use crate::archive::block::{self, Block, packed_len};
use crate::archive::checksum::Checksum;
use crate::archive::entry::{Entry, Origin};
use crate::archive::header;
use crate::cycle::comparison::{Comparison, compare};
use crate::cycle::plan::FileAction;
use crate::cycle::superseded;
use crate::error::ArchiveError;
use crate::logs::log_file::{LogFile, OpenError};
use crate::logs::scanned_file::ScannedFile;
use crate::logs::skip::Skip;
use std::io;

/// Attempts to read a file that changes during each read.
const ATTEMPTS: u32 = 3;

/// The result of reading a file once.
enum ReadOutcome {
    Done,
    /// The file changed while it was read.
    Changed,
    Refused(OpenError),
}

const UNREADABLE: ReadOutcome = ReadOutcome::Refused(OpenError::Skip(Skip::Unreadable));

/// The state of the draft before an attempt.
struct Mark {
    at: u64,
    entries: usize,
    sum: Checksum,
    superseded: u64,
}

impl Assembly<'_> {
    /// Writes the entry of a file. Even if the file changes meanwhile, the entry is one state of it.
    pub fn file(&mut self, file: &ScannedFile, entry: Option<&Entry>) -> Result<(), ArchiveError> {
        let mut error = OpenError::Skip(Skip::Unstable);
        for _ in 0..ATTEMPTS {
            let mark = self.mark();
            match self.attempt(file, entry)? {
                ReadOutcome::Done => return Ok(()),
                ReadOutcome::Changed => self.rewind(&mark)?,
                ReadOutcome::Refused(refused) => {
                    self.rewind(&mark)?;
                    error = refused;
                    break;
                }
            }
        }
        let OpenError::Skip(reason) = error else {
            return entry.map_or(Ok(()), |entry| self.supersede(entry));
        };
        self.skipped.insert(file.name.clone(), reason);
        match entry {
            // The archived content stays; the stamp still shows that there is more to read.
            Some(entry) if matches!(reason, Skip::Unstable | Skip::Unreadable) => {
                self.carry(entry, &entry.name, entry.origin, entry.meta)
            }
            Some(entry) => self.supersede(entry),
            None => Ok(()),
        }
    }

    /// Keeps content that a file no longer holds, if superseded content is kept at all. If the file is held
    /// open or was renamed, bytes that were written to it since the last cycle are kept too.
    pub fn supersede(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let Some(suffix) = &self.suffix else { return Ok(()) };
        let name = superseded::name(&entry.name, suffix, &self.taken);
        if let Some(log) = self.lost_log(entry).filter(|log| log.status.stamp.size > entry.size()) {
            let mark = self.mark();
            if let Ok(FileAction::Continue { kept, .. }) = self.action(&log, Some(entry))
                && matches!(
                    self.read(&log, &name, Origin::Superseded, Some((entry, kept)))?,
                    ReadOutcome::Done
                )
            {
                self.superseded += 1;
                return Ok(());
            }
            self.rewind(&mark)?;
        }
        if entry.size() > 0 {
            self.superseded += 1;
            self.carry(entry, &name, Origin::Superseded, entry.meta)?;
        }
        Ok(())
    }

    /// Opens the file of an entry, although the file has lost its name.
    fn lost_log(&self, entry: &Entry) -> Option<LogFile> {
        let id = entry.stamp()?.id();
        let open = self.open.and_then(|open| open.get(id)).and_then(|file| LogFile::of(file).ok());
        open.or_else(|| LogFile::open(self.roots, self.moved.get(&id)?, self.config.select.hard_links).ok())
    }

    fn attempt(&mut self, file: &ScannedFile, entry: Option<&Entry>) -> Result<ReadOutcome, ArchiveError> {
        let log = match LogFile::open(self.roots, file, self.config.select.hard_links) {
            Ok(log) => log,
            Err(refused) => return Ok(ReadOutcome::Refused(refused)),
        };
        let (name, origin) = (&file.name, Origin::Live(log.status.stamp));
        match self.action(&log, entry) {
            Err(_) => Ok(UNREADABLE),
            Ok(FileAction::Create) => self.read(&log, name, origin, None),
            Ok(FileAction::Continue { entry, kept }) => self.read(&log, name, origin, Some((entry, kept))),
            Ok(FileAction::Rewrite { entry, kept }) => {
                self.supersede(entry)?;
                self.read(&log, name, origin, Some((entry, kept)))
            }
            Ok(FileAction::Carry(entry)) => {
                self.carry(entry, name, origin, log.status.meta)?;
                Ok(ReadOutcome::Done)
            }
        }
    }

    /// Compares the opened file with its entry where the stamp alone does not show the file's content.
    fn action<'e>(&self, log: &LogFile, entry: Option<&'e Entry>) -> io::Result<FileAction<'e>> {
        let (stamp, mut buffer) = (&log.status.stamp, Vec::new());
        let matching = match entry {
            None => 0,
            Some(entry) => {
                let all = match compare(entry, stamp) {
                    Comparison::Same => true,
                    Comparison::Grown => log.ends_match(&entry.blocks, &mut buffer)?,
                    Comparison::Doubtful => false,
                };
                if all { entry.blocks.len() } else { log.matching(&entry.blocks, &mut buffer)? }
            }
        };
        Ok(FileAction::decide(entry, matching, stamp.size, &self.codec().block_sizes()))
    }

    /// Writes an entry that begins with the first blocks of an old entry and ends with bytes of the file.
    fn read(
        &mut self,
        log: &LogFile,
        name: &[u8],
        origin: Origin,
        kept: Option<(&Entry, usize)>,
    ) -> Result<ReadOutcome, ArchiveError> {
        let (size, meta) = (log.status.stamp.size, log.status.meta);
        let (kept_at, mut blocks) = kept
            .map_or((0, Vec::new()), |(entry, kept)| (entry.blocks_offset(), entry.blocks[..kept].to_vec()));
        let kept = blocks.len();
        let dictionary_bytes_max = self.codec().block_sizes().dictionary_bytes_max;
        let first = block::first_of_last(dictionary_bytes_max, &blocks, kept);
        let dictionary = match log.read_blocks(&blocks, first, kept) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(ReadOutcome::Changed),
            Err(_) => return Ok(UNREADABLE),
        };
        let header = header::encode(&self.member(name), &meta, size);
        let mut layout = self.begin(&header, packed_len(&blocks).max(size / 6))?;
        if !blocks.is_empty() {
            self.draft.copy(kept_at, packed_len(&blocks))?;
        }
        match self.pack_all(&mut &*log, size, &mut blocks, &dictionary)? {
            Ok(true) => {}
            Ok(false) => return Ok(ReadOutcome::Changed),
            Err(_) => return Ok(UNREADABLE),
        }
        if !self.is_one_state(log, &blocks, kept) {
            return Ok(ReadOutcome::Changed);
        }
        layout.padding_packed_len = self.end(size)?;
        self.push(Entry { name: name.to_vec(), origin, meta, layout, blocks });
        Ok(ReadOutcome::Done)
    }

    /// True unless the file was rewritten while it was read, which would mix two states in one entry. A
    /// rewrite changes the stamp, or the first or last block.
    fn is_one_state(&self, log: &LogFile, blocks: &[Block], kept: usize) -> bool {
        let Ok(now) = log.status_now() else { return false };
        let (before, now) = (log.status.stamp, now.stamp);
        let untouched = (before.size, before.mtime, before.ctime) == (now.size, now.mtime, now.ctime);
        untouched && !before.racy
            || now.size >= before.size
                && log.samples_match(blocks, kept, self.round, &mut Vec::new()).unwrap_or(false)
    }

    fn mark(&self) -> Mark {
        let (at, entries) = (self.draft.at(), self.entries.len());
        Mark { at, entries, sum: self.sum, superseded: self.superseded }
    }

    /// Removes everything that was written since the mark.
    fn rewind(&mut self, mark: &Mark) -> Result<(), ArchiveError> {
        self.draft.rewind(mark.at)?;
        for entry in self.entries.drain(mark.entries..) {
            self.taken.remove(&entry.name);
        }
        (self.sum, self.superseded) = (mark.sum, mark.superseded);
        Ok(())
    }
}
