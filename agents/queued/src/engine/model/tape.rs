//! A journal in memory that can be read again from its start.

use crate::engine::core::{Core, Journal};
use crate::engine::item::Place;
use crate::engine::record::Record;

/// Keeps the records as bytes, each as a segment of its own.
#[derive(Default)]
pub(in crate::engine) struct Tape(pub(super) Vec<Vec<u8>>);

impl Journal for Tape {
    fn append(&mut self, record: &Record<'_>) -> Place {
        let mut bytes = Vec::new();
        let offset = record.encode(&mut bytes).try_into().unwrap();
        self.0.push(bytes);
        Place { segment: (self.0.len() - 1).try_into().unwrap(), offset }
    }

    fn read(&mut self, place: Place, len: u32) -> std::io::Result<Box<[u8]>> {
        let from = place.offset as usize;
        Ok(self.0[place.segment as usize][from..from + len as usize].into())
    }
}

impl Tape {
    /// Returns a core that has read the whole tape.
    pub(in crate::engine) fn replay(&self) -> Core {
        let mut core = Core::reading(7, 1);
        for (segment, bytes) in self.0.iter().enumerate() {
            for record in Record::decode_all(bytes) {
                let (record, offset) = record.unwrap();
                let place =
                    Place { segment: segment.try_into().unwrap(), offset: offset.try_into().unwrap() };
                core.apply(&record, place);
            }
        }
        core.finish_reading();
        core
    }
}
