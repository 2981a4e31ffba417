//! Checks that reading any bytes as queued's log ends, and that the resulting state can be written and read
//! again.

use queued::engine::core::{Core, Journal};
use queued::engine::item::{BodyPlace, ItemState};
use queued::engine::record::Record;
use queued::log::frame;
use std::io;

pub fn log_reader(bytes: &[u8]) {
    let _ = (frame::open(bytes, 0, 0), frame::find(bytes, 0, 0));
    let mut core = Core::reading(1, 1);
    read(&mut core, bytes);
    let mut tape = Tape(Vec::new());
    core.checkpoint(&mut tape);
    let all: Vec<(u32, u64, BodyPlace, Vec<u8>)> = core
        .queues()
        .flat_map(|q| {
            let body = |body: &Option<Box<[u8]>>| body.clone().unwrap_or_default().into();
            q.items().iter().map(move |i| (q.number, i.number, i.place, body(&i.body)))
        })
        .collect();
    for (queue, number, place, body) in all {
        assert!(core.rewrite(queue, number, place, &body, &mut tape));
    }
    let mut again = Core::reading(1, 1);
    read(&mut again, &tape.0);
    assert_eq!(items(&core), items(&again));
}

struct Tape(Vec<u8>);

impl Journal for Tape {
    fn append(&mut self, record: &Record<'_>) -> BodyPlace {
        record.encode(&mut self.0);
        BodyPlace { segment: 2, offset: 0 }
    }

    fn read(&mut self, _: BodyPlace, _: u32) -> io::Result<Box<[u8]>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn read(core: &mut Core, records: &[u8]) {
    for (record, _) in Record::decode_all(records).map_while(Result::ok) {
        core.apply(&record, BodyPlace { segment: 1, offset: 0 });
    }
    core.finish_reading();
}

fn items(core: &Core) -> Vec<(u32, u64, ItemState, u32)> {
    let queues = core.queues();
    queues.flat_map(|q| q.items().iter().map(|i| (q.number, i.number, i.state, i.attempts))).collect()
}
