//! The bytes of an index file: magic, identity, prefix and entries, and a checksum of all of them.

use super::{ArchiveIdentity, Index, IndexError};
use crate::archive::block::Block;
use crate::archive::checksum::Checksum;
use crate::archive::codec::Codec;
use crate::archive::entry::{Entry, EntryLayout, Origin};
use crate::archive::file_stamp::{FileStamp, FileTime};
use crate::archive::header::Meta;
use std::io::{self, Write};

impl Index {
    pub fn encode(&self, out: impl Write) -> io::Result<()> {
        let mut out = FieldWriter { out, hasher: crc32fast::Hasher::new() };
        out.bytes(&self.codec.index_magic())?;
        out.u64(self.identity.ino)?;
        out.u64(self.identity.size)?;
        out.time(self.identity.mtime)?;
        out.time(self.identity.ctime)?;
        out.sum(self.identity.sum)?;
        out.name(&self.prefix)?;
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
        let codec = Codec::ALL.into_iter().find(|codec| bytes.starts_with(&codec.index_magic()));
        let codec = codec.ok_or(IndexError::Foreign)?;
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(IndexError::Torn)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err(IndexError::Damaged);
        }
        let mut from = FieldReader(content.get(codec.index_magic().len()..).ok_or(IndexError::Torn)?);
        let identity = ArchiveIdentity {
            ino: from.u64()?,
            size: from.u64()?,
            mtime: from.time()?,
            ctime: from.time()?,
            sum: from.sum()?,
        };
        let prefix = from.name()?;
        let count = from.u64()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(from.entry()?);
        }
        if !from.0.is_empty() {
            return Err(IndexError::Incoherent("bytes follow its last entry"));
        }
        let index = Index { codec, identity, prefix, entries };
        index.check()?;
        Ok(index)
    }
}

struct FieldWriter<W> {
    out: W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> FieldWriter<W> {
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

    fn time(&mut self, time: FileTime) -> io::Result<()> {
        self.bytes(&time.s.to_le_bytes())?;
        self.u32(time.ns)
    }

    fn sum(&mut self, sum: Checksum) -> io::Result<()> {
        self.u32(sum.crc)?;
        self.u64(sum.len)
    }

    fn name(&mut self, name: &[u8]) -> io::Result<()> {
        self.u64(name.len() as u64)?;
        self.bytes(name)
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.name(&entry.name)?;
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
        self.u64(entry.layout.offset)?;
        self.u32(entry.layout.header_packed_len)?;
        self.sum(entry.layout.header)?;
        self.u32(entry.layout.padding_packed_len)?;
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

struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
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

    fn time(&mut self) -> Result<FileTime, IndexError> {
        Ok(FileTime { s: self.array().map(i64::from_le_bytes)?, ns: self.u32()? })
    }

    fn sum(&mut self) -> Result<Checksum, IndexError> {
        Ok(Checksum { crc: self.u32()?, len: self.u64()? })
    }

    fn name(&mut self) -> Result<Vec<u8>, IndexError> {
        let len = usize::try_from(self.u64()?).map_err(|_| IndexError::Torn)?;
        Ok(self.bytes(len)?.to_vec())
    }

    fn entry(&mut self) -> Result<Entry, IndexError> {
        let name = self.name()?;
        let origin = match self.array()? {
            [b's'] => Origin::Superseded,
            [b'r'] => Origin::Recovered,
            [b'l'] => Origin::Live(FileStamp {
                dev: self.u64()?,
                ino: self.u64()?,
                size: self.u64()?,
                mtime: self.time()?,
                ctime: self.time()?,
                racy: self.array()? != [0],
            }),
            _ => return Err(IndexError::Incoherent("it refers to an origin that does not exist")),
        };
        let meta = Meta { mode: self.u32()?, uid: self.u32()?, gid: self.u32()?, mtime_s: self.u64()? };
        let layout = EntryLayout {
            offset: self.u64()?,
            header_packed_len: self.u32()?,
            header: self.sum()?,
            padding_packed_len: self.u32()?,
        };
        let count = self.u64()?;
        // A false count must not reserve memory: there cannot be more blocks than the remaining bytes can
        // hold.
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
        Ok(Entry { name, origin, meta, layout, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block() -> impl Strategy<Value = Block> {
        (1u32..300_000, any::<u32>(), 1u32..300_000, any::<u32>()).prop_map(
            |(plain_len, plain_crc, packed_len, packed_crc)| Block {
                plain_len,
                plain_crc,
                packed_len,
                packed_crc,
            },
        )
    }

    fn origin() -> impl Strategy<Value = Origin> {
        let live =
            (any::<u64>(), any::<u64>(), any::<i64>(), any::<bool>()).prop_map(|(ino, size, s, racy)| {
                let time = FileTime { s, ns: 7 };
                Origin::Live(FileStamp { dev: 1, ino, size, mtime: time, ctime: time, racy })
            });
        prop_oneof![live, Just(Origin::Superseded), Just(Origin::Recovered)]
    }

    prop_compose! {
        fn entry()(
            name in prop::collection::vec(any::<u8>(), 1..300),
            origin in origin(),
            blocks in prop::collection::vec(block(), 0..10),
            mode: u32, header_packed_len in 1u32..5000, padding_packed_len in 0u32..30,
        ) -> Entry {
            let layout = EntryLayout { offset: 0, header_packed_len, header: Checksum { crc: mode, len: 512 }, padding_packed_len };
            Entry { name, origin, meta: Meta { mode, ..Meta::default() }, layout, blocks }
        }
    }

    prop_compose! {
        /// Generates a coherent index, like one of a real archive.
        fn index()(mut entries in prop::collection::vec(entry(), 0..10), prefix: Vec<u8>, zstd: bool) -> Index {
            let codec = if zstd { Codec::Zstd } else { Codec::Gzip };
            let (mut offset, mut sum) = (codec.preamble().len() as u64, Checksum::default());
            for entry in &mut entries {
                entry.layout.offset = offset;
                offset += entry.packed_len();
                sum = sum.then(entry.sum());
            }
            let sum = sum.then(Checksum::of(&[0; 1024]));
            Index { codec, identity: ArchiveIdentity { size: offset + 20, sum, ..ArchiveIdentity::default() }, prefix, entries }
        }
    }

    fn encoded(index: &Index) -> Vec<u8> {
        let mut bytes = Vec::new();
        index.encode(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(index in index()) {
            prop_assert_eq!(Index::decode(&encoded(&index)), Ok(index));
        }

        #[test]
        fn a_torn_index_is_refused(index in index(), cut in any::<prop::sample::Index>()) {
            let bytes = encoded(&index);
            prop_assert!(Index::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_flipped_bit_is_noticed(index in index(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encoded(&index);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Index::decode(&bytes).is_err());
        }

        /// Decodes made-up bytes with a correct checksum: no panic, and no memory for made-up numbers.
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes: Vec<u8>, magic: bool, index in index(), at in any::<prop::sample::Index>(), with: u64) {
            if magic {
                bytes = encoded(&index);
                bytes.truncate(bytes.len() - 4);
                let at = at.index(bytes.len());
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&with.to_le_bytes()[..end - at]);
            }
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            let _ = Index::decode(&bytes);
        }
    }
}
