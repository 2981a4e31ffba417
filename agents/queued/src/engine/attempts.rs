//! The last attempts of items whose lease ended without an ack at least once, for people who look for the
//! reason.

use super::record::Return;
use std::collections::BTreeMap;

/// Limit on the attempts that are kept of one item; older ones are forgotten first.
pub const ATTEMPTS_KEPT: usize = 8;
/// Limit on the items whose attempts are kept, over all queues: at most about 15 MB. Beyond it, the attempts
/// of the oldest item are forgotten.
const ITEMS_MAX: usize = 4096;
/// Limit on the reason of one attempt; the item itself keeps the whole last reason.
const REASON_BYTES_MAX: usize = 256;

/// One lease of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counts from 1; a released attempt gives its number to the next one.
    pub number: u32,
    pub worker: Option<Box<str>>,
    /// The time of the lease, if the log has it.
    pub leased_ms: Option<u64>,
    /// `None` while the lease is held.
    pub end: Option<AttemptEnd>,
}

/// The end of a lease without an ack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEnd {
    pub how: Ended,
    /// The time of the end, if the log has it.
    pub at_ms: Option<u64>,
    pub reason: Option<Box<str>>,
    /// The fate of the item, if this was its last attempt.
    pub fate: Option<Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Nacked,
    Expired,
    Released,
    /// The connection that held the lease ended.
    Disconnected,
}

impl Ended {
    pub fn new(how: Return, bound_to_connection: bool) -> Ended {
        match how {
            Return::Nacked => Ended::Nacked,
            Return::Expired => Ended::Expired,
            Return::Released if bound_to_connection => Ended::Disconnected,
            Return::Released => Ended::Released,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Ended::Nacked => "nacked",
            Ended::Expired => "expired",
            Ended::Released => "released",
            Ended::Disconnected => "disconnected",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Dead,
    /// The item was moved to the dead-letter queue.
    Moved,
}

impl Fate {
    pub fn name(self) -> &'static str {
        match self {
            Fate::Dead => "dead",
            Fate::Moved => "moved",
        }
    }
}

/// The ended attempts of all queues' items. Items that were never returned take no memory here.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Keyed by the item's number, which is unique over all queues.
    by_item: BTreeMap<u64, Vec<Attempt>>,
}

impl Attempts {
    pub fn of(&self, item: u64) -> &[Attempt] {
        self.by_item.get(&item).map_or(&[], Vec::as_slice)
    }

    pub fn add(&mut self, item: u64, mut attempt: Attempt) {
        if let Some(AttemptEnd { reason: Some(reason), .. }) = &mut attempt.end
            && reason.len() > REASON_BYTES_MAX
        {
            let mut cut = std::mem::take(reason).into_string();
            cut.truncate(cut.floor_char_boundary(REASON_BYTES_MAX));
            *reason = cut.into();
        }
        let attempts = self.by_item.entry(item).or_default();
        if attempts.len() == ATTEMPTS_KEPT {
            attempts.remove(0);
        }
        attempts.push(attempt);
        if self.by_item.len() > ITEMS_MAX {
            self.by_item.pop_first();
        }
    }

    /// Moves the attempts of an item to its copy in another queue.
    pub fn hand_on(&mut self, item: u64, copy: u64) {
        if let Some(attempts) = self.by_item.remove(&item) {
            self.by_item.insert(copy, attempts);
        }
    }

    pub fn forget(&mut self, item: u64) {
        self.by_item.remove(&item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nacked(number: u32, reason: &str) -> Attempt {
        let end = AttemptEnd { how: Ended::Nacked, at_ms: None, reason: Some(reason.into()), fate: None };
        Attempt { number, worker: None, leased_ms: None, end: Some(end) }
    }

    #[test]
    fn attempts_are_bounded_per_item_and_over_all() {
        let mut attempts = Attempts::default();
        for number in 1..=10 {
            attempts.add(7, nacked(number, "no"));
        }
        assert_eq!(attempts.of(7).iter().map(|a| a.number).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9, 10]);
        for item in 8..8 + ITEMS_MAX as u64 {
            attempts.add(item, nacked(1, "no"));
        }
        assert_eq!((attempts.of(7).len(), attempts.of(8).len(), attempts.by_item.len()), (0, 1, ITEMS_MAX));
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let mut attempts = Attempts::default();
        attempts.add(1, nacked(1, &"ä".repeat(200)));
        attempts.add(1, nacked(2, &format!("x{}", "ä".repeat(200))));
        let lens = attempts.of(1).iter().map(|a| a.end.as_ref().unwrap().reason.as_ref().unwrap().len());
        assert_eq!(lens.collect::<Vec<_>>(), [256, 255]);
    }
}
