//! Compares the stamp of a file with its archived entry, and decides how much of the content must be read.

use crate::archive::entry::Entry;
use crate::archive::file_stamp::FileStamp;

/// The relation of a file to its archived entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The file is unchanged.
    Same,
    /// The file is longer: an append, as far as stamps show. The first and last block of the old part are
    /// compared at once, the rest gradually.
    Grown,
    /// The content is unknown: every byte that may be kept is compared.
    Doubtful,
}

/// Compares an archived entry with the file's current stamp.
pub fn compare(known: &Entry, seen: &FileStamp) -> Comparison {
    let Some(stamp) = known.stamp() else { return Comparison::Doubtful };
    let archived = known.size();
    if stamp.id() != seen.id() || seen.size < archived {
        Comparison::Doubtful
    } else if seen.size > archived {
        Comparison::Grown
    } else if !stamp.racy && (stamp.size, stamp.mtime, stamp.ctime) == (seen.size, seen.mtime, seen.ctime) {
        Comparison::Same
    } else {
        // The same size, but touched: rewritten in place, renamed, or with restored times.
        Comparison::Doubtful
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::block::Block;
    use crate::archive::entry::{EntryLayout, Origin};
    use crate::archive::file_stamp::FileTime;
    use crate::archive::header::Meta;

    fn stamp() -> FileStamp {
        let time = FileTime { s: 1000, ns: 5 };
        FileStamp { dev: 1, ino: 2, size: 100, mtime: time, ctime: time, racy: false }
    }

    fn compared(origin: Origin, seen: FileStamp) -> Comparison {
        let block = Block { plain_len: 100, plain_crc: 0, packed_len: 10, packed_crc: 0 };
        let (name, meta, layout) = (b"x.log".to_vec(), Meta::default(), EntryLayout::default());
        compare(&Entry { name, origin, meta, layout, blocks: vec![block] }, &seen)
    }

    #[test]
    fn stamps_tell_same_grown_and_doubtful() {
        let later = FileTime { s: 1001, ns: 0 };
        let from = Origin::Live(stamp());
        assert_eq!(compared(from, stamp()), Comparison::Same);
        assert_eq!(compared(from, FileStamp { size: 101, mtime: later, ..stamp() }), Comparison::Grown);
        for seen in [
            FileStamp { size: 99, ..stamp() },
            FileStamp { ino: 3, ..stamp() },
            FileStamp { dev: 3, ..stamp() },
            FileStamp { mtime: later, ..stamp() },
            FileStamp { ctime: later, ..stamp() },
        ] {
            assert_eq!(compared(from, seen), Comparison::Doubtful, "{seen:?}");
        }
        assert_eq!(
            compared(Origin::Live(FileStamp { racy: true, ..stamp() }), stamp()),
            Comparison::Doubtful
        );
        assert_eq!(compared(Origin::Recovered, stamp()), Comparison::Doubtful);
    }

    #[test]
    fn short_entry_counts_as_grown() {
        // The file shrank while it was read, and has grown back to the same size since.
        let looked = FileStamp { size: 500, ..stamp() };
        assert_eq!(compared(Origin::Live(looked), looked), Comparison::Grown);
    }
}
