//! The parts through which every byte goes, without any socket or file.

use jiff::Timestamp;
use logcd::archive::codec::Codec;
use logd::framing::Framing;
use logd::line_format::{LineFormat, LineWriter};
use queued::engine::contract::{Limits, NewItem};
use queued::engine::core::{Core, Journal, LeaseTerms, Turn};
use queued::engine::item::BodyPlace;
use queued::engine::record::Record;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

const MIB: usize = 1 << 20;
/// Maximum of a single read in logd.
const READ_BYTES: usize = 64 * 1024;
const ITEMS: usize = 1000;
const BODY_BYTES: usize = 100;

/// The work of one part: prepared once, then repeated. It returns how much it did, so that the compiler
/// cannot leave any of it out.
pub type Work = Box<dyn FnMut() -> usize>;

pub struct Part {
    pub name: &'static str,
    /// Description of one repetition.
    pub once: &'static str,
    pub prepare: fn() -> Work,
}

pub const PARTS: [Part; 7] = [
    Part {
        name: "raw lines",
        once: "1 MiB of lines of 200 bytes, as logd takes them from 64 KiB reads",
        prepare: raw_lines,
    },
    Part {
        name: "stamped lines",
        once: "the same with time and peer before each",
        prepare: || formatted_lines(LineFormat::Stamped),
    },
    Part { name: "json lines", once: "the same as JSON", prepare: || formatted_lines(LineFormat::Json) },
    Part {
        name: "gzip block",
        once: "256 KiB of a log, as logcd packs them",
        prepare: || block(Codec::Gzip),
    },
    Part { name: "zstd block", once: "the same with --zstd", prepare: || block(Codec::Zstd) },
    Part {
        name: "push, lease, ack",
        once: "1,000 items of 100 bytes through queued's state machine and into its log's format",
        prepare: items,
    },
    Part {
        name: "read the log",
        once: "2,000 records, half of them with 100 bytes, as at queued's start",
        prepare: reading,
    },
];

/// Generates text like a log, the same each time.
fn log(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = String::with_capacity(bytes + 300);
    while text.len() < bytes {
        let start = text.len();
        let (number, level) = (random.u32(..), random.choice(["INFO", "WARN", "DEBUG"]).unwrap_or_default());
        let _ = write!(
            text,
            "2026-11-21T08:00:00Z {level} request={number:08x} path=/v1/queues/{}/items ",
            number % 50
        );
        while text.len() < start + 199 {
            text.push(random.lowercase());
        }
        text.push('\n');
    }
    text.truncate(bytes);
    text.into_bytes()
}

fn raw_lines() -> Work {
    let input = log(MIB);
    let mut out = Vec::with_capacity(2 * MIB);
    Box::new(move || {
        let mut framing = Framing::new(MIB);
        out.clear();
        let mut lines = 0;
        for read in input.chunks(READ_BYTES) {
            let start = out.len();
            let placed = framing.place(&mut out);
            lines += if framing.can_take_in_place(read.len()) {
                out.extend_from_slice(read);
                framing.take_in_place(&mut out, start, placed).lines
            } else {
                out.truncate(start);
                framing.take(read, &mut |line| out.extend_from_slice(line)).lines
            };
        }
        out.len() + usize::try_from(lines).unwrap_or(0)
    })
}

fn formatted_lines(format: LineFormat) -> Work {
    let input = log(MIB);
    let mut out = Vec::with_capacity(4 * MIB);
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1065));
    Box::new(move || {
        let mut framing = Framing::new(MIB);
        out.clear();
        for read in input.chunks(READ_BYTES) {
            let stamp = LineWriter::new(format, Timestamp::UNIX_EPOCH, peer);
            framing.take(read, &mut |line| stamp.write(line, &mut out));
        }
        out.len()
    })
}

fn block(codec: Codec) -> Work {
    let plain = log(MIB / 4);
    let mut packer = codec.packer(codec.default_level()).ok();
    let mut packed = Vec::with_capacity(MIB);
    Box::new(move || {
        packed.clear();
        let done = packer.as_mut().map(|packer| packer.pack(&[], &plain, &mut packed));
        assert!(matches!(done, Some(Ok(()))), "it cannot be packed");
        packed.len()
    })
}

/// A log in memory that only grows.
#[derive(Default)]
struct Tape(Vec<u8>);

impl Journal for Tape {
    fn append(&mut self, record: &Record<'_>) -> BodyPlace {
        record.encode(&mut self.0);
        BodyPlace { segment: 1, offset: 0 }
    }

    fn read(&mut self, _: BodyPlace, _: u32) -> std::io::Result<Box<[u8]>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

const LIMITS: Limits = Limits {
    queues_max: 10,
    checkpoint_bytes_max: u64::MAX,
    memory_bytes_max: 1 << 30,
    spills: false,
    answer_bytes_max: 1 << 20,
};

/// Pushes all items one by one, then leases and acks `acked` of them.
fn history(acked: usize) -> (Core, Tape) {
    let (mut core, mut tape) = (Core::new(1, 1), Tape::default());
    for now_ms in 1..=ITEMS as u64 {
        let mut turn = Turn { now_ms, limits: &LIMITS, journal: &mut tape };
        let item = NewItem { body: [b'x'; BODY_BYTES].into(), ..NewItem::default() };
        let pushed = core.push("q", vec![item], false, &mut turn);
        assert!(pushed.is_ok(), "{pushed:?}");
    }
    for now_ms in 1..=acked as u64 {
        let mut turn = Turn { now_ms: ITEMS as u64 + now_ms, limits: &LIMITS, journal: &mut tape };
        let leased = core.lease("q", 1, &LeaseTerms::default(), &mut turn).unwrap_or_default();
        for item in leased {
            assert!(core.ack("q", item.id, item.token, &mut turn), "it was leased");
        }
    }
    (core, tape)
}

fn items() -> Work {
    Box::new(|| history(ITEMS).1.0.len())
}

fn reading() -> Work {
    let log = history(ITEMS / 2).1.0;
    Box::new(move || {
        let mut core = Core::reading(1, 1);
        for (record, _) in Record::decode_all(&log).map_while(Result::ok) {
            core.apply(&record, BodyPlace { segment: 1, offset: 0 });
        }
        core.finish_reading();
        core.queues().map(|queue| queue.items().len()).sum()
    })
}
