//! What happened, in bytes: the records of the log. The state is a fold over them.
//!
//! A record is a tag byte, then its fields: numbers as LEB128, texts and bodies as length and bytes, an
//! absent text as length 0. Tags are never reused with another meaning; `log::segment::VERSION` changes when
//! an older reader would misread something.

use super::item::{State, Token};
use super::policy::Policy;
use super::queue::Counters;

/// One change of state.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// A queue as it is from here on, but for its items: made, configured, sealed, or repeated at the
    /// beginning of a segment.
    Queue(QueueRecord),
    /// The queue is gone, with all in it.
    QueueGone {
        queue: u32,
    },
    /// No item that is pushed later has a number below this.
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
    /// It had its last attempt. `moved`: it was pushed into the dead-letter queue and is gone from here.
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
    /// A dead item was deleted.
    Deleted {
        queue: u32,
        number: u64,
    },
    /// All that was ready or delayed is gone.
    Drained {
        queue: u32,
    },
    /// An item as it is, written anew so that its old segment can go.
    Moved(Moved<'a>),
    /// A finished key, written anew likewise.
    KeyKept {
        queue: u32,
        key: &'a str,
        number: u64,
        at_ms: u64,
    },
}

/// Why a lease ended without an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    Nacked,
    Expired,
    /// By a worker that was told to stop, or with its connection: the attempt does not count.
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
    /// Delayed until then.
    pub due_ms: Option<u64>,
    pub key: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved<'a> {
    pub item: Pushed<'a>,
    pub state: State,
    pub attempts: u32,
    pub reason: Option<&'a str>,
    /// When delayed or leased.
    pub at_ms: u64,
    /// When leased.
    pub token: Token,
    pub bound: bool,
    pub worker: Option<&'a str>,
}

/// A record that cannot be read: it was written by a later version, or by nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record at byte {at} of its group makes no sense")]
pub struct Malformed {
    pub at: usize,
}

impl Record<'_> {
    /// Appends the record; returns where its body begins, for those that have one.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        match self {
            Record::Queue(q) => {
                out.push(1);
                number(out, q.queue.into());
                text(out, Some(&q.name));
                encode_policy(out, &q.policy);
                out.push(u8::from(q.sealed) | u8::from(q.seal_used) << 1 | u8::from(q.held) << 2);
                optional(out, q.count_next);
                q.counters.each(|value| number(out, value));
                out.len()
            }
            Record::QueueGone { queue } => tagged(out, 2, &[(*queue).into()]),
            Record::NextNumber(next) => tagged(out, 3, &[*next]),
            Record::Pushed(pushed) => {
                out.push(4);
                encode_pushed(out, pushed)
            }
            Record::Leased { queue, number: item, token, until_ms, bound, worker } => {
                tagged(out, 5, &[(*queue).into(), *item, *until_ms, u64::from(*bound)]);
                out.extend(token.0.to_le_bytes());
                text(out, *worker);
                out.len()
            }
            Record::Extended { queue, number, until_ms } => {
                tagged(out, 6, &[(*queue).into(), *number, *until_ms])
            }
            Record::Acked { queue, number, at_ms } => tagged(out, 7, &[(*queue).into(), *number, *at_ms]),
            Record::Returned { queue, number: item, how, due_ms, reason } => {
                tagged(out, 8, &[(*queue).into(), *item, how.number()]);
                optional(out, *due_ms);
                text(out, *reason);
                out.len()
            }
            Record::Died { queue, number: item, how, moved, reason } => {
                tagged(out, 9, &[(*queue).into(), *item, how.number(), u64::from(*moved)]);
                text(out, *reason);
                out.len()
            }
            Record::Redriven { queue, number } => tagged(out, 10, &[(*queue).into(), *number]),
            Record::Deleted { queue, number } => tagged(out, 11, &[(*queue).into(), *number]),
            Record::Drained { queue } => tagged(out, 12, &[(*queue).into()]),
            Record::Moved(moved) => {
                out.push(13);
                out.push(moved.state.number());
                number(out, moved.attempts.into());
                text(out, moved.reason);
                number(out, moved.at_ms);
                out.push(u8::from(moved.bound));
                out.extend(moved.token.0.to_le_bytes());
                text(out, moved.worker);
                encode_pushed(out, &moved.item)
            }
            Record::KeyKept { queue, key, number: item, at_ms } => {
                tagged(out, 14, &[(*queue).into(), *item, *at_ms]);
                text(out, Some(key));
                out.len()
            }
        }
    }

    /// Reads the records of a group one after the other, each with the place of its body within the group.
    pub fn decode_all(bytes: &[u8]) -> impl Iterator<Item = Result<(Record<'_>, usize), Malformed>> {
        let mut reader = Reader { all: bytes, at: 0 };
        let mut broken = false;
        std::iter::from_fn(move || {
            if broken || reader.at == bytes.len() {
                return None;
            }
            let began = reader.at;
            let record = reader.record();
            broken = record.is_none();
            Some(record.ok_or(Malformed { at: began }))
        })
    }
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

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f).to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// 0 is absent, else the value above 1.
fn optional(out: &mut Vec<u8>, value: Option<u64>) {
    number(out, value.map_or(0, |value| value.saturating_add(1)));
}

