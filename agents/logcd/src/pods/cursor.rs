//! The content of the checkpoint: how far each container log is archived.

use crate::archive::checksum::Checksum;
use crate::pods::place::LogName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limit on the bytes of the first line that identify a log. Each line has a time in nanoseconds, so first
/// lines differ.
pub const HEAD_BYTES_MAX: u64 = 1024;

/// The state of all archives and logs at one commit. After a crash, everything written later is removed
/// again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Checkpoint {
    /// The number of the next entry in any archive.
    pub next_entry: u64,
    /// The archives that may be appended to.
    pub open: Vec<OpenArchive>,
    /// The logs of each container, by its directory.
    pub containers: BTreeMap<String, Cursors>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OpenArchive {
    pub namespace: String,
    pub name: String,
    pub bytes: u64,
    /// The position of the previous end mark, which must be hidden.
    pub hidden_end: Option<u64>,
}

/// The logs of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cursors {
    pub logs: Vec<Cursor>,
    /// Compressed logs that are fully archived.
    pub settled: Vec<ArchivedCopy>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cursor {
    pub name: String,
    pub inode: u64,
    /// The number of archived bytes, before compression.
    pub offset: u64,
    pub head_crc: u32,
    pub head_bytes: u64,
    /// The checksum of the last archived bytes. After a power loss, a log may have lost its end.
    #[serde(default)]
    pub tail_crc: u32,
    #[serde(default)]
    pub tail_bytes: u64,
    /// The latest time of the archived lines, in nanoseconds since 1970.
    #[serde(default)]
    pub latest_ns: Option<i64>,
    /// True if the log is read from its start again: lines up to `latest_ns` are archived already.
    #[serde(default)]
    pub is_repeating: bool,
    /// True if the log is archived to its end and should not grow any more.
    pub is_whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ArchivedCopy {
    pub name: String,
    pub inode: u64,
}

impl ArchivedCopy {
    /// True for the same file. The inode alone is not enough, because it is reused after a removal.
    pub fn is(&self, inode: u64, name: &LogName) -> bool {
        self.inode == inode && self.name == name.to_string()
    }
}

impl Cursor {
    pub fn head(&self) -> Checksum {
        Checksum { crc: self.head_crc, len: self.head_bytes }
    }

    pub fn tail(&self) -> Checksum {
        Checksum { crc: self.tail_crc, len: self.tail_bytes }
    }

    /// Returns the latest time of the archived lines.
    pub fn latest(&self) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.latest_ns?.into()).ok()
    }

    /// True if this cursor belongs to a log that starts with these bytes.
    pub fn fits(&self, start: &[u8]) -> bool {
        let len = usize::try_from(self.head_bytes).unwrap_or(usize::MAX);
        start.get(..len).is_some_and(|head| Checksum::of(head) == self.head())
    }
}

