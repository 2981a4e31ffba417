//! Compares the counters with the items: every pushed item is still here, or a counter says where it went.

use super::Core;
use crate::engine::counters::Counters;
use crate::engine::queue::Queue;

/// The result of comparing the items of a queue with its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    Even,
    /// Items that are gone, and no counter knows why.
    Missing(u64),
    /// Items that are here, although they were counted as gone.
    Surplus(u64),
}

/// A queue whose items do not agree with its counters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("queue {queue:?} holds {held} items, {}: {counted}", describe(*balance))]
pub struct Imbalance {
    pub queue: Box<str>,
    pub held: u64,
    pub balance: Balance,
    counted: String,
}

fn describe(balance: Balance) -> String {
    match balance {
        Balance::Even => "as it counted".to_owned(),
        Balance::Missing(items) => format!("{items} fewer than it counted"),
        Balance::Surplus(items) => format!("{items} more than it counted"),
    }
}

/// Returns the lowest and the highest number of items that the counters allow. They differ for a log of
/// version 1, which does not count everything.
fn expected(queue: &Queue) -> (i128, i128) {
    let Counters { pushed, acked, removed, died, drained, moved, lost, .. } = queue.counters;
    let sum = |counts: &[u64]| counts.iter().map(|count| i128::from(*count)).sum::<i128>();
    let most = i128::from(pushed) - sum(&[acked, removed, lost, moved.unwrap_or(0)]);
    let least = match (queue.counts_drains, moved) {
        (false, _) => i128::MIN,
        // Version 1 forgot items that were drained shortly before a restart.
        (true, None) if drained > 0 => i128::MIN,
        (true, Some(_)) => most,
        (true, None) => most - i128::from(died),
    };
    (least, most)
}

fn balance(queue: &Queue) -> Balance {
    let held = queue.items().len() as i128;
    let (least, most) = expected(queue);
    let count = |difference: i128| u64::try_from(difference).unwrap_or(u64::MAX);
    if held < least {
        Balance::Missing(count(least - held))
    } else if held > most {
        Balance::Surplus(count(held - most))
    } else {
        Balance::Even
    }
}

impl Core {
    /// Returns the queues whose counters and items disagree; a complete log has none.
    pub fn imbalances(&self) -> impl Iterator<Item = Imbalance> {
        let uneven = self.queues().filter(|queue| balance(queue) != Balance::Even);
        uneven.map(|queue| {
            let Counters { pushed, acked, removed, died, moved, lost, .. } = queue.counters;
            let moved = moved.map_or("unknown".to_owned(), |moved| moved.to_string());
            Imbalance {
                queue: queue.name.clone(),
                held: queue.items().len() as u64,
                balance: balance(queue),
                counted: format!(
                    "pushed {pushed}, acked {acked}, removed {removed}, died {died}, \
                     moved to a dead-letter queue {moved}, lost {lost}"
                ),
            }
        })
    }

    /// Makes the counters agree with the items: missing ones count as lost, surplus ones as pushed again.
    pub fn settle_counters(&mut self) {
        for queue in self.queues.values_mut() {
            let (held, balance) = (queue.items().len() as i128, balance(queue));
            let (_, most) = expected(queue);
            let counters = &mut queue.counters;
            match balance {
                Balance::Even => {}
                Balance::Missing(items) => counters.lost = counters.lost.saturating_add(items),
                Balance::Surplus(items) => counters.pushed = counters.pushed.saturating_add(items),
            }
            // Version 1 did not count moved and drained items. Any number of the dead items may have moved; a
            // drain removed the rest.
            let open = match balance {
                Balance::Missing(items) => most - held - i128::from(items),
                _ => (most - held).max(0),
            };
            let open = u64::try_from(open).unwrap_or(u64::MAX);
            let moved = open.min(if counters.moved.is_none() { counters.died } else { 0 });
            counters.removed = counters.removed.saturating_add(open - moved);
            counters.moved = Some(counters.moved.unwrap_or(0).saturating_add(moved));
            queue.counts_drains = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::item::BodyPlace;
    use crate::engine::record::{Pushed, Record};

    fn pushed(number: u64) -> Record<'static> {
        let (queue, pushed_ms, due_ms, body) = (1, 1, None, b"x");
        Record::Pushed(Pushed { queue, number, pushed_ms, due_ms, key: None, content_type: None, body })
    }

    fn queue(counters: Counters) -> Record<'static> {
        let mut queue = Queue::new(1, "q", false);
        queue.counters = counters;
        queue.records().next().unwrap()
    }

    fn read(records: &[Record<'_>]) -> Core {
        let mut core = Core::reading(1, 1);
        records.iter().for_each(|record| core.apply(record, BodyPlace::default()));
        core.finish_reading();
        core
    }

    fn balances(core: &Core) -> Vec<Balance> {
        core.imbalances().map(|imbalance| imbalance.balance).collect()
    }

    #[test]
    fn missing_and_surplus_items_are_noticed_and_settled() {
        let exact = Counters { moved: Some(0), ..Counters::default() };
        for (counters, items, balance) in [
            (Counters { pushed: 4, acked: 1, ..exact }, 1, Balance::Missing(2)),
            (Counters { pushed: 4, acked: 3, removed: 1, ..exact }, 2, Balance::Surplus(2)),
            (Counters { pushed: 4, died: 3, moved: Some(2), ..exact }, 1, Balance::Missing(1)),
        ] {
            let before = queue(Counters { pushed: counters.pushed - items, ..counters });
            let mut core = read(&[vec![before], (1..=items).map(pushed).collect()].concat());
            assert_eq!(balances(&core), [balance], "{counters:?}");
            core.settle_counters();
            assert_eq!(balances(&core), [], "{counters:?}");
        }
    }

    #[test]
    fn version_1_is_believed_as_far_as_it_counted() {
        let counters = Counters { pushed: 2, died: 1, ..Counters::default() };
        let mut moved = read(&[queue(counters), pushed(1), pushed(2)]);
        assert_eq!(balances(&moved), [Balance::Missing(1)], "one of four may have moved");
        moved.settle_counters();
        assert_eq!(balances(&moved), []);
        let mut drained = read(&[queue(counters), Record::Drained { queue: 1 }]);
        assert_eq!(balances(&drained), [], "nobody knows how many that were");
        drained.settle_counters();
        let counters = drained.queue("q").unwrap().counters;
        assert_eq!((counters.moved, counters.removed), (Some(1), 1));
        assert_eq!(balances(&drained), []);
        let forgotten = Counters { pushed: 9, drained: 2, removed: 2, ..Counters::default() };
        let mut drained = read(&[queue(forgotten)]);
        assert_eq!(balances(&drained), [], "a restart soon after a drain forgot the rest");
        drained.settle_counters();
        assert_eq!(balances(&drained), []);
    }
}
