//! Compares a state with the one that a later fold over its log reaches.

use super::tape::Tape;
use super::{Both, LIMITS};
use crate::engine::core::{Core, Turn};
use crate::engine::item::State;
use crate::engine::queue::{Queue, When};
use std::collections::BTreeMap;

/// Formats every field of a queue that a fold over the log must reproduce.
fn fields(core: &Core) -> Vec<String> {
    let one = |q: &Queue| {
        let items =
            q.items().iter().map(|item| (item.clone(), q.when(item.number).map(|w| w.until(w.at_ms))));
        let items =
            items.map(|(item, when)| format!("{item:?} {:?}", when.map(|w| When { held_ms: None, ..w })));
        let keys: Vec<_> = (0u8..6).map(|key| q.known(&key.to_string())).collect();
        let tallies = State::ALL.map(|state| q.tally(state));
        let flags = (q.sealed, q.seal_used, q.held, q.paused, q.counts_drains);
        let order = (q.next_ready(), q.next_due_ms(), q.oldest_ready_ms());
        let counts = (q.count_next, q.moved_in_round, q.body_bytes(), tallies, q.counters);
        let about = format!("{} {:?} {flags:?} {counts:?} {order:?} {keys:?}", q.name, q.policy);
        std::iter::once(about).chain(items).collect::<Vec<_>>().join("\n")
    };
    let usage = format!("{:?} {:?}", core.usage, core.epoch);
    let mut fields: Vec<_> = core.queues().map(one).chain([usage]).collect();
    fields.sort_unstable();
    fields
}

/// The queues by number. One that is only made while time passes may have another number elsewhere: the log
/// names the number with its first record.
fn numbers(core: &Core) -> BTreeMap<u32, String> {
    core.queues().map(|q| (q.number, q.name.to_string())).collect()
}

impl Both {
    /// A later fold over the log gives the same state, once the same time has passed for both.
    pub(super) fn fold_and_compare(&mut self) {
        let mut folded = self.tape.replay();
        assert_eq!(numbers(&self.core), numbers(&folded));
        for core in [&mut self.core, &mut folded] {
            let mut later =
                Turn { now_ms: self.model.now + 777, limits: &LIMITS, journal: &mut Tape::default() };
            while core.tick(3, &mut later) {}
            core.rewrite_keys(0, &mut later);
        }
        assert_eq!(fields(&self.core), fields(&folded));
        assert!(folded.latest_ms <= self.core.latest_ms, "the clock would go backwards");
    }
}