impl Cursors {
    /// Removes and returns the cursor of a log that was found. The inode decides among logs that start with
    /// the same bytes, and among logs that were empty. A compressed log has another inode than its original,
    /// so its start alone is enough. It may also have its own cursor.
    pub fn take(&mut self, inode: u64, is_compressed: bool, start: &[u8]) -> Option<Cursor> {
        let same = self.logs.iter().position(|cursor| cursor.inode == inode && cursor.fits(start));
        let is_alike = |cursor: &Cursor| cursor.head_bytes > 0 && cursor.fits(start);
        let alike = || self.logs.iter().position(is_alike).filter(|_| is_compressed);
        let at = same.or_else(alike)?;
        Some(self.logs.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(inode: u64, head: &[u8], offset: u64) -> Cursor {
        let Checksum { crc, len } = Checksum::of(head);
        let name = "0.log".to_owned();
        let (tail_crc, tail_bytes, latest_ns) = (crc, len, Some(7));
        Cursor {
            name,
            inode,
            offset,
            head_crc: crc,
            head_bytes: len,
            tail_crc,
            tail_bytes,
            latest_ns,
            is_repeating: false,
            is_whole: false,
        }
    }

    #[test]
    fn reused_inode_is_another_log() {
        let mut cursors = Cursors { logs: vec![cursor(7, b"first", 5)], settled: Vec::new() };
        assert_eq!(cursors.take(7, false, b"other"), None);
        assert_eq!(cursors.take(7, false, b"fir"), None);
        assert_eq!(cursors.take(8, false, b"first line"), None);
        assert_eq!(cursors.take(7, false, b"first line").unwrap().offset, 5);
        assert_eq!(cursors.take(7, false, b"first line"), None);
    }

    #[test]
    fn empty_log_is_known_by_its_inode() {
        let mut cursors = Cursors { logs: vec![cursor(7, b"", 0)], settled: Vec::new() };
        assert_eq!(cursors.take(8, false, b"line"), None);
        assert_eq!(cursors.take(8, true, b"line"), None);
        assert_eq!(cursors.take(7, false, b"line").unwrap().offset, 0);
    }

    #[test]
    fn compressed_log_is_known_by_its_start() {
        let logs = vec![cursor(6, b"a", 1), cursor(7, b"first", 5)];
        let mut cursors = Cursors { logs, settled: Vec::new() };
        assert_eq!(cursors.take(9, true, b"first line").unwrap().inode, 7);
    }

    /// Checkpoints of earlier versions do not record how the archived part of a log ends.
    #[test]
    fn cursor_without_an_end_is_read() {
        let mut value = serde_json::to_value(cursor(1, b"head", 5)).unwrap();
        for field in ["tail-crc", "tail-bytes", "latest-ns", "is-repeating"] {
            assert!(value.as_object_mut().unwrap().remove(field).is_some());
        }
        let read: Cursor = serde_json::from_value(value).unwrap();
        assert_eq!(read, Cursor { tail_crc: 0, tail_bytes: 0, latest_ns: None, ..cursor(1, b"head", 5) });
    }

    proptest! {
        /// A log is found by its start or not at all, and each cursor is used once.
        #[test]
        fn cursor_is_taken_once_by_its_own_log(
            heads in prop::collection::vec("[ab]{0,3}", 1..6), inode in 0u64..6, is_compressed: bool, start in "[ab]{0,4}",
        ) {
            let logs: Vec<Cursor> = (0..).zip(&heads).map(|(inode, head)| cursor(inode, head.as_bytes(), 5)).collect();
            let mut cursors = Cursors { logs: logs.clone(), settled: Vec::new() };
            let taken = cursors.take(inode, is_compressed, start.as_bytes());
            prop_assert_eq!(cursors.logs.len() + usize::from(taken.is_some()), logs.len());
            if let Some(cursor) = &taken {
                prop_assert!(logs.contains(cursor) && !cursors.logs.contains(cursor));
                prop_assert!(start.as_bytes().starts_with(heads[usize::try_from(cursor.inode).unwrap()].as_bytes()));
                prop_assert!(cursor.inode == inode || is_compressed && cursor.head_bytes > 0);
            } else {
                prop_assert!(!logs.iter().any(|cursor| cursor.inode == inode && cursor.fits(start.as_bytes())));
            }
        }

        #[test]
        fn checkpoint_survives_the_file(next_entry: u64, offset: u64, head: Vec<u8>, name in "[a-z]{1,5}", hidden_end: Option<u64>) {
            let cursors = Cursors { logs: vec![cursor(1, &head, offset)], settled: vec![ArchivedCopy { name: name.clone(), inode: 5 }] };
            let open = vec![OpenArchive { namespace: name.clone(), name: name.clone(), bytes: offset, hidden_end }];
            let checkpoint = Checkpoint { next_entry, open, containers: BTreeMap::from([(name, cursors)]) };
            let bytes = serde_json::to_vec(&checkpoint).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Checkpoint>(&bytes).unwrap(), checkpoint);
        }
    }
}
