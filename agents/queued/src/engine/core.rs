//! The state of all queues and the rules by which it changes; no clock, no disk, no network.
//!
//! Every change is first a [`Record`], handed to a [`Journal`], and then applied. Reading the journal back
//! applies the same records by the same code, so what was kept and what was lived through cannot differ.

use super::contract::{Limits, NewItem, Refusal};
use super::item::{Extra, Item, ItemId, Place, State, Token};
use super::policy::{PolicyChange, check_name};
use super::queue::{Queue, Usage, When};
use super::record::{Moved, Pushed, Record, Return};
use std::collections::BTreeMap;

/// Where records go, and where bodies come back from.
pub trait Journal {
    /// Takes the record; returns where its body lies.
    fn append(&mut self, record: &Record<'_>) -> Place;
    /// The body of an item that is not in memory.
    fn read(&mut self, place: Place, len: u32) -> std::io::Result<Box<[u8]>>;
}

/// Smaller bodies stay in memory whatever its bound: their absence would save less than it costs.
const KEPT_BODY_BYTES: usize = 32;

/// What a change is made with: the time, the bounds, and where it is written.
#[derive(Debug)]
pub struct Turn<'a, J> {
    pub now_ms: u64,
    pub limits: &'a Limits,
    pub journal: &'a mut J,
}

#[derive(Debug)]
pub struct Core {
    pub epoch: u64,
    next_number: u64,
    next_queue: u32,
    names: BTreeMap<Box<str>, u32>,
    queues: BTreeMap<u32, Queue>,
    pub usage: Usage,
    random: fastrand::Rng,
    /// False while a log is read.
    keep_order: bool,
    /// Bodies beyond this stay in the log while it is read.
    pub memory_bytes_max_while_reading: u64,
    /// Queues that changed since somebody looked.
    touched: Vec<u32>,
}

/// An item as a worker gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub id: ItemId,
    pub token: Token,
    pub attempt: u32,
    pub pushed_ms: u64,
    pub lease_ms: u64,
    pub key: Option<Box<str>>,
    pub content_type: Option<Box<str>>,
    pub body: Box<[u8]>,
}

/// How a lease is to be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseTerms<'a> {
    pub lease_ms: Option<u64>,
    pub bound: bool,
    pub worker: Option<&'a str>,
}

/// What a nack says.
#[derive(Clone, Copy, Debug, Default)]
pub struct NackTerms<'a> {
    pub delay_ms: Option<u64>,
    pub reason: Option<&'a str>,
    pub release: bool,
}

impl Core {
    pub fn new(epoch: u64, seed: u64) -> Core {
        Core {
            epoch,
            next_number: 1,
            next_queue: 1,
            names: BTreeMap::new(),
            queues: BTreeMap::new(),
            usage: Usage::default(),
            random: fastrand::Rng::with_seed(seed),
            keep_order: true,
            memory_bytes_max_while_reading: u64::MAX,
            touched: Vec::new(),
        }
    }

    /// For reading a log into: `finish_reading` must follow.
    pub fn reading(epoch: u64, seed: u64) -> Core {
        Core { keep_order: false, ..Core::new(epoch, seed) }
    }

    pub fn finish_reading(&mut self) {
        self.keep_order = true;
        self.queues.values_mut().for_each(Queue::keep_order);
        self.touched.clear();
    }

    pub fn id(&self, number: u64) -> ItemId {
        ItemId { epoch: self.epoch, number }
    }

