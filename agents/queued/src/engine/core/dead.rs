//! Items that failed their last attempt: kept as dead or moved, then redriven or deleted.

use super::{Core, Journal, Turn};
use crate::engine::contract::{NewItem, Refusal};
use crate::engine::item::{ItemId, State};
use crate::engine::queue::Queue;
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
        self.write(&Record::Died { queue, number, how, moved: copy.is_some(), reason }, turn.journal);
        self.attempts.set_end(copy.unwrap_or(number), turn.now_ms);
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
        self.copied.push((target, copy.number));
        Some(copy.number)
    }

    /// Redrives or deletes dead items, all or those with these ids; returns how many.
    pub fn bury_or_redrive(
        &mut self,
        name: &str,
        ids: Option<&[ItemId]>,
        redrive: bool,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<u64, Refusal> {
        let q = self.queue(name)?;
        let queue = q.number;
        let numbers: Vec<u64> = match ids {
            None => q.numbers_in(&[State::Dead]),
            Some(ids) => ids.iter().filter(|id| id.epoch == self.epoch).map(|id| id.number).collect(),
        };
        let mut count = 0;
        for number in numbers {
            let dead = |q: &Queue| q.items().get(number).is_some_and(|item| item.state == State::Dead);
            if self.queues.get(&queue).is_some_and(dead) {
                count += 1;
                let record = match redrive {
                    true => Record::Redriven { queue, number },
                    false => Record::Deleted { queue, number },
                };
                self.write(&record, turn.journal);
            }
        }
        Ok(count)
    }
}
