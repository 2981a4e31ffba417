//! Writes the content of an entry: cuts the bytes of a file or stream into blocks that the pool compresses.

use super::Assembly;
use crate::archive::block::{Block, plain_len};
use crate::archive::entry::{Entry, Origin};
use crate::archive::header;
use crate::archive::header::Meta;
use crate::archive::pool::Job;
use crate::error::ArchiveError;
use crate::logs::log_file::LogFile;
use std::io;

impl Assembly<'_> {
    /// Compresses the bytes after `blocks` up to `size`. False if the input ends before that.
    fn pack(
        &mut self,
        from: &mut dyn Bytes,
        size: u64,
        blocks: &mut Vec<Block>,
        dictionary: &[u8],
    ) -> Result<io::Result<bool>, ArchiveError> {
        let cut = self.codec().block_sizes();
        let dictionary_bytes_max = usize::try_from(cut.dictionary_bytes_max).unwrap_or(0);
        let mut carried = dictionary[dictionary.len().saturating_sub(dictionary_bytes_max)..].to_vec();
        let (mut at, mut data_at) = (plain_len(blocks), 0);
        while at < size {
            let len = (size - at).min(cut.block_bytes_max as u64);
            if data_at < at + len {
                data_at = from.next_data(at);
            }
            let mut job = self.pool.job();
            job.bytes.extend_from_slice(&carried);
            job.dictionary_len = carried.len();
            job.bytes.resize(carried.len() + usize::try_from(len).unwrap_or(cut.block_bytes_max), 0);
            if data_at >= at + len && len == cut.block_bytes_max as u64 {
                // A hole: the same compressed block of zeros each time, without a dictionary.
                job.packed.extend_from_slice(self.zeros()?);
                job.ready = true;
            } else {
                match from.fill(at, &mut job.bytes[job.dictionary_len..]) {
                    Ok(read) if read as u64 == len => {}
                    Ok(_) => return Ok(Ok(false)),
                    Err(error) => return Ok(Err(error)),
                }
            }
            carried.clear();
            carried.extend_from_slice(&job.bytes[job.bytes.len().saturating_sub(dictionary_bytes_max)..]);
            at += len;
            if let Some(done) = self.pool.put(job)? {
                self.take(done, blocks)?;
            }
        }
        while let Some(done) = self.pool.take()? {
            self.take(done, blocks)?;
        }
        Ok(Ok(true))
    }

    /// Calls `pack`, and takes its jobs out of the pool if the input could not be read to its end.
    pub(super) fn pack_all(
        &mut self,
        from: &mut dyn Bytes,
        size: u64,
        blocks: &mut Vec<Block>,
        dictionary: &[u8],
    ) -> Result<io::Result<bool>, ArchiveError> {
        let packed = self.pack(from, size, blocks, dictionary);
        while let Some(job) = self.pool.take()? {
            self.pool.give_back(job);
        }
        packed
    }

    /// Writes an entry from a stream that can be read only once. If the stream ends early, returns the reason
    /// and writes no entry.
    pub fn stream(
        &mut self,
        name: &[u8],
        origin: Origin,
        meta: Meta,
        size: u64,
        from: &mut dyn io::Read,
    ) -> Result<Option<String>, ArchiveError> {
        let mut layout = self.begin(&header::encode(&self.member(name), &meta, size), size / 6)?;
        let mut blocks = Vec::new();
        let why = match self.pack_all(&mut Stream(from), size, &mut blocks, &[])? {
            Ok(true) => {
                layout.padding_packed_len = self.end(size)?;
                self.push(Entry { name: name.to_vec(), origin, meta, layout, blocks });
                return Ok(None);
            }
            Ok(false) => "an entry ends early".to_owned(),
            Err(error) => error.to_string(),
        };
        self.draft.rewind(layout.offset)?;
        Ok(Some(why))
    }

    fn take(&mut self, job: Job, blocks: &mut Vec<Block>) -> Result<(), ArchiveError> {
        let block = job.block()?;
        self.draft.write(&job.packed)?;
        self.compressed += u64::from(block.plain_len);
        (self.progress)(self.compressed);
        blocks.push(block);
        self.pool.give_back(job);
        Ok(())
    }

    fn zeros(&mut self) -> Result<&[u8], ArchiveError> {
        if self.zeros.is_empty() {
            let block = vec![0; self.codec().block_sizes().block_bytes_max];
            self.pool.own().pack(&[], &block, &mut self.zeros)?;
        }
        Ok(&self.zeros)
    }
}

/// The input that is cut into blocks.
pub(super) trait Bytes {
    /// Returns the offset of the next byte that may not be zero.
    fn next_data(&self, at: u64) -> u64;
    /// Fills the buffer from `at`, with less at the end of the input.
    fn fill(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Bytes for &LogFile {
    fn next_data(&self, at: u64) -> u64 {
        LogFile::next_data(self, at)
    }

    fn fill(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(at, buffer)
    }
}

/// A stream, read once from front to end.
struct Stream<'a>(&'a mut dyn io::Read);

impl Bytes for Stream<'_> {
    fn next_data(&self, at: u64) -> u64 {
        at
    }

    fn fill(&mut self, _at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
