//! Pushes items: checks the limits, and finds keys by which a repeated push gives the same item.

use super::{Core, Journal, Turn};
use crate::engine::contract::{EngineError, Limits, NewItem};
use crate::engine::item::{ItemId, ItemState};
use crate::engine::record::{Pushed, Record};

impl Core {
    /// Pushes the whole batch, or rejects all of it. Returns each item's id, and true for an item that
    /// existed before.
    pub fn push(
        &mut self,
        name: &str,
        items: Vec<NewItem>,
        seal: bool,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<Vec<(ItemId, bool)>, EngineError> {
        self.admit(name, &items, turn.now_ms, turn.limits)?;
        let number = self.ensure(name, turn)?;
        let mut ids = Vec::with_capacity(items.len());
        for item in items {
            let known = item.key.as_ref().and_then(|key| self.queues.get(&number)?.known(key, turn.now_ms));
            match known {
                Some(known) => ids.push((self.id(known), true)),
                None => ids.push((self.push_one(number, item, turn), false)),
            }
        }
        if seal {
            self.seal(name, true, turn)?;
        }
        Ok(ids)
    }

    /// Refuses a push that exceeds a limit. Items whose key is known need no space: their push is answered
    /// with the first id, even after a seal.
    pub(super) fn admit(
        &self,
        name: &str,
        items: &[NewItem],
        now_ms: u64,
        limits: &Limits,
    ) -> Result<(), EngineError> {
        let queue = self.queue(name).ok();
        let known = |item: &&NewItem| match (queue, &item.key) {
            (Some(queue), Some(key)) => queue.known(key, now_ms).is_some(),
            _ => false,
        };
        let new = items.iter().filter(|item| !known(item)).map(|item| item.body.len() as u64);
        let (count, bytes) =
            new.fold((0, 0u64), |(count, bytes), len| (count + 1, bytes.saturating_add(len)));
        limits.check_memory(&self.usage, count, bytes)?;
        let Some(queue) = queue else { return Ok(()) };
        if queue.sealed && count > 0 {
            return Err(EngineError::Sealed(name.to_owned()));
        }
        let room = |max: u64, used: u64, more: u64| max == 0 || used.saturating_add(more) <= max;
        let held = queue.backlog() + queue.tally(ItemState::Dead);
        if !room(queue.policy.max_items, held, count) {
            let max = queue.policy.max_items;
            return Err(EngineError::Full(format!("queue {name:?} may hold {max} items (max_items)")));
        }
        if !room(queue.policy.max_bytes, queue.body_bytes(), bytes) {
            let max = queue.policy.max_bytes;
            return Err(EngineError::Full(format!("queue {name:?} may hold {max} bytes (max_bytes)")));
        }
        Ok(())
    }

    pub(super) fn push_one(&mut self, queue: u32, new: NewItem, turn: &mut Turn<'_, impl Journal>) -> ItemId {
        self.leave_drained(queue, turn);
        let NewItem { body, key, content_type, delay_ms } = new;
        let number = self.next_number;
        let pushed = Pushed {
            queue,
            number,
            pushed_ms: turn.now_ms,
            due_ms: (delay_ms > 0).then(|| turn.now_ms.saturating_add(delay_ms)),
            key: key.as_deref(),
            content_type: content_type.as_deref(),
            body: &[],
        };
        let place = turn.journal.append(&Record::Pushed(Pushed { body: &body, ..pushed }));
        let len = body.len();
        self.put_pushed(&pushed, Some(body), len, place);
        if turn.limits.spills {
            self.added.push((queue, number, place));
        }
        self.id(number)
    }
}
