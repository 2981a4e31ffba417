//! The index beside an archive: which blocks it is made of. A cache: whatever is wrong with it, the reader
//! says so and the archive itself is read instead.

use crate::block::Block;
use crate::checksum::Sum;
use crate::deflate;
use crate::entry::{Entry, Meta, Origin, Place, Stamp, Time};
use std::io::{self, Write};

/// The last byte is the version of the format.
const MAGIC: [u8; 8] = *b"logcdix\x01";

/// The archive that an index describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub ino: u64,
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    /// Of the whole uncompressed content, as the gzip trailer has it.
    pub sum: Sum,
}

/// An archive's identity and its entries, in the order in which they stand in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    pub identity: Identity,
    pub entries: Vec<Entry>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IndexError {
    #[error("it is no index of this version")]
    Foreign,
    #[error("it ends early")]
    Torn,
    #[error("its checksum is wrong")]
    Damaged,
    #[error("it contradicts itself: {0}")]
    Incoherent(&'static str),
}

impl Index {
    pub fn encode(&self, out: impl Write) -> io::Result<()> {
        let mut out = Encoder { out, hasher: crc32fast::Hasher::new() };
        out.bytes(&MAGIC)?;
        out.u64(self.identity.ino)?;
        out.u64(self.identity.size)?;
        out.time(self.identity.mtime)?;
        out.time(self.identity.ctime)?;
        out.sum(self.identity.sum)?;
        out.u64(self.entries.len() as u64)?;
        for entry in &self.entries {
            out.entry(entry)?;
        }
        let crc = out.hasher.clone().finalize();
        out.u32(crc)?;
        out.out.flush()
    }

    /// Reads an index and checks that it is whole and that it describes one coherent archive.
    pub fn decode(bytes: &[u8]) -> Result<Index, IndexError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(IndexError::Foreign);
        }
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(IndexError::Torn)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err(IndexError::Damaged);
        }
        let mut from = Decoder(content.get(MAGIC.len()..).ok_or(IndexError::Torn)?);
        let identity = Identity {
            ino: from.u64()?,
            size: from.u64()?,
            mtime: from.time()?,
            ctime: from.time()?,
            sum: from.sum()?,
        };
        let count = from.u64()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(from.entry()?);
        }
        if !from.0.is_empty() {
            return Err(IndexError::Incoherent("bytes are left over"));
        }
        let index = Index { identity, entries };
        index.check()?;
        Ok(index)
    }

    /// The entries stand gapless behind each other and their sums add up to that of the archive.
    fn check(&self) -> Result<(), IndexError> {
        let mut offset = deflate::preamble().len() as u64;
        let mut sum = Sum::default();
        for entry in &self.entries {
            if entry.place.offset != offset {
                return Err(IndexError::Incoherent("an entry is not where the one before it ends"));
            }
            offset = offset.saturating_add(entry.packed_len());
            sum = sum.then(entry.sum());
        }
        if offset >= self.identity.size {
            return Err(IndexError::Incoherent("the entries end behind the archive"));
        }
        if sum.then(Sum::of(&[0; 1024])) != self.identity.sum {
            return Err(IndexError::Incoherent("the entries' checksums do not add up"));
        }
        Ok(())
    }
}

struct Encoder<W> {
    out: W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> Encoder<W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn u32(&mut self, value: u32) -> io::Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> io::Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    fn time(&mut self, time: Time) -> io::Result<()> {
        self.bytes(&time.s.to_le_bytes())?;
        self.u32(time.ns)
    }

    fn sum(&mut self, sum: Sum) -> io::Result<()> {
        self.u32(sum.crc)?;
        self.u64(sum.len)
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.u64(entry.name.len() as u64)?;
        self.bytes(&entry.name)?;
        match &entry.origin {
            Origin::Superseded => self.bytes(b"s")?,
            Origin::Recovered => self.bytes(b"r")?,
            Origin::Live(stamp) => {
                self.bytes(b"l")?;
                self.u64(stamp.dev)?;
                self.u64(stamp.ino)?;
                self.u64(stamp.size)?;
                self.time(stamp.mtime)?;
                self.time(stamp.ctime)?;
                self.bytes(&[u8::from(stamp.racy)])?;
            }
        }
        self.u32(entry.meta.mode)?;
        self.u32(entry.meta.uid)?;
        self.u32(entry.meta.gid)?;
        self.u64(entry.meta.mtime_s)?;
        self.u64(entry.place.offset)?;
        self.u32(entry.place.header_packed_len)?;
        self.sum(entry.place.header)?;
        self.u32(entry.place.padding_packed_len)?;
        self.u64(entry.blocks.len() as u64)?;
        for block in &entry.blocks {
            self.u32(block.plain_len)?;
            self.u32(block.plain_crc)?;
            self.u32(block.packed_len)?;
            self.u32(block.packed_crc)?;
        }
        Ok(())
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], IndexError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(IndexError::Torn)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(IndexError::Torn)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, IndexError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, IndexError> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Time, IndexError> {
        Ok(Time { s: self.array().map(i64::from_le_bytes)?, ns: self.u32()? })
    }

    fn sum(&mut self) -> Result<Sum, IndexError> {
        Ok(Sum { crc: self.u32()?, len: self.u64()? })
    }

    fn entry(&mut self) -> Result<Entry, IndexError> {
        let name_len = usize::try_from(self.u64()?).map_err(|_| IndexError::Torn)?;
        let name = self.bytes(name_len)?.to_vec();
        let origin = match self.array()? {
            [b's'] => Origin::Superseded,
            [b'r'] => Origin::Recovered,
            [b'l'] => Origin::Live(Stamp {
                dev: self.u64()?,
                ino: self.u64()?,
                size: self.u64()?,
                mtime: self.time()?,
                ctime: self.time()?,
                racy: self.array()? != [0],
            }),
            _ => return Err(IndexError::Incoherent("an origin that does not exist")),
        };
        let meta = Meta { mode: self.u32()?, uid: self.u32()?, gid: self.u32()?, mtime_s: self.u64()? };
        let place = Place {
            offset: self.u64()?,
            header_packed_len: self.u32()?,
            header: self.sum()?,
            padding_packed_len: self.u32()?,
        };
        let count = self.u64()?;
        // A count that was made up must not reserve memory: no more blocks than bytes are left for.
        if count > (self.0.len() / 16) as u64 {
            return Err(IndexError::Torn);
        }
        let mut blocks = Vec::with_capacity(usize::try_from(count).map_err(|_| IndexError::Torn)?);
        for _ in 0..count {
            blocks.push(Block {
                plain_len: self.u32()?,
                plain_crc: self.u32()?,
                packed_len: self.u32()?,
                packed_crc: self.u32()?,
            });
        }
        Ok(Entry { name, origin, meta, place, blocks })
    }
}
