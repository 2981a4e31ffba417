//! Decodes records from bytes that may be damaged or foreign.

use super::{Moved, NO_QUEUE, Pushed, QueueRecord, Record, Return};
use crate::engine::counters::Counters;
use crate::engine::item::{ItemState, Token};
use crate::engine::policy::Policy;

/// A record that cannot be read: it is damaged, or a later version wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record at byte {at} of its group is invalid")]
pub struct Malformed {
    pub at: usize,
}

impl Record<'_> {
    /// Reads the records of a group one after the other, each with the place of its body within the group.
    pub fn decode_all(bytes: &[u8]) -> impl Iterator<Item = Result<(Record<'_>, usize), Malformed>> {
        let mut reader = RecordReader { all: bytes, at: 0 };
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

struct RecordReader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> RecordReader<'a> {
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
            // The tenth byte has room for only one bit.
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
        let count_next = self.optional()?;
        let mut counters = Counters::from_each(|| self.number())?;
        if flags & 8 != 0 {
            (counters.moved, counters.lost) = (Some(self.number()?), self.number()?);
        }
        Some(QueueRecord {
            queue,
            name,
            policy,
            sealed: flags & 1 != 0,
            seal_used: flags & 2 != 0,
            held: flags & 4 != 0,
            count_next,
            counters,
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
            7 => match (self.small()?, self.number()?, self.number()?) {
                (NO_QUEUE, 0, now_ms) => Record::Time(now_ms),
                (queue, number, at_ms) => Record::Acked { queue, number, at_ms },
            },
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
            10 => match (self.small()?, self.number()?) {
                (NO_QUEUE, number) => Record::HandedOn { number },
                (queue, number) => Record::Redriven { queue, number },
            },
            11 => Record::Deleted { queue: self.small()?, number: self.number()? },
            12 => Record::Drained { queue: self.small()? },
            13 => {
                let (state, attempts) = (ItemState::from_number(self.byte()?)?, self.small()?);
                let (reason, at_ms, bound) = (self.text()?, self.number()?, self.flag()?);
                let (token, worker, item) = (self.token()?, self.text()?, self.pushed()?);
                Record::Moved(Moved { item, state, attempts, reason, at_ms, token, bound, worker })
            }
            14 => {
                let (queue, number, at_ms) = (self.small()?, self.number()?, self.number()?);
                Record::KeyKept { queue, number, at_ms, key: self.text()?? }
            }
            15 => Record::Round { queue: self.small()?, moved: self.number()? },
            16 => Record::Paused { queue: self.small()?, paused: self.flag()? },
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