fn text(out: &mut Vec<u8>, value: Option<&str>) {
    bytes(out, value.unwrap_or_default().as_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn tagged(out: &mut Vec<u8>, tag: u8, numbers: &[u64]) -> usize {
    out.push(tag);
    numbers.iter().for_each(|value| number(out, *value));
    out.len()
}

fn encode_pushed(out: &mut Vec<u8>, pushed: &Pushed<'_>) -> usize {
    number(out, pushed.queue.into());
    number(out, pushed.number);
    number(out, pushed.pushed_ms);
    optional(out, pushed.due_ms);
    text(out, pushed.key);
    text(out, pushed.content_type);
    bytes(out, pushed.body);
    out.len() - pushed.body.len()
}

fn encode_policy(out: &mut Vec<u8>, policy: &Policy) {
    let Policy {
        lease_ms,
        max_attempts,
        backoff_ms,
        backoff_max_ms,
        max_items,
        max_bytes,
        key_memory_ms,
        ..
    } = *policy;
    for value in
        [lease_ms, max_attempts.into(), backoff_ms, backoff_max_ms, max_items, max_bytes, key_memory_ms]
    {
        number(out, value);
    }
    text(out, policy.dead_letter_queue.as_deref());
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.all.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn optional(&mut self) -> Option<Option<u64>> {
        Some(self.number()?.checked_sub(1))
    }

    fn token(&mut self) -> Option<Token> {
        let bytes = self.all.get(self.at..self.at.checked_add(8)?)?;
        self.at += 8;
        Some(Token(u64::from_le_bytes(bytes.try_into().ok()?)))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let bytes = self.all.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    fn text(&mut self) -> Option<Option<&'a str>> {
        let text = std::str::from_utf8(self.bytes()?).ok()?;
        Some((!text.is_empty()).then_some(text))
    }

    fn pushed(&mut self) -> Option<Pushed<'a>> {
        Some(Pushed {
            queue: self.small()?,
            number: self.number()?,
            pushed_ms: self.number()?,
            due_ms: self.optional()?,
            key: self.text()?,
            content_type: self.text()?,
            body: self.bytes()?,
        })
    }

    fn policy(&mut self) -> Option<Policy> {
        Some(Policy {
            lease_ms: self.number()?,
            max_attempts: self.small()?,
            backoff_ms: self.number()?,
            backoff_max_ms: self.number()?,
            max_items: self.number()?,
            max_bytes: self.number()?,
            key_memory_ms: self.number()?,
            dead_letter_queue: self.text()?.map(Into::into),
        })
    }

    fn queue(&mut self) -> Option<QueueRecord> {
        let (queue, name, policy) = (self.small()?, self.text()?.unwrap_or_default().into(), self.policy()?);
        let flags = self.byte()?;
        Some(QueueRecord {
            queue,
            name,
            policy,
            sealed: flags & 1 != 0,
            seal_used: flags & 2 != 0,
            held: flags & 4 != 0,
            count_next: self.optional()?,
            counters: Counters::from_each(|| self.number())?,
        })
    }

    fn record(&mut self) -> Option<(Record<'a>, usize)> {
        let record = match self.byte()? {
            1 => Record::Queue(self.queue()?),
            2 => Record::QueueGone { queue: self.small()? },
            3 => Record::NextNumber(self.number()?),
            4 => Record::Pushed(self.pushed()?),
            5 => {
                let (queue, number, until_ms) = (self.small()?, self.number()?, self.number()?);
                let (bound, token, worker) = (self.flag()?, self.token()?, self.text()?);
                Record::Leased { queue, number, token, until_ms, bound, worker }
            }
            6 => Record::Extended { queue: self.small()?, number: self.number()?, until_ms: self.number()? },
            7 => Record::Acked { queue: self.small()?, number: self.number()?, at_ms: self.number()? },
            8 => {
                let (queue, number, how) =
                    (self.small()?, self.number()?, Return::from_number(self.number()?)?);
                Record::Returned { queue, number, how, due_ms: self.optional()?, reason: self.text()? }
            }
            9 => {
                let (queue, number, how) =
                    (self.small()?, self.number()?, Return::from_number(self.number()?)?);
                Record::Died { queue, number, how, moved: self.flag()?, reason: self.text()? }
            }
            10 => Record::Redriven { queue: self.small()?, number: self.number()? },
            11 => Record::Deleted { queue: self.small()?, number: self.number()? },
            12 => Record::Drained { queue: self.small()? },
            13 => {
                let (state, attempts) = (State::from_number(self.byte()?)?, self.small()?);
                let (reason, at_ms, bound) = (self.text()?, self.number()?, self.flag()?);
                let (token, worker, item) = (self.token()?, self.text()?, self.pushed()?);
                Record::Moved(Moved { item, state, attempts, reason, at_ms, token, bound, worker })
            }
            14 => {
                let (queue, number, at_ms) = (self.small()?, self.number()?, self.number()?);
                Record::KeyKept { queue, number, at_ms, key: self.text()?? }
            }
            _ => return None,
        };
        // A body is the last field of the records that have one.
        let body = match &record {
            Record::Pushed(pushed) | Record::Moved(Moved { item: pushed, .. }) => self.at - pushed.body.len(),
            _ => self.at,
        };
        Some((record, body))
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
        let counters = Counters { pushed: 1, removed: 1 << 40, ..Counters::default() };
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
                state: State::Leased,
                attempts: 2,
                reason: Some("r"),
                at_ms: 8,
                token,
                bound: false,
                worker: None,
            }),
            Record::KeyKept { queue, key: "k", number, at_ms: 1 },
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

    /// A queued that one goes back to must be able to read what this one wrote.
    #[test]
    fn whoever_changes_these_bytes_changes_the_version_of_the_segments() {
        let mut group = Vec::new();
        for record in one_of_each() {
            record.encode(&mut group);
        }
        assert_eq!(
            (crate::log::segment::VERSION, group.len(), crc32fast::hash(&group)),
            (1, 233, 0x49d7_6f4e)
        );
    }

    #[test]
    fn a_record_of_a_hundred_bytes_costs_little_more() {
        let (mut push, mut rest) = (Vec::new(), Vec::new());
        let body = [b'x'; 100];
        Record::Pushed(Pushed { number: 1_000_000, due_ms: None, key: None, ..pushed(&body) })
            .encode(&mut push);
        let (queue, number, until_ms) = (3, 1_000_000, 1_770_000_000_123);
        Record::Leased { queue, number, token: Token(1), until_ms, bound: false, worker: None }
            .encode(&mut rest);
        Record::Acked { queue, number, at_ms: until_ms }.encode(&mut rest);
        assert!(push.len() <= 116 && rest.len() <= 34, "{} {}", push.len(), rest.len());
    }

    proptest! {
        /// The checksum should keep such things away, but the reader must stand on its own.
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
