//! A log in the memory of the test: slow at times, in small segments, and read back at the end.

use queued::commit::{Group, Log, LogEnd, LogFailure};
use queued::engine::core::Core;
use queued::engine::item::BodyPlace;
use queued::engine::record::Record;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Longer than a quick commit takes.
const SLOW: Duration = Duration::from_micros(700);
const HEADER_BYTES: usize = 8;
const SEGMENT_BYTES: u64 = 4 << 10;

#[derive(Debug, Default)]
pub struct SimulatedLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The groups by segment and offset.
    groups: BTreeMap<(u32, u64), Vec<u8>>,
    last_group: u64,
    syncs: u64,
}

impl SimulatedLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    /// Reads the state that the log holds.
    pub fn fold(&self) -> Core {
        let mut core = Core::reading(1, 1);
        for ((segment, begins), bytes) in &self.kept().groups {
            for record in Record::decode_all(&bytes[HEADER_BYTES..]) {
                let (record, body) = record.unwrap();
                let offset = u32::try_from(*begins).unwrap() + u32::try_from(HEADER_BYTES + body).unwrap();
                core.apply(&record, BodyPlace { segment: *segment, offset });
            }
        }
        core.finish_reading();
        core
    }
}

impl Log for SimulatedLog {
    fn end(&self) -> Option<LogEnd> {
        Some(LogEnd {
            segment: 1,
            offset: 0,
            next_group: 1,
            segment_bytes: SEGMENT_BYTES,
            full: false,
            segment_header_bytes: 0,
            group_header_bytes: HEADER_BYTES,
        })
    }

    fn append(&self, groups: &mut [Group]) -> Result<(), LogFailure> {
        let mut kept = self.kept();
        for group in groups {
            assert_eq!(group.number, kept.last_group + 1, "a group is missing or came twice");
            assert_eq!(group.begins_segment, group.offset == 0 && group.segment > 1);
            kept.last_group = group.number;
            kept.groups.insert((group.segment, group.offset), group.bytes.clone());
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), LogFailure> {
        let mut kept = self.kept();
        kept.syncs += 1;
        let began = Instant::now();
        while kept.syncs.is_multiple_of(3) && began.elapsed() < SLOW {
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn check(&self) -> Result<(), LogFailure> {
        Ok(())
    }

    fn read(&self, place: BodyPlace, len: u32) -> io::Result<Box<[u8]>> {
        let (offset, kept) = (u64::from(place.offset), self.kept());
        let ((_, begins), bytes) = kept.groups.range(..=(place.segment, offset)).next_back().unwrap();
        let from = usize::try_from(offset - begins).unwrap();
        Ok(bytes[from..from + len as usize].into())
    }
}
