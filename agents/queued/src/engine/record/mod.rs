//! The records of the log, in bytes: each describes one event, and the state is a fold over them.
//!
//! A record is a tag byte, then its fields: numbers as LEB128, texts and bodies as length and bytes, an
//! absent text as length 0. Tags are never reused with another meaning; `log::segment::VERSION` changes when
//! an older reader would misread something.

mod reading;
mod writing;

use super::counters::Counters;
use super::item::{ItemState, Token};
use super::policy::Policy;
pub use reading::Malformed;

/// A queue number that no queue has. Records that were added to version 2 have this number and the tags of
/// older records. So an older queued can read them, and changes nothing, because it knows no such queue.
const NO_QUEUE: u32 = 0;

/// One change of state.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// The time of the next records. Delays up to this time have ended. A push and an ack have a time of
    /// their own and need no such record.
    Time(u64),
    /// A queue as it is from here on, without its items: created, configured, sealed, or repeated at the
    /// beginning of a segment.
    Queue(QueueRecord),
    /// The queue was deleted, with its items.
    QueueGone {
        queue: u32,
    },
    /// All items pushed later have this number or a higher one.
    NextNumber(u64),
    Pushed(Pushed<'a>),
    Leased {
        queue: u32,
        number: u64,
        token: Token,
        until_ms: u64,
        bound: bool,
        worker: Option<&'a str>,
    },
    Extended {
        queue: u32,
        number: u64,
        until_ms: u64,
    },
    Acked {
        queue: u32,
        number: u64,
        at_ms: u64,
    },
    /// A lease has ended without an ack.
    Returned {
        queue: u32,
        number: u64,
        how: Return,
        due_ms: Option<u64>,
        reason: Option<&'a str>,
    },
    /// The item failed its last attempt. `moved`: it was pushed into the dead-letter queue and is gone from
    /// here.
    Died {
        queue: u32,
        number: u64,
        how: Return,
        moved: bool,
        reason: Option<&'a str>,
    },
    /// A dead item is ready again, with attempts 0.
    Redriven {
        queue: u32,
        number: u64,
    },
    /// The attempts of this item belong to the item that was pushed last, its copy in another queue.
    HandedOn {
        number: u64,
    },
    /// An item was deleted, or moved into another queue.
    Deleted {
        queue: u32,
        number: u64,
    },
    /// All ready and delayed items were removed.
    Drained {
        queue: u32,
    },
    /// An item as it is, rewritten so that its old segment can be removed.
    Moved(Moved<'a>),
    /// A finished key, rewritten so that its old segment can be removed.
    KeyKept {
        queue: u32,
        key: &'a str,
        number: u64,
        at_ms: u64,
    },
    /// The number of items that were moved to the dead-letter queue in the present round of the queue. This
    /// record follows the queue's own record, which sets the number to 0, and begins a round.
    Round {
        queue: u32,
        moved: u64,
    },
    /// No item is leased from the queue until it is resumed. This record follows the queue's own record,
    /// which resumes it.
    Paused {
        queue: u32,
        paused: bool,
    },
}

/// The reason why a lease ended without an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    Nacked,
    Expired,
    /// A worker that had to stop released the item, or its connection ended. The attempt does not count.
    Released,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QueueRecord {
    pub queue: u32,
    pub name: Box<str>,
    pub policy: Policy,
    pub sealed: bool,
    pub seal_used: bool,
    pub held: bool,
    pub count_next: Option<u64>,
    pub counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pushed<'a> {
    pub queue: u32,
    pub number: u64,
    pub pushed_ms: u64,
    /// The item is delayed until this time.
    pub due_ms: Option<u64>,
    pub key: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved<'a> {
    pub item: Pushed<'a>,
    pub state: ItemState,
    pub attempts: u32,
    pub reason: Option<&'a str>,
    /// The due time of a delayed or leased item.
    pub at_ms: u64,
    /// The token of a leased item.
    pub token: Token,
    pub bound: bool,
    pub worker: Option<&'a str>,
}

impl Return {
    fn number(self) -> u64 {
        match self {
            Return::Nacked => 0,
            Return::Expired => 1,
            Return::Released => 2,
        }
    }

    fn from_number(number: u64) -> Option<Return> {
        [Return::Nacked, Return::Expired, Return::Released].get(usize::try_from(number).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pushed(body: &[u8]) -> Pushed<'_> {
        Pushed {
            queue: 3,
            number: 300,
            pushed_ms: 1_770_000_000_123,
            due_ms: Some(0),
            key: Some("k"),
            content_type: None,
            body,
        }
    }

    fn one_of_each() -> Vec<Record<'static>> {
        let (queue, number, token) = (7, u64::MAX, Token(u64::MAX));
        let counters =
            Counters { pushed: 1, removed: 1 << 40, moved: Some(3), lost: 2, ..Counters::default() };
        let policy = Policy { dead_letter_queue: Some("bad".into()), ..Policy::default() };
        vec![
            Record::Queue(QueueRecord {
                queue,
                name: "keygen".into(),
                policy,
                sealed: true,
                seal_used: true,
                held: false,
                count_next: Some(1),
                counters,
            }),
            Record::QueueGone { queue },
            Record::NextNumber(9),
            Record::Pushed(pushed(b"work-item-0")),
            Record::Leased { queue, number, token, until_ms: 5, bound: true, worker: Some("pod-7") },
            Record::Extended { queue, number, until_ms: 6 },
            Record::Acked { queue, number, at_ms: 0 },
            Record::Returned { queue, number, how: Return::Released, due_ms: None, reason: Some("tired") },
            Record::Died { queue, number, how: Return::Expired, moved: true, reason: None },
            Record::Redriven { queue, number },
            Record::Deleted { queue, number },
            Record::Drained { queue },
            Record::Moved(Moved {
                item: pushed(b""),
                state: ItemState::Leased,
                attempts: 2,
                reason: Some("r"),
                at_ms: 8,
                token,
                bound: false,
                worker: None,
            }),
            Record::KeyKept { queue, key: "k", number, at_ms: 1 },
            Record::Round { queue, moved: 3 },
            Record::Paused { queue, paused: true },
            Record::Time(1_770_000_000_123),
            Record::HandedOn { number },
        ]
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let (mut group, mut bodies) = (Vec::new(), Vec::new());
        for record in one_of_each() {
            bodies.push(record.encode(&mut group));
        }
        let read: Vec<_> = Record::decode_all(&group).map(Result::unwrap).collect();
        assert!(read.iter().map(|(record, _)| record).eq(one_of_each().iter()));
        assert!(read.iter().map(|(_, body)| *body).eq(bodies));
    }

    /// After a downgrade the older queued must be able to read what this one wrote.
    #[test]
    fn format_of_records_is_unchanged() {
        let mut group = Vec::new();
        for record in one_of_each() {
            record.encode(&mut group);
        }
        assert_eq!(
            (crate::log::segment::VERSION, group.len(), crc32fast::hash(&group)),
            (2, 262, 0xd3bc_15eb)
        );
    }

    #[test]
    fn older_versions_find_nothing_to_change_in_later_records() {
        let bytes = |record: Record<'_>| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            bytes
        };
        let (queue, number) = (NO_QUEUE, 0);
        assert_eq!(bytes(Record::Time(5)), bytes(Record::Acked { queue, number, at_ms: 5 }));
        assert_eq!(bytes(Record::HandedOn { number: 7 }), bytes(Record::Redriven { queue, number: 7 }));
    }

    #[test]
    fn a_record_of_a_hundred_bytes_costs_little_more() {
        let (mut push, mut rest) = (Vec::new(), Vec::new());
        let body = [b'x'; 100];
        Record::Pushed(Pushed { number: 1_000_000, due_ms: None, key: None, ..pushed(&body) })
            .encode(&mut push);
        let (queue, number, until_ms) = (3, 1_000_000, 1_770_000_000_123);
        Record::Time(until_ms).encode(&mut rest);
        Record::Leased { queue, number, token: Token(1), until_ms, bound: false, worker: None }
            .encode(&mut rest);
        Record::Acked { queue, number, at_ms: until_ms }.encode(&mut rest);
        assert!(push.len() <= 116 && rest.len() <= 43, "{} {}", push.len(), rest.len());
    }

    proptest! {
        /// The checksum should keep such bytes out, but the reader must not depend on it.
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode_all(&bytes).count();
        }

        #[test]
        fn a_group_that_was_cut_is_noticed(cut in 1usize..400) {
            let mut group = Vec::new();
            let ends: Vec<usize> = one_of_each().iter().map(|r| { r.encode(&mut group); group.len() }).collect();
            let cut = cut % group.len();
            let sound = Record::decode_all(&group[..cut]).filter(Result::is_ok).count();
            prop_assert_eq!(sound, ends.iter().filter(|end| **end <= cut).count());
            prop_assert_eq!(Record::decode_all(&group[..cut]).any(|r| r.is_err()), !ends.contains(&cut) && cut > 0);
        }
    }
}
