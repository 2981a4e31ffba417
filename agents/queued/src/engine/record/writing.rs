//! Encodes records as the bytes of the log.

use super::{NO_QUEUE, Pushed, Record};
use crate::engine::policy::Policy;

impl Record<'_> {
    /// Appends the record; returns the position of its body, for records that have one.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        match self {
            Record::Time(now_ms) => tagged(out, 7, &[NO_QUEUE.into(), 0, *now_ms]),
            Record::HandedOn { number } => tagged(out, 10, &[NO_QUEUE.into(), *number]),
            Record::Queue(q) => {
                out.push(1);
                number(out, q.queue.into());
                text(out, Some(&q.name));
                encode_policy(out, &q.policy);
                let counts_moved = q.counters.moved.is_some();
                let flags = [q.sealed, q.seal_used, q.held, counts_moved];
                out.push(flags.iter().rev().fold(0, |flags, flag| flags << 1 | u8::from(*flag)));
                optional(out, q.count_next);
                q.counters.each(|value| number(out, value));
                if let Some(moved) = q.counters.moved {
                    number(out, moved);
                    number(out, q.counters.lost);
                }
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
            Record::Round { queue, moved } => tagged(out, 15, &[(*queue).into(), *moved]),
            Record::Paused { queue, paused } => tagged(out, 16, &[(*queue).into(), u64::from(*paused)]),
        }
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f).to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Encodes an absent value as 0, any other as the value plus 1.
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
