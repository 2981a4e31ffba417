//! Orders the new lines of many nodes: each line waits a moment for earlier ones.

use jiff::Timestamp;
use kit::line_records::LineRecord;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The time that a line waits for earlier lines of other nodes.
const HELD_FOR: Duration = Duration::from_millis(500);
/// Limit on the bytes of waiting lines. The earliest ones do not wait any longer if there are more.
const HELD_BYTES_MAX: usize = 32 << 20;

/// The position of a line: its time, the number of its node, and its number.
type Position = (Timestamp, usize, u64);

struct HeldLine {
    arrived: Instant,
    line: LineRecord,
}

/// Lines that wait, in order.
pub struct HoldBack {
    held: BTreeMap<Position, HeldLine>,
    bytes: usize,
    /// The latest time of each node's lines: the lines of a node keep their order.
    latest: Vec<Timestamp>,
    next_number: u64,
}

impl HoldBack {
    pub fn new(nodes: usize) -> HoldBack {
        HoldBack { held: BTreeMap::new(), bytes: 0, latest: vec![Timestamp::MIN; nodes], next_number: 0 }
    }

    pub fn add(&mut self, node: usize, line: LineRecord, now: Instant) {
        let latest = &mut self.latest[node];
        *latest = line.time.map_or(*latest, |time| time.max(*latest));
        self.bytes += line.line.len();
        self.held.insert((*latest, node, self.next_number), HeldLine { arrived: now, line });
        self.next_number += 1;
    }

    /// Passes the lines that have waited long enough to `take`, and every line before them.
    pub fn release<E>(
        &mut self,
        now: Instant,
        take: impl FnMut(usize, LineRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let has_waited = |held: &HeldLine| now.saturating_duration_since(held.arrived) >= HELD_FOR;
        let last = self.held.iter().rev().find(|(_, held)| has_waited(held)).map(|(position, _)| *position);
        self.release_up_to(last, take)
    }

    /// Passes all lines to `take`.
    pub fn release_all<E>(&mut self, take: impl FnMut(usize, LineRecord) -> Result<(), E>) -> Result<(), E> {
        let last = self.held.last_key_value().map(|(position, _)| *position);
        self.release_up_to(last, take)
    }

    /// Returns the time until a line must be released; `None` if none waits.
    pub fn until_release(&self, now: Instant) -> Option<Duration> {
        let first = self.held.values().map(|held| held.arrived).min()?;
        Some(HELD_FOR.saturating_sub(now.saturating_duration_since(first)))
    }

    fn release_up_to<E>(
        &mut self,
        last: Option<Position>,
        mut take: impl FnMut(usize, LineRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(first) = self.held.first_entry()
            && (last.is_some_and(|last| *first.key() <= last) || self.bytes > HELD_BYTES_MAX)
        {
            let ((_, node, _), HeldLine { line, .. }) = first.remove_entry();
            self.bytes -= line.line.len();
            take(node, line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn line(second: i64, text: &str) -> LineRecord {
        let time = Timestamp::from_second(second).ok();
        LineRecord { time, origin: "".into(), line: text.as_bytes().to_vec() }
    }

    fn released(hold_back: &mut HoldBack, now: Instant) -> Vec<String> {
        let mut texts = Vec::new();
        let Ok(()) = hold_back.release(now, |_, line| {
            texts.push(String::from_utf8(line.line).unwrap());
            Ok::<(), Infallible>(())
        });
        texts
    }

    #[test]
    fn line_waits_for_earlier_ones() {
        let (mut hold_back, start) = (HoldBack::new(2), Instant::now());
        hold_back.add(0, line(2, "second"), start);
        hold_back.add(1, line(1, "first"), start + HELD_FOR / 2);
        hold_back.add(1, line(3, "third"), start + HELD_FOR / 2);
        assert!(released(&mut hold_back, start + HELD_FOR / 2).is_empty());
        assert_eq!(released(&mut hold_back, start + HELD_FOR), ["first", "second"]);
        assert_eq!(released(&mut hold_back, start + HELD_FOR * 2), ["third"]);
    }

    #[test]
    fn flood_does_not_wait() {
        let (mut hold_back, now) = (HoldBack::new(1), Instant::now());
        for second in 0..3 {
            hold_back.add(0, line(second, &"x".repeat(HELD_BYTES_MAX / 2)), now);
        }
        assert_eq!(released(&mut hold_back, now).len(), 1);
    }

    proptest! {
        #[test]
        fn lines_of_a_node_keep_their_order(lines in prop::collection::vec((0usize..3, 0i64..20, 0u64..300), 0..60)) {
            let (mut hold_back, mut now) = (HoldBack::new(3), Instant::now());
            let (mut taken, mut added) = (vec![Vec::new(); 3], vec![Vec::new(); 3]);
            let mut take = |node: usize, line: LineRecord| {
                taken[node].push(line);
                Ok::<(), Infallible>(())
            };
            for (number, (node, second, wait)) in lines.into_iter().enumerate() {
                let line = line(second, &number.to_string());
                added[node].push(line.clone());
                hold_back.add(node, line, now);
                now += Duration::from_millis(wait);
                let Ok(()) = hold_back.release(now, &mut take);
            }
            let Ok(()) = hold_back.release_all(&mut take);
            prop_assert_eq!(taken, added);
        }
    }
}
