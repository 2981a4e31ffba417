//! Pushes items: checks the limits, and finds keys by which a repeated push gives the same item.

use super::{Core, Journal, Turn};
use crate::engine::contract::{EngineError, Limits, NewItem};
use crate::engine::item::{Extra, ItemId, State};
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
        // Must come first, so that a push with a forgotten key makes a new item in every respect.
        if let Some(queue) = self.names.get(name).and_then(|number| self.queues.get_mut(number)) {
            queue.forget_keys(turn.now_ms);
        }
        self.admit(name, &items, turn.limits)?;
        let number = self.ensure(name, turn)?;
        let mut ids = Vec::with_capacity(items.len());
        for item in items {
            let known = item.key.as_ref().and_then(|key| self.queues.get(&number)?.known(key));
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
    pub(super) fn admit(&self, name: &str, items: &[NewItem], limits: &Limits) -> Result<(), EngineError> {
        let queue = self.queue(name).ok();
        let known = |item: &&NewItem| match (queue, &item.key) {
            (Some(queue), Some(key)) => queue.known(key).is_some(),
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
        let held = queue.backlog() + queue.tally(State::Dead);
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
        self.leave_drained(queue, turn.journal);
        let number = self.next_number;
        let due_ms = (new.delay_ms > 0).then(|| turn.now_ms.saturating_add(new.delay_ms));
        let pushed = Pushed {
            queue,
            number,
            pushed_ms: turn.now_ms,
            due_ms,
            key: new.key.as_deref(),
            content_type: new.content_type.as_deref(),
            body: &new.body,
        };
        let place = turn.journal.append(&Record::Pushed(pushed));
        let len = u32::try_from(new.body.len()).unwrap_or(u32::MAX);
        let extra = Extra { key: new.key, content_type: new.content_type, reason: None }.boxed();
        self.put_pushed(queue, number, turn.now_ms, due_ms, Some(new.body), len, extra, place);
        self.id(number)
    }
}
