//! Items that failed their last attempt: kept as dead or moved, then redriven or deleted.

use super::{Core, Journal, Turn};
use crate::engine::contract::{EngineError, NewItem};
use crate::engine::item::{ItemId, ItemState};
use crate::engine::record::{Record, Return};

impl Core {
    #[allow(clippy::too_many_arguments, reason = "one end of an item")]
    pub(super) fn die(
        &mut self,
        queue: u32,
        number: u64,
        how: Return,
        reason: Option<&str>,
        turn: &mut Turn<'_, impl Journal>,
    ) {
        let copy = self.move_to_dead_letters(queue, number, turn);
        self.write(&Record::Died { queue, number, how, moved: copy.is_some(), reason }, turn);
    }

    /// Pushes a copy into the dead-letter queue, if one is configured and accepts it; returns its number.
    fn move_to_dead_letters(
        &mut self,
        queue: u32,
        number: u64,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Option<u64> {
        let q = self.queues.get(&queue)?;
        let name = q.policy.dead_letter_queue.clone().filter(|name| *name != q.name)?;
        let item = q.items().get(number)?;
        let content_type = item.content_type().map(Into::into);
        let (place, len, body) = (item.place, item.len, item.body.clone());
        if self.queue(&name).is_ok_and(|target| target.sealed) {
            return None;
        }
        let body = body.or_else(|| turn.journal.read(place, len).ok())?;
        let target = self.ensure(&name, turn).ok()?;
        let copy = self.push_one(target, NewItem { body, content_type, ..NewItem::default() }, turn);
        Some(copy.number)
    }

    /// Makes dead items ready again, all or those with these ids; returns the number of these items.
    pub fn redrive_dead(
        &mut self,
        name: &str,
        ids: Option<&[ItemId]>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<u64, EngineError> {
        self.for_each_dead(name, ids, turn, |queue, number| Record::Redriven { queue, number })
    }

    /// Deletes dead items, all or those with these ids; returns the number of deleted ones.
    pub fn delete_dead(
        &mut self,
        name: &str,
        ids: Option<&[ItemId]>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<u64, EngineError> {
        self.for_each_dead(name, ids, turn, |queue, number| Record::Deleted { queue, number })
    }

    /// Writes a record for each of these dead items; returns the number of them.
    fn for_each_dead(
        &mut self,
        name: &str,
        ids: Option<&[ItemId]>,
        turn: &mut Turn<'_, impl Journal>,
        record: impl Fn(u32, u64) -> Record<'static>,
    ) -> Result<u64, EngineError> {
        let (queue, numbers) = self.dead(name, ids)?;
        for &number in &numbers {
            self.write(&record(queue, number), turn);
        }
        Ok(numbers.len() as u64)
    }

    /// Returns the number of the queue, and the numbers of its dead items, all or those with these ids, each
    /// once.
    fn dead(&self, name: &str, ids: Option<&[ItemId]>) -> Result<(u32, Vec<u64>), EngineError> {
        let queue = self.queue(name)?;
        let Some(ids) = ids else { return Ok((queue.number, queue.numbers_in(&[ItemState::Dead]))) };
        let mut numbers: Vec<u64> =
            ids.iter().filter(|id| id.epoch == self.epoch).map(|id| id.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| queue.items().get(*number).is_some_and(|item| item.state == ItemState::Dead));
        Ok((queue.number, numbers))
    }
}
