//! An archive opened for reading, with its index if one fits.

use crate::archive::block::Block;
use crate::archive::codec::{Codec, Unpacker};
use crate::archive::decoder::Decoder;
use crate::archive::entry::Entry;
use crate::archive::index::Index;
use crate::day::index_name;
use kit::exit::{Exit, Fatal};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tar::Archive;

const BUFFER_BYTES: usize = 128 * 1024;

pub struct ArchiveReader {
    pub file: File,
    pub path: PathBuf,
    pub index: Option<Index>,
}

/// The tar in the archive, as a stream.
pub type TarStream<'a> = Archive<Decoder<BufReader<&'a File>>>;

impl ArchiveReader {
    pub fn open(path: &Path) -> Result<ArchiveReader, Fatal> {
        let cannot =
            |e| Fatal::new(Exit::Failure, format!("cannot open the archive {}", path.display())).because(e);
        let file = File::open(path).map_err(cannot)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(path.with_file_name(index_name(&name))).unwrap_or_default();
        let index = Index::decode(&bytes).ok().filter(|index| index.describes(&file));
        Ok(ArchiveReader { file, path: path.to_owned(), index })
    }

    pub fn stream(&self) -> Result<TarStream<'_>, Fatal> {
        let decoder = Decoder::new(BufReader::with_capacity(BUFFER_BYTES, &self.file));
        Ok(Archive::new(decoder.map_err(self.failed())?))
    }

    /// Returns a function for `map_err` that reports a failure to read the archive further.
    pub fn failed(&self) -> impl Fn(io::Error) -> Fatal {
        let path = self.path.display().to_string();
        move |error| match error.kind() {
            // The reader of our output has closed the pipe.
            io::ErrorKind::BrokenPipe => Fatal::new(Exit::Ok, ""),
            _ => Fatal::new(Exit::Failure, format!("cannot read {path} to its end")).because(error),
        }
    }

    /// Decompresses one entry, block by block, from the offset in the index; nothing else is read.
    pub fn copy_entry(&self, entry: &Entry, to: &mut dyn Write) -> io::Result<()> {
        let mut unpacker = self.index.as_ref().map_or_else(Codec::default, |index| index.codec).unpacker()?;
        let (mut packed, mut plain) = (Vec::new(), Vec::new());
        let mut offset = entry.blocks_offset();
        for block in &entry.blocks {
            packed.resize(usize::try_from(block.packed_len).unwrap_or(usize::MAX), 0);
            self.file.read_exact_at(&mut packed, offset)?;
            offset += u64::from(block.packed_len);
            unpack(&mut unpacker, block, &packed, &mut plain)?;
            to.write_all(&plain)?;
        }
        Ok(())
    }
}

/// Decompresses a block; the unpacker has the blocks before it as the dictionary.
fn unpack(unpacker: &mut Unpacker, block: &Block, packed: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, "a block does not decompress to its original content");
    let len = usize::try_from(block.plain_len).unwrap_or(usize::MAX);
    unpacker.unpack(packed, len, plain).map_err(|_| damaged())?;
    if plain.len() != len || crc32fast::hash(plain) != block.plain_crc {
        return Err(damaged());
    }
    Ok(())
}
