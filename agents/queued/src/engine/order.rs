//! The order of a queue's items: ready ones by their push, delayed and leased ones by their time.

use super::item::ItemState;
use std::collections::{BTreeSet, VecDeque};

#[derive(Debug, Default)]
pub struct Order {
    /// False while a log is read: the order is built once at the end.
    kept: bool,
    /// Ready items in the order of their push.
    fresh: VecDeque<u64>,
    /// Ready items that were leased, delayed or dead before, so that they become ready out of order.
    returned: BTreeSet<u64>,
    /// Delayed and leased items by time.
    timed: BTreeSet<(u64, u64)>,
}

impl Order {
    pub fn new(kept: bool) -> Order {
        Order { kept, ..Order::default() }
    }

    pub fn add(&mut self, number: u64, state: ItemState, at_ms: u64) {
        if !self.kept {
            return;
        }
        match state {
            ItemState::Ready if self.fresh.back().is_none_or(|last| *last < number) => {
                self.fresh.push_back(number);
            }
            ItemState::Ready => {
                self.returned.insert(number);
            }
            ItemState::Delayed | ItemState::Leased => {
                self.timed.insert((at_ms, number));
            }
            ItemState::Dead => {}
        }
    }

    pub fn remove(&mut self, number: u64, state: ItemState, at_ms: u64) {
        if !self.kept {
            return;
        }
        match state {
            ItemState::Ready if self.fresh.front() == Some(&number) => {
                self.fresh.pop_front();
                if self.fresh.is_empty() {
                    self.fresh.shrink_to(64);
                }
            }
            ItemState::Ready if self.returned.remove(&number) => {}
            ItemState::Ready => {
                if let Ok(at) = self.fresh.binary_search(&number) {
                    self.fresh.remove(at);
                }
            }
            ItemState::Delayed | ItemState::Leased => {
                self.timed.remove(&(at_ms, number));
            }
            ItemState::Dead => {}
        }
    }

    /// Returns the ready item with the lowest number.
    pub fn next(&self) -> Option<u64> {
        match (self.fresh.front(), self.returned.first()) {
            (Some(fresh), Some(returned)) => Some(*fresh.min(returned)),
            (fresh, returned) => fresh.or(returned).copied(),
        }
    }

    /// Returns the item that is due first, with its time.
    pub fn first_due(&self) -> Option<(u64, u64)> {
        self.timed.first().copied()
    }
}
