//! A journal in memory that can be read again from its start.

use crate::engine::core::{Core, Journal};
use crate::engine::item::BodyPlace;
use crate::engine::record::Record;

/// Keeps the records as bytes, each as a segment of its own.
#[derive(Default)]
pub(in crate::engine) struct Tape {
    records: Vec<Vec<u8>>,
    /// The number of records that were removed. They are kept, to compare the state with the whole history.
    pub(super) removed: usize,
}

impl Journal for Tape {
    fn append(&mut self, record: &Record<'_>) -> BodyPlace {
        let mut bytes = Vec::new();
        let offset = record.encode(&mut bytes).try_into().unwrap();
        self.records.push(bytes);
        BodyPlace { segment: (self.records.len() - 1).try_into().unwrap(), offset }
    }

    fn read(&mut self, place: BodyPlace, len: u32) -> std::io::Result<Box<[u8]>> {
        let from = place.offset as usize;
        assert!(place.segment as usize >= self.removed);
        Ok(self.records[place.segment as usize][from..from + len as usize].into())
    }
}

impl Tape {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns a core that has read the tape.
    pub(in crate::engine) fn replay(&self) -> Core {
        self.replay_from(self.removed)
    }

    /// Returns a core that has read the tape from this record on.
    pub(super) fn replay_from(&self, first: usize) -> Core {
        let mut core = Core::reading(7, 1);
        for (segment, bytes) in self.records.iter().enumerate().skip(first) {
            for record in Record::decode_all(bytes) {
                let (record, offset) = record.unwrap();
                let place =
                    BodyPlace { segment: segment.try_into().unwrap(), offset: offset.try_into().unwrap() };
                core.apply(&record, place);
            }
        }
        core.finish_reading();
        core
    }
}
