//! The engine's commands, such as push, settle and delete. Each is carried out at once, and answered when it
//! is durable.

use super::views::{Search, item_view, view, view_of};
use super::{Engine, EngineState, RECORD_BYTES_MAX, Ticket, durable};
use crate::commit::Room;
use crate::commit::tail::Tail;
use crate::engine::contract::{
    EngineError, EngineView, ItemView, Look, Looked, NewItem, QueueView, SettleAction, Settled, Settlement,
};
use crate::engine::core::{Core, Journal, NackTerms, Turn};
use crate::engine::item::{ItemId, ItemState};
use crate::engine::policy::PolicyChange;
use std::time::Duration;
use tokio::sync::watch;

/// Approximate log bytes of moving an item, beyond its body: a push with its texts, and a deletion.
const MOVE_BYTES: u64 = 512;

/// Limit on the wait of a read-only request for the disk.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Acts on the state and waits until that is durable, if `act` took a ticket.
    async fn change<R>(
        &self,
        act: impl FnOnce(&mut EngineState) -> Result<(R, Ticket), EngineError>,
    ) -> Result<R, EngineError> {
        let (result, ticket) = self.0.act(act)?;
        durable(ticket).await?;
        Ok(result)
    }

    /// Carries out a command and waits until it is durable.
    async fn command<R>(
        &self,
        bytes: u64,
        act: impl FnOnce(&mut Core, &mut Turn<'_, Tail>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        self.change(|state| Ok((state.turn(bytes, act)?, state.tail.ticket()))).await
    }

    fn read<R>(
        &self,
        act: impl FnOnce(&mut EngineState) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        act(&mut self.0.lock())
    }

    /// Answers a read-only request once what it shows is durable. A power loss should not undo what a client
    /// has seen, least of all a drained queue. But a hanging disk must not block reads, so the wait is
    /// limited.
    async fn look_at<R>(
        &self,
        act: impl FnOnce(&mut EngineState) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let (seen, ticket) = self.0.act(|state| {
            let seen = act(state)?;
            Ok((seen, if state.tail.is_failing() { None } else { state.tail.ticket() }))
        })?;
        let _ = tokio::time::timeout(LOOK_PATIENCE, durable(ticket)).await;
        Ok(seen)
    }

    /// Waits until the log has space for a push beyond what acks need. Fails if no space is expected.
    async fn room_for(&self, bytes: u64) -> Result<(), EngineError> {
        loop {
            let told = self.0.room.notified();
            let room = {
                let mut state = self.0.lock();
                let room = state.tail.room_for(bytes);
                if room == Room::Soon {
                    // A refused command may have begun a segment without waking the commit path.
                    self.0.commit_soon(&mut state);
                }
                room
            };
            match room {
                Room::Ready => return Ok(()),
                Room::Refused(why) => return Err(EngineError::NoSpace(why)),
                Room::Soon => told.await,
            }
        }
    }
}

impl Engine {
    /// Pushes all items or none, and creates the queue if it does not exist. Returns each item's id, and true
    /// for an item whose key was known.
    pub async fn push(
        &self,
        queue: &str,
        items: Vec<NewItem>,
        seal: bool,
    ) -> Result<Vec<(ItemId, bool)>, EngineError> {
        let texts = |item: &NewItem| {
            let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
            (item.body.len() + text(&item.key) + text(&item.content_type)) as u64 + RECORD_BYTES_MAX
        };
        let bytes = items.iter().map(texts).sum();
        self.room_for(bytes).await?;
        self.command(bytes, |core, turn| core.push(queue, items, seal, turn)).await
    }

