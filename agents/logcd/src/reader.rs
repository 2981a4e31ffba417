//! An archive opened for reading, with its index where there is one that fits.

use crate::block::Block;
use crate::day::index_name;
use crate::entry::Entry;
use crate::held::is_described_by;
use crate::index::Index;
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress};
use kit::exit::{Exit, Fatal};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tar::Archive;

const BUFFER_BYTES: usize = 128 * 1024;

pub struct Reader {
    pub file: File,
    pub path: PathBuf,
    pub index: Option<Index>,
}

/// The tar inside, as a stream.
pub type Stream<'a> = Archive<MultiGzDecoder<BufReader<&'a File>>>;

impl Reader {
    pub fn open(path: &Path) -> Result<Reader, Fatal> {
        let cannot =
            |e| Fatal::new(Exit::Failure, format!("cannot open the archive {}", path.display())).because(e);
        let file = File::open(path).map_err(cannot)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(path.with_file_name(index_name(&name))).unwrap_or_default();
        let index = Index::decode(&bytes).ok().filter(|index| is_described_by(&file, &index.identity));
        Ok(Reader { file, path: path.to_owned(), index })
    }

    pub fn stream(&self) -> Stream<'_> {
        Archive::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, &self.file)))
    }

    /// For `map_err`: the archive could not be read on.
    pub fn failed(&self) -> impl Fn(io::Error) -> Fatal {
        let path = self.path.display().to_string();
        move |error| match error.kind() {
            // The reader of our output has seen enough.
            io::ErrorKind::BrokenPipe => Fatal::new(Exit::Ok, ""),
            _ => Fatal::new(Exit::Failure, format!("cannot read {path} to its end")).because(error),
        }
    }

    /// Inflates one entry, block by block, from the place that the index gives; nothing else is read.
    pub fn copy_entry(&self, entry: &Entry, to: &mut dyn Write) -> io::Result<()> {
        let mut inflater = Decompress::new(false);
        let (mut packed, mut plain) = (Vec::new(), Vec::new());
        let mut offset = entry.blocks_offset();
        for block in &entry.blocks {
            packed.resize(usize::try_from(block.packed_len).unwrap_or(usize::MAX), 0);
            self.file.read_exact_at(&mut packed, offset)?;
            offset += u64::from(block.packed_len);
            inflate(&mut inflater, block, &packed, &mut plain)?;
            to.write_all(&plain)?;
        }
        Ok(())
    }
}

/// The inflater has seen the blocks before, which are this one's dictionary.
fn inflate(inflater: &mut Decompress, block: &Block, packed: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, "a block does not inflate to what it was made of");
    plain.clear();
    let len = usize::try_from(block.plain_len).unwrap_or(usize::MAX);
    plain.reserve(len + 1);
    let (start_in, start_out) = (inflater.total_in(), inflater.total_out());
    loop {
        let consumed = usize::try_from(inflater.total_in() - start_in).unwrap_or(usize::MAX);
        let rest = packed.get(consumed..).unwrap_or_default();
        inflater.decompress_vec(rest, plain, FlushDecompress::Sync).map_err(|_| damaged())?;
        let taken = inflater.total_in() - start_in;
        if taken == packed.len() as u64 {
            break;
        }
        if plain.len() > len || taken == consumed as u64 {
            return Err(damaged());
        }
    }
    let made = inflater.total_out() - start_out;
    if made != len as u64 || crc32fast::hash(plain) != block.plain_crc {
        return Err(damaged());
    }
    Ok(())
}
