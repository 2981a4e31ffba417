//! Cuts a file's bytes into blocks, and decides which blocks survive an append.

use crate::archive::checksum::Checksum;

/// The block sizes of one kind of archive.
#[derive(Clone, Copy, Debug)]
pub struct BlockSizes {
    pub block_bytes_max: usize,
    /// Limit on the preceding bytes of the file that serve as a dictionary for a block.
    pub dictionary_bytes_max: u64,
    /// A block of this size is never compressed again; smaller tails are merged with the bytes that follow
    /// them.
    pub final_bytes_min: u64,
}

/// A piece of one file in the archive: compressed independently, ending on a byte boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub plain_len: u32,
    pub plain_crc: u32,
    pub packed_len: u32,
    pub packed_crc: u32,
}

impl Block {
    pub fn plain(&self) -> Checksum {
        Checksum { crc: self.plain_crc, len: u64::from(self.plain_len) }
    }

    pub fn packed(&self) -> Checksum {
        Checksum { crc: self.packed_crc, len: u64::from(self.packed_len) }
    }
}

pub fn plain_len(blocks: &[Block]) -> u64 {
    blocks.iter().map(|b| u64::from(b.plain_len)).sum()
}

pub fn packed_len(blocks: &[Block]) -> u64 {
    blocks.iter().map(|b| u64::from(b.packed_len)).sum()
}

/// Returns the number of blocks to keep when `added` bytes follow them. A small tail is compressed again
/// together with the new bytes, but only if these are at least as large. So a byte is compressed at most
/// log2(`final_bytes_min`) times, however slowly its file grows.
pub fn kept_after_append(sizes: &BlockSizes, blocks: &[Block], added: u64) -> usize {
    let (mut kept, mut piece) = (blocks.len(), added);
    while let Some(last) = blocks[..kept].last() {
        let len = u64::from(last.plain_len);
        if len >= sizes.final_bytes_min || len > piece {
            break;
        }
        piece += len;
        kept -= 1;
    }
    kept
}

/// Returns the first of the `kept` blocks that overlaps their last `bytes` bytes.
pub fn first_of_last(bytes: u64, blocks: &[Block], kept: usize) -> usize {
    let (mut first, mut covered) = (kept, 0);
    while first > 0 && covered < bytes {
        first -= 1;
        covered += u64::from(blocks[first].plain_len);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::codec::Codec;
    use proptest::prelude::*;

    fn block(plain_len: u32) -> Block {
        Block { plain_len, plain_crc: 0, packed_len: 1, packed_crc: 0 }
    }

    fn append(sizes: &BlockSizes, blocks: &mut Vec<Block>, added: u64) -> u64 {
        let kept = kept_after_append(sizes, blocks, added);
        let mut piece = added + plain_len(&blocks[kept..]);
        let compressed = piece;
        blocks.truncate(kept);
        while piece > 0 {
            let len = piece.min(sizes.block_bytes_max as u64);
            blocks.push(block(u32::try_from(len).unwrap()));
            piece -= len;
        }
        compressed
    }

    #[test]
    fn slow_growth_costs_little_and_makes_few_blocks() {
        for (codec, times_max) in [(Codec::Gzip, 10), (Codec::Zstd, 13)] {
            let (mut blocks, mut compressed, line, minutes) = (Vec::new(), 0, 100, 10_000);
            let sizes = codec.block_sizes();
            for _ in 0..minutes {
                compressed += append(&sizes, &mut blocks, line);
                let small = blocks.iter().filter(|b| u64::from(b.plain_len) < sizes.final_bytes_min).count();
                assert!(small <= 15, "{small} small blocks");
            }
            assert_eq!(plain_len(&blocks), line * minutes);
            assert!(compressed <= times_max * line * minutes, "{compressed} bytes were compressed");
        }
    }

    proptest! {
        #[test]
        fn appends_never_touch_a_final_block(adds in prop::collection::vec(1u64..600_000, 1..40), zstd: bool) {
            let sizes = if zstd { Codec::Zstd } else { Codec::Gzip }.block_sizes();
            let mut blocks = Vec::new();
            let mut total = 0;
            for added in adds {
                let finals = blocks.iter().take_while(|b: &&Block| u64::from(b.plain_len) >= sizes.final_bytes_min).count();
                prop_assert!(kept_after_append(&sizes, &blocks, added) >= finals);
                append(&sizes, &mut blocks, added);
                total += added;
                prop_assert_eq!(plain_len(&blocks), total);
                let wanted = sizes.dictionary_bytes_max;
                let first = first_of_last(wanted, &blocks, blocks.len());
                prop_assert!(first == 0 || plain_len(&blocks[first..]) >= wanted);
            }
        }
    }
}
