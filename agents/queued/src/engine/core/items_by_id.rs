//! Deletes or moves items by id. Leased items stay with their workers.

use super::{Core, Journal, Turn};
use crate::engine::contract::{EngineError, NewItem};
use crate::engine::item::{Item, ItemId, ItemState};
use crate::engine::policy::check_name;
use crate::engine::queue::Queue;
use crate::engine::record::Record;

impl Core {
    /// Returns the chosen items that are not leased, each once, in the order of their push.
    fn chosen<'a>(&self, queue: &'a Queue, ids: &[ItemId]) -> Vec<&'a Item> {
        let mut numbers: Vec<u64> =
            ids.iter().filter(|id| id.epoch == self.epoch).map(|id| id.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let items = numbers.into_iter().filter_map(|number| queue.items().get(number));
        items.filter(|item| item.state != ItemState::Leased).collect()
    }

    /// Deletes items; returns the number of deleted ones.
    pub fn delete_items(
        &mut self,
        name: &str,
        ids: &[ItemId],
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<u64, EngineError> {
        let source = self.queue(name)?;
        let queue = source.number;
        let numbers: Vec<u64> = self.chosen(source, ids).into_iter().map(|item| item.number).collect();
        for &number in &numbers {
            self.write(&Record::Deleted { queue, number }, turn);
        }
        Ok(numbers.len() as u64)
    }

    /// Returns the bytes that a move of these items writes: the body of each item and `beyond_body` bytes.
    pub fn bytes_to_move(&self, name: &str, ids: &[ItemId], beyond_body: u64) -> u64 {
        let Ok(source) = self.queue(name) else { return 0 };
        self.chosen(source, ids).into_iter().map(|item| u64::from(item.len) + beyond_body).sum()
    }

    /// Moves items into another queue, as new items without attempts; returns the number of moved items. The
    /// first item is always moved, further ones only while all their bodies fit into one answer. An item
    /// whose key is known in the other queue stays.
    pub fn move_items(
        &mut self,
        name: &str,
        to: &str,
        ids: &[ItemId],
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<u64, EngineError> {
        check_name(to).map_err(EngineError::Invalid)?;
        if name == to {
            return Err(EngineError::Invalid(format!("the items are in queue {to:?} already")));
        }
        let (source, target) = (self.queue(name)?, self.queue(to).ok());
        let queue = source.number;
        let (mut numbers, mut copies, mut bytes) = (Vec::new(), Vec::new(), 0u64);
        for item in self.chosen(source, ids) {
            let known = |key: &str| target.is_some_and(|target| target.known(key, turn.now_ms).is_some());
            if item.key().is_some_and(known) {
                continue;
            }
            bytes = bytes.saturating_add(item.len.into());
            if bytes > turn.limits.answer_bytes_max && !copies.is_empty() {
                break;
            }
            let due_ms = source.when(item.number).map_or(0, |when| when.at_ms);
            numbers.push(item.number);
            copies.push(NewItem {
                body: turn.journal.body(item)?.into_owned().into(),
                key: item.key().map(Into::into),
                content_type: item.content_type().map(Into::into),
                delay_ms: due_ms.saturating_sub(turn.now_ms),
            });
        }
        if copies.is_empty() {
            return Ok(0);
        }
        self.admit(to, &copies, turn.now_ms, turn.limits)?;
        let target = self.ensure(to, turn)?;
        for (&number, copy) in numbers.iter().zip(copies) {
            self.push_one(target, copy, turn);
            if !self.attempts.of(number).is_empty() {
                self.write(&Record::HandedOn { number }, turn);
            }
            self.write(&Record::Deleted { queue, number }, turn);
        }
        Ok(numbers.len() as u64)
    }
}