    /// Carries out each settlement separately. The leases of a deleted queue are lost.
    pub async fn settle(
        &self,
        queue: &str,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<Settled>, EngineError> {
        let only_extends = settlements.iter().all(|s| matches!(s.action, SettleAction::Extend { .. }));
        self.change(|state| {
            let results = settle_all(state, queue, &settlements);
            Ok((results, if only_extends { None } else { state.tail.ticket() }))
        })
        .await
    }

    /// Creates or configures the queue. True if it was created.
    pub async fn configure(
        &self,
        queue: &str,
        change: PolicyChange,
    ) -> Result<(bool, QueueView), EngineError> {
        let created =
            self.command(RECORD_BYTES_MAX * 4, |core, turn| core.configure(queue, &change, turn)).await?;
        Ok((created, self.read(|state| view_of(state, queue))?))
    }

    pub async fn count_from(&self, queue: &str, first: u64) -> Result<(), EngineError> {
        self.command(RECORD_BYTES_MAX * 4, |core, turn| core.count_from(queue, first, turn)).await
    }

    pub async fn delete(&self, queue: &str) -> Result<(), EngineError> {
        self.command(RECORD_BYTES_MAX, |core, turn| core.delete(queue, turn)).await
    }

    pub async fn seal(&self, queue: &str, sealed: bool) -> Result<QueueView, EngineError> {
        self.command(RECORD_BYTES_MAX * 4, |core, turn| core.seal(queue, sealed, turn)).await?;
        self.read(|state| view_of(state, queue))
    }

    /// Pauses or resumes the queue; nothing is leased from a paused queue.
    pub async fn pause(&self, queue: &str, paused: bool) -> Result<QueueView, EngineError> {
        self.command(RECORD_BYTES_MAX, |core, turn| core.pause(queue, paused, turn)).await?;
        self.read(|state| view_of(state, queue))
    }

    pub async fn drain(&self, queue: &str) -> Result<u64, EngineError> {
        self.command(RECORD_BYTES_MAX, |core, turn| core.drain(queue, turn)).await
    }

    pub async fn redrive_dead(&self, queue: &str, ids: Option<Vec<ItemId>>) -> Result<u64, EngineError> {
        let bytes = ids.as_ref().map_or(1000, Vec::len) as u64 * RECORD_BYTES_MAX;
        self.command(bytes, |core, turn| core.redrive_dead(queue, ids.as_deref(), turn)).await
    }

    pub async fn delete_dead(&self, queue: &str, ids: Option<Vec<ItemId>>) -> Result<u64, EngineError> {
        let bytes = ids.as_ref().map_or(1000, Vec::len) as u64 * RECORD_BYTES_MAX;
        self.command(bytes, |core, turn| core.delete_dead(queue, ids.as_deref(), turn)).await
    }

    /// Deletes these items, except leased ones; returns the number of deleted items.
    pub async fn delete_items(&self, queue: &str, ids: Vec<ItemId>) -> Result<u64, EngineError> {
        let bytes = ids.len() as u64 * RECORD_BYTES_MAX;
        self.command(bytes, |core, turn| core.delete_items(queue, &ids, turn)).await
    }

    /// Moves these items into another queue, except leased ones and those whose key is known there. May stop
    /// after the first ones; returns the number of moved items.
    pub async fn move_items(&self, queue: &str, to: &str, ids: Vec<ItemId>) -> Result<u64, EngineError> {
        let most = ids.len() as u64 * MOVE_BYTES;
        let bytes = self.read(|state| {
            let most = most.saturating_add(state.limits.answer_bytes_max);
            Ok(state.core.bytes_to_move(queue, &ids, MOVE_BYTES).min(most))
        })?;
        self.room_for(bytes).await?;
        self.command(bytes, |core, turn| core.move_items(queue, to, &ids, turn)).await
    }

    pub async fn queue(&self, queue: &str) -> Result<QueueView, EngineError> {
        self.look_at(|state| view_of(state, queue)).await
    }

    /// Lists the queues in order of name.
    pub async fn queues(&self) -> Result<Vec<QueueView>, EngineError> {
        self.look_at(|state| Ok(state.core.queues().map(|queue| view(state, queue)).collect())).await
    }

    pub async fn look(&self, queue: &str, look: Look) -> Result<Looked, EngineError> {
        let mut search = Search::new(look);
        loop {
            if let Some(looked) = self.read(|state| search.go_on(state, queue))? {
                return Ok(looked);
            }
            tokio::task::yield_now().await;
        }
    }

    pub async fn item(&self, queue: &str, id: ItemId) -> Result<ItemView, EngineError> {
        self.read(|state| {
            let EngineState { core, tail, clock, .. } = state;
            let place = core.queue(queue)?;
            let item = place.items().get(id.number).filter(|_| id.epoch == core.epoch);
            let item = item.ok_or_else(|| EngineError::NoSuchItem(queue.to_owned(), id))?;
            let view = item_view(core, clock.now_ms(), place, item, tail.body(item)?);
            Ok(ItemView { history: core.attempts(place, item), ..view })
        })
    }

    pub async fn view(&self) -> Result<EngineView, EngineError> {
        self.read(|state| Ok(self.0.engine_view(state)))
    }

    /// Returns all figures as they are now. Does not wait for the disk, because a scrape cannot wait.
    pub fn figures(&self) -> (Vec<QueueView>, EngineView) {
        let state = self.0.lock();
        let queues = state.core.queues().map(|queue| view(&state, queue)).collect();
        (queues, self.0.engine_view(&state))
    }

    /// Returns a counter that increases whenever a queue may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

pub(super) fn settle_all(state: &mut EngineState, name: &str, settlements: &[Settlement]) -> Vec<Settled> {
    if settlements.is_empty() {
        return Vec::new();
    }
    let texts = |s: &Settlement| match &s.action {
        SettleAction::Nack { reason: Some(reason), .. } => reason.len() as u64,
        _ => 0,
    };
    let bytes = settlements.iter().map(|s| RECORD_BYTES_MAX + texts(s)).sum();
    state.turn(bytes, |core, turn| {
        let settle = |s: &Settlement| match &s.action {
            SettleAction::Ack => core.ack(name, s.id, s.token, turn).then_some(Settled::Done),
            SettleAction::Nack { delay_ms, reason, release } => {
                let terms = NackTerms { delay_ms: *delay_ms, reason: reason.as_deref(), release: *release };
                core.nack(name, s.id, s.token, &terms, turn).map(|state| match state {
                    ItemState::Dead => Settled::Dead,
                    _ => Settled::Done,
                })
            }
            SettleAction::Extend { lease_ms } => {
                core.extend(name, s.id, s.token, *lease_ms, turn).map(Settled::Extended)
            }
        };
        settlements.iter().map(settle).map(|settled| settled.unwrap_or(Settled::Lost)).collect()
    })
}