    pub fn queue_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(AsRef::as_ref)
    }

    pub fn queue_count(&self) -> usize {
        self.names.len()
    }

    /// In order of name.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.names.values().filter_map(|number| self.queues.get(number))
    }

    pub fn queue(&self, name: &str) -> Result<&Queue, Refusal> {
        let number = self.names.get(name).ok_or_else(|| no_such_queue(name))?;
        self.queues.get(number).ok_or_else(|| no_such_queue(name))
    }

    pub fn queue_by_number(&self, number: u32) -> Option<&Queue> {
        self.queues.get(&number)
    }

    /// The queues that changed since the last call; a queue may be named twice.
    pub fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }

    fn touch(&mut self, queue: u32) {
        if self.touched.last() != Some(&queue) {
            self.touched.push(queue);
        }
    }

    /// When `tick` has something to do next.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.queues.values().filter_map(Queue::next_due_ms).min()
    }

    fn write(&mut self, record: &Record<'_>, journal: &mut impl Journal) {
        let place = journal.append(record);
        self.apply(record, place);
    }

    fn write_queue(&mut self, number: u32, journal: &mut impl Journal, change: impl FnOnce(&mut Queue)) {
        let Some(queue) = self.queues.get_mut(&number) else { return };
        change(queue);
        let record = Record::Queue(queue.record());
        journal.append(&record);
        self.touch(number);
    }

    /// The queue's number, made if it is not there.
    pub fn ensure(&mut self, name: &str, turn: &mut Turn<'_, impl Journal>) -> Result<u32, Refusal> {
        if let Some(number) = self.names.get(name) {
            return Ok(*number);
        }
        check_name(name).map_err(Refusal::Invalid)?;
        if self.names.len() >= turn.limits.queues_max {
            return Err(Refusal::Full(format!(
                "there are {} queues already (--max-queues)",
                turn.limits.queues_max
            )));
        }
        Ok(self.create(name, turn.journal))
    }

    fn create(&mut self, name: &str, journal: &mut impl Journal) -> u32 {
        let number = self.next_queue;
        let queue = Queue::new(number, name, self.keep_order);
        self.write(&Record::Queue(queue.record()), journal);
        number
    }

    /// Creates or configures; true if it was created.
    pub fn configure(
        &mut self,
        name: &str,
        change: &PolicyChange,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<bool, Refusal> {
        check_name(name).map_err(Refusal::Invalid)?;
        let old = self.queue(name).map(|queue| queue.policy.clone());
        let created = old.is_err();
        let policy = old.unwrap_or_default().changed(change).map_err(Refusal::Invalid)?;
        let number = self.ensure(name, turn)?;
        if self.queues.get(&number).is_some_and(|queue| queue.policy != policy) {
            self.write_queue(number, turn.journal, |queue| queue.policy = policy);
        }
        Ok(created)
    }

    pub fn delete(&mut self, name: &str, turn: &mut Turn<'_, impl Journal>) -> Result<(), Refusal> {
        let queue = self.queue(name)?.number;
        self.write(&Record::QueueGone { queue }, turn.journal);
        Ok(())
    }

    pub fn seal(
        &mut self,
        name: &str,
        sealed: bool,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<(), Refusal> {
        let number = if sealed { self.ensure(name, turn)? } else { self.queue(name)?.number };
        if self.queues.get(&number).is_some_and(|queue| queue.sealed != sealed) {
            self.write_queue(number, turn.journal, |queue| {
                (queue.sealed, queue.seal_used) = (sealed, queue.seal_used || sealed);
            });
        }
        Ok(())
    }

    /// Lets the queue count for ever; one that counts already goes on where it was.
    pub fn count_from(
        &mut self,
        name: &str,
        first: u64,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<(), Refusal> {
        let number = self.ensure(name, turn)?;
        if self.queues.get(&number).is_some_and(|queue| queue.count_next.is_none()) {
            self.write_queue(number, turn.journal, |queue| queue.count_next = Some(first));
        }
        Ok(())
    }

    /// Removes what is ready and delayed; returns how much that was.
    pub fn drain(&mut self, name: &str, turn: &mut Turn<'_, impl Journal>) -> Result<u64, Refusal> {
        let queue = self.queue(name)?;
        let (number, count) = (queue.number, queue.tally(State::Ready) + queue.tally(State::Delayed));
        if count > 0 {
            self.write(&Record::Drained { queue: number }, turn.journal);
        }
        Ok(count)
    }

    /// All of the batch, or nothing of it. Returns each item's id, and whether it was there before.
    pub fn push(
        &mut self,
        name: &str,
        items: Vec<NewItem>,
        seal: bool,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<Vec<(ItemId, bool)>, Refusal> {
        // First of all, so that a key which is forgotten by now makes a new item in every respect.
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

    /// Whether all of this may come in. What is there already takes no room, and its push must find its first
    /// answer even after the seal.
    fn admit(&self, name: &str, items: &[NewItem], limits: &Limits) -> Result<(), Refusal> {
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
            return Err(Refusal::Sealed(name.to_owned()));
        }
        let room = |max: u64, used: u64, more: u64| max == 0 || used.saturating_add(more) <= max;
        let held = queue.backlog() + queue.tally(State::Dead);
        if !room(queue.policy.max_items, held, count) {
            let max = queue.policy.max_items;
            return Err(Refusal::Full(format!("queue {name:?} may hold {max} items (max_items)")));
        }
        if !room(queue.policy.max_bytes, queue.body_bytes(), bytes) {
            let max = queue.policy.max_bytes;
            return Err(Refusal::Full(format!("queue {name:?} may hold {max} bytes (max_bytes)")));
        }
        Ok(())
    }

    fn push_one(&mut self, queue: u32, new: NewItem, turn: &mut Turn<'_, impl Journal>) -> ItemId {
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

    #[allow(clippy::too_many_arguments, reason = "the fields of one item, from a push or from the log")]
    fn put_pushed(
        &mut self,
        queue: u32,
        number: u64,
        pushed_ms: u64,
        due_ms: Option<u64>,
        body: Option<Box<[u8]>>,
        len: u32,
        extra: Option<Box<Extra>>,
        place: Place,
    ) {
        self.next_number = self.next_number.max(number + 1);
        self.touch(queue);
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        let state = if due_ms.is_some() { State::Delayed } else { State::Ready };
        queue.held = true;
        queue.counters.pushed += 1;
        if let (Some(next), Some(body)) = (queue.count_next, &body)
            && **body == *next.to_string().as_bytes()
        {
            queue.count_next = Some(next + 1);
        }
        let when = due_ms.map(|at_ms| When { at_ms, token: Token(0), bound: false, worker: None });
        let item = Item { number, pushed_ms, body, len, place, attempts: 0, state, extra };
        queue.put(item, when, &mut self.usage);
    }

    /// Up to `max` of the ready items, oldest first.
    pub fn lease(
        &mut self,
        name: &str,
        max: usize,
        terms: &LeaseTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<Vec<Leased>, Refusal> {
        let number = self.queue(name)?.number;
        let mut leased = Vec::new();
        while leased.len() < max {
            match self.lease_one(number, terms, turn) {
                Ok(Some(item)) => leased.push(item),
                Ok(None) => break,
                // What was leased already must reach the worker.
                Err(refusal) if leased.is_empty() => return Err(refusal),
                Err(_) => break,
            }
        }
        Ok(leased)
    }

    fn lease_one(
        &mut self,
        number: u32,
        terms: &LeaseTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<Option<Leased>, Refusal> {
        let Some(queue) = self.queues.get(&number) else { return Ok(None) };
        let Some(next) = queue.next_ready() else {
            let Some(count) = queue.count_next else { return Ok(None) };
            let body = count.to_string().into_bytes().into();
            self.push_one(number, NewItem { body, ..NewItem::default() }, turn);
            return self.lease_one(number, terms, turn);
        };
        let Some(item) = queue.items().get(next) else { return Ok(None) };
        let body = match &item.body {
            Some(body) => body.clone(),
            None => turn.journal.read(item.place, item.len).map_err(|e| {
                Refusal::Unavailable(format!("the item's body cannot be read from the log: {e}"))
            })?,
        };
        let lease_ms = terms.lease_ms.unwrap_or(queue.policy.lease_ms);
        let token = Token(self.random.u64(1..));
        let leased = Leased {
            id: self.id(next),
            token,
            attempt: item.attempts + 1,
            pushed_ms: item.pushed_ms,
            lease_ms,
            key: item.key().map(Into::into),
            content_type: item.content_type().map(Into::into),
            body,
        };
        let until_ms = turn.now_ms.saturating_add(lease_ms);
        let (bound, worker) = (terms.bound, terms.worker);
        self.write(
            &Record::Leased { queue: number, number: next, token, until_ms, bound, worker },
            turn.journal,
        );
        Ok(Some(leased))
    }

    /// The queue's number and the item's, if this token is its lease.
    fn held(&self, name: &str, id: ItemId, token: Token) -> Option<(u32, u64)> {
        let queue = self.queue(name).ok()?;
        let item = queue.items().get(id.number).filter(|_| id.epoch == self.epoch)?;
        let holds = queue.when(id.number).is_some_and(|when| when.token == token);
        (item.state == State::Leased && holds).then_some((queue.number, id.number))
    }

    /// Done: the item is gone. False if the lease is not held any more.
    pub fn ack(&mut self, name: &str, id: ItemId, token: Token, turn: &mut Turn<'_, impl Journal>) -> bool {
        let Some((queue, number)) = self.held(name, id, token) else { return false };
        self.write(&Record::Acked { queue, number, at_ms: turn.now_ms }, turn.journal);
        true
    }

    /// The state that the item is in now, if the lease was held.
    pub fn nack(
        &mut self,
        name: &str,
        id: ItemId,
        token: Token,
        terms: &NackTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Option<State> {
        let (queue, number) = self.held(name, id, token)?;
        let how = if terms.release { Return::Released } else { Return::Nacked };
        Some(self.give_back(queue, number, how, terms, turn))
    }

    /// A longer lease from now on; its length, if it was held.
    pub fn extend(
        &mut self,
        name: &str,
        id: ItemId,
        token: Token,
        lease_ms: Option<u64>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Option<u64> {
        let (queue, number) = self.held(name, id, token)?;
        let lease_ms = lease_ms.unwrap_or(self.queues.get(&queue)?.policy.lease_ms);
        self.write(
            &Record::Extended { queue, number, until_ms: turn.now_ms.saturating_add(lease_ms) },
            turn.journal,
        );
        Some(lease_ms)
    }

    #[allow(clippy::too_many_arguments, reason = "one end of a lease")]
    fn give_back(
        &mut self,
        queue: u32,
        number: u64,
        how: Return,
        terms: &NackTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> State {
        let Some(q) = self.queues.get(&queue) else { return State::Ready };
        let attempts = q.items().get(number).map_or(0, |item| item.attempts);
        if how != Return::Released && q.policy.is_spent(attempts) {
            self.die(queue, number, how, terms.reason, turn);
            return State::Dead;
        }
        let rest_ms = match how {
            Return::Released => 0,
            _ => terms.delay_ms.unwrap_or(q.policy.backoff_ms_after(attempts)),
        };
        let due_ms = (rest_ms > 0).then(|| turn.now_ms.saturating_add(rest_ms));
        self.write(&Record::Returned { queue, number, how, due_ms, reason: terms.reason }, turn.journal);
        if due_ms.is_some() { State::Delayed } else { State::Ready }
    }

    #[allow(clippy::too_many_arguments, reason = "one end of an item")]
    fn die(
        &mut self,
        queue: u32,
        number: u64,
        how: Return,
        reason: Option<&str>,
        turn: &mut Turn<'_, impl Journal>,
    ) {
        let moved = self.move_to_dead_letters(queue, number, turn).is_some();
        self.write(&Record::Died { queue, number, how, moved, reason }, turn.journal);
    }

    /// Pushes a copy into the dead-letter queue, if there is one that takes it.
    fn move_to_dead_letters(
        &mut self,
        queue: u32,
        number: u64,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Option<()> {
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
        self.push_one(target, NewItem { body, content_type, ..NewItem::default() }, turn);
        Some(())
    }

    /// Lets time pass: delayed items become ready, leases expire. True if there is more to do: a million
    /// leases that expire at once must not stop everybody else.
    pub fn tick(&mut self, at_most: usize, turn: &mut Turn<'_, impl Journal>) -> bool {
        let mut left = at_most;
        let numbers: Vec<u32> = self.queues.keys().copied().collect();
        for queue in numbers {
            while let Some(number) = self.queues.get(&queue).and_then(|q| q.due(turn.now_ms)) {
                if left == 0 {
                    return true;
                }
                left -= 1;
                self.pass_time(queue, number, turn);
            }
        }
        false
    }

    fn pass_time(&mut self, queue: u32, number: u64, turn: &mut Turn<'_, impl Journal>) {
        let Some(q) = self.queues.get_mut(&queue) else { return };
        match q.items().get(number).map(|item| item.state) {
            Some(State::Leased) => {
                let terms = NackTerms { reason: Some("the lease expired"), ..NackTerms::default() };
                self.give_back(queue, number, Return::Expired, &terms, turn);
            }
            // Not recorded: whoever reads the log sees by the clock that it is ready.
            _ => {
                q.shift(number, State::Ready, None);
                self.touch(queue);
            }
        }
    }

    /// Takes back the leases of connections that an earlier process had.
    pub fn release_bound(&mut self, turn: &mut Turn<'_, impl Journal>) {
        let bound: Vec<(u32, u64)> = self
            .queues
            .values()
            .flat_map(|q| q.bound().into_iter().map(|number| (q.number, number)))
            .collect();
        for (queue, number) in bound {
            let how = Return::Released;
            self.write(&Record::Returned { queue, number, how, due_ms: None, reason: None }, turn.journal);
        }
    }

    /// Dead items, all or these, made ready again or deleted; how many there were.
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

    /// Repeats what is known of every queue, so that a log can begin here.
    pub fn checkpoint(&mut self, journal: &mut impl Journal) {
        journal.append(&Record::NextNumber(self.next_number));
        for queue in self.queues.values() {
            journal.append(&Record::Queue(queue.record()));
        }
    }

    /// Writes an item anew, if it still lies where the caller read `body`.
    pub fn rewrite(
        &mut self,
        queue: u32,
        number: u64,
        from: Place,
        body: &[u8],
        journal: &mut impl Journal,
    ) -> bool {
        let Some(q) = self.queues.get(&queue) else { return false };
        let Some(item) = q.items().get(number).filter(|item| item.place == from) else { return false };
        let when = q.when(number);
        let moved = Moved {
            item: Pushed {
                queue,
                number,
                pushed_ms: item.pushed_ms,
                due_ms: None,
                key: item.key(),
                content_type: item.content_type(),
                body,
            },
            state: item.state,
            attempts: item.attempts,
            reason: item.reason(),
            at_ms: when.map_or(0, |when| when.at_ms),
            token: when.map_or(Token(0), |when| when.token),
            bound: when.is_some_and(|when| when.bound),
            worker: when.and_then(|when| when.worker.as_deref()),
        };
        let place = journal.append(&Record::Moved(moved));
        // Only the place is new: the item itself, and its place in the order, stay as they are.
        if let Some(q) = self.queues.get_mut(&queue) {
            q.relocate(number, place, &mut self.usage);
        }
        true
    }

    /// Writes the finished keys of segments up to this one anew.
    pub fn rewrite_keys(&mut self, up_to: u32, turn: &mut Turn<'_, impl Journal>) {
        for queue in self.queues.values_mut() {
            queue.forget_keys(turn.now_ms);
            let number = queue.number;
            queue.rewrite_keys(up_to, |key, item, at_ms| {
                turn.journal.append(&Record::KeyKept { queue: number, key, number: item, at_ms }).segment
            });
        }
    }

    /// The body of this item may leave the memory, if it still lies at this place.
    pub fn evict(&mut self, queue: u32, number: u64, place: Place) {
        if let Some(q) = self.queues.get_mut(&queue)
            && q.items()
                .get(number)
                .is_some_and(|item| item.place == place && item.len as usize > KEPT_BODY_BYTES)
        {
            q.evict_body(number, &mut self.usage);
        }
    }

    /// Makes the change that a record stands for. A record about an item that is not there only counts: the
    /// item's own record was in a segment that is gone, because the item is gone.
    pub fn apply(&mut self, record: &Record<'_>, place: Place) {
        match record {
            Record::Queue(record) => {
                let number = record.queue;
                self.next_queue = self.next_queue.max(number + 1);
                self.names.insert(record.name.clone(), number);
                let keep_order = self.keep_order;
                let queue =
                    self.queues.entry(number).or_insert_with(|| Queue::new(number, &record.name, keep_order));
                queue.follow(record);
                self.touch(number);
            }
            Record::QueueGone { queue } => {
                self.touch(*queue);
                if let Some(mut gone) = self.queues.remove(queue) {
                    for number in gone.numbers_in(&State::ALL) {
                        gone.take(number, &mut self.usage);
                    }
                    if self.names.get(&gone.name) == Some(queue) {
                        self.names.remove(&gone.name);
                    }
                }
            }
            Record::NextNumber(next) => self.next_number = self.next_number.max(*next),
            Record::Pushed(pushed) => {
                let extra = Extra {
                    key: pushed.key.map(Into::into),
                    content_type: pushed.content_type.map(Into::into),
                    reason: None,
                };
                let len = u32::try_from(pushed.body.len()).unwrap_or(u32::MAX);
                let body = self.fits(pushed.body).then(|| pushed.body.into());
                let Pushed { queue, number, pushed_ms, due_ms, .. } = *pushed;
                self.put_pushed(queue, number, pushed_ms, due_ms, body, len, extra.boxed(), place);
            }
            Record::Moved(moved) => self.put_moved(moved, place),
            Record::KeyKept { queue, key, number, at_ms } => {
                if let Some(q) = self.queues.get_mut(queue)
                    && q.known(key) != Some(*number)
                {
                    q.finish_key((*key).into(), *number, *at_ms, place.segment);
                }
            }
            Record::Leased { queue, number, token, until_ms, bound, worker } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                q.counters.leases += 1;
                let worker = worker.map(Into::into);
                let when = When { at_ms: *until_ms, token: *token, bound: *bound, worker };
                if let Some(item) = q.shift(*number, State::Leased, Some(when)) {
                    item.attempts += 1;
                }
            }
            Record::Extended { queue, number, until_ms } => {
                let Some(q) = self.queues.get_mut(queue) else { return };
                if let Some(when) = q.when(*number).cloned() {
                    q.shift(*number, State::Leased, Some(When { at_ms: *until_ms, ..when }));
                }
                self.touch(*queue);
            }
            Record::Acked { queue, number, at_ms } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                q.counters.acked += 1;
                let item = q.take(*number, &mut self.usage);
                if let Some(key) = item.and_then(|item| item.extra?.key) {
                    q.forget_keys(*at_ms);
                    q.finish_key(key, *number, *at_ms, place.segment);
                }
            }
            Record::Returned { queue, number, how, due_ms, reason } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                match how {
                    Return::Nacked => q.counters.nacked += 1,
                    Return::Expired => q.counters.expired += 1,
                    Return::Released => q.counters.released += 1,
                }
                let when = due_ms.map(|at_ms| When { at_ms, token: Token(0), bound: false, worker: None });
                let state = if when.is_some() { State::Delayed } else { State::Ready };
                if let Some(item) = q.shift(*number, state, when) {
                    item.set_reason(*reason);
                    if *how == Return::Released {
                        item.attempts = item.attempts.saturating_sub(1);
                    }
                }
            }
            Record::Died { queue, number, how, moved, reason } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                q.counters.died += 1;
                match how {
                    Return::Expired => q.counters.expired += 1,
                    _ => q.counters.nacked += 1,
                }
                if *moved {
                    q.take(*number, &mut self.usage);
                } else if let Some(item) = q.shift(*number, State::Dead, None) {
                    item.set_reason(*reason);
                }
            }
            Record::Redriven { queue, number } => {
                self.touch(*queue);
                if let Some(q) = self.queues.get_mut(queue)
                    && let Some(item) = q.shift(*number, State::Ready, None)
                {
                    item.attempts = 0;
                }
            }
            Record::Deleted { queue, number } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                q.counters.removed += 1;
                q.take(*number, &mut self.usage);
            }
            Record::Drained { queue } => {
                self.touch(*queue);
                let Some(q) = self.queues.get_mut(queue) else { return };
                let numbers = q.numbers_in(&[State::Ready, State::Delayed]);
                q.counters.drained += numbers.len() as u64;
                q.counters.removed += numbers.len() as u64;
                for number in numbers {
                    q.take(number, &mut self.usage);
                }
            }
        }
    }

    fn fits(&self, body: &[u8]) -> bool {
        body.len() <= KEPT_BODY_BYTES
            || self.usage.memory_bytes.saturating_add(body.len() as u64)
                <= self.memory_bytes_max_while_reading
    }

    fn put_moved(&mut self, moved: &Moved<'_>, place: Place) {
        let Pushed { queue, number, pushed_ms, key, content_type, body, .. } = moved.item;
        self.next_number = self.next_number.max(number + 1);
        let fits = self.fits(body);
        let Some(q) = self.queues.get_mut(&queue) else { return };
        let timed = matches!(moved.state, State::Delayed | State::Leased);
        let (at_ms, token, bound) = (moved.at_ms, moved.token, moved.bound);
        let when = timed.then(|| When { at_ms, token, bound, worker: moved.worker.map(Into::into) });
        let extra = Extra {
            key: key.map(Into::into),
            content_type: content_type.map(Into::into),
            reason: moved.reason.map(Into::into),
        };
        let item = Item {
            number,
            pushed_ms,
            body: fits.then(|| body.into()),
            len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            place,
            attempts: moved.attempts,
            state: moved.state,
            extra: extra.boxed(),
        };
        q.put(item, when, &mut self.usage);
    }
}

fn no_such_queue(name: &str) -> Refusal {
    Refusal::NoSuchQueue(name.to_owned())
}
