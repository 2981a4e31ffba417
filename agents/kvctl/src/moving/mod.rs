//! Moves keys from a source server to a target server, many with each request.
//!
//! [`step`] decides the next step of each key. Steps at the same server share a batch. A batch is applied
//! whole or not at all, so a killed run leaves each key between two steps, and a later run continues.
//!
//! A *note* at the target says that a key is on its way, and a *mark* at the source that it has left.

pub(crate) mod names;
mod step;

use crate::api::{BatchAnswer, Client, Only, ReadValue};
use crate::flags::Keep;
use crate::wire::{WireOperation, WireResult, WireValue, ttl_left_ms};
use jiff::Timestamp;
use kit::caller::CallError;
use kit::exit::{Exit, Fatal};
use names::{content, mark_of, note_of};
use step::{BothServers, MoveStep, PresentValue};

/// Limit on the steps for one key. A step is repeated only if a client changed the key in between.
const STEPS_MAX: usize = 1000;

/// Limits on a batch: its operations, and the bytes of its keys and values as they are sent. The key that
/// reaches the limit on bytes is still included.
const BATCH_OPERATIONS: usize = 1000;
const BATCH_BYTES: usize = 2 << 20;

/// Limit on the keys of a batch that are taken out because their condition failed. After that, all keys of
/// the batch are read again.
const FAILURES_MAX: usize = 8;

/// A server, and the URL by which notes and marks name it.
#[derive(Clone, Copy)]
pub(crate) struct NamedServer<'a> {
    pub(crate) url: &'a str,
    pub(crate) client: &'a Client,
}

/// The servers between which keys move.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) source: NamedServer<'a>,
    pub(crate) target: NamedServer<'a>,
    pub(crate) keep: Option<Keep>,
}

/// The result of moving several keys.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) keys: u64,
    pub(crate) conflicts: Vec<String>,
}

/// A key that is being moved.
#[derive(Debug)]
pub(crate) struct MovingKey {
    key: String,
    /// The values at both servers; `None` if they must be read.
    found: Option<KeyValues>,
    steps: usize,
}

impl MovingKey {
    /// A key whose values have not been read yet.
    pub(crate) fn unknown(key: String) -> MovingKey {
        MovingKey { key, found: None, steps: 0 }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

/// A key's values at both servers, as they were read or as the last step left them. `mark` and `note` are
/// revisions.
#[derive(Clone, Debug, Default)]
struct KeyValues {
    source: Option<ReadValue>,
    mark: Option<u64>,
    target: Option<ReadValue>,
    note: Option<u64>,
}

/// The next step of a key, with its operations.
struct PlannedStep {
    moving: MovingKey,
    found: KeyValues,
    step: MoveStep,
    side: Side,
    operations: Vec<WireOperation>,
}

impl<'a> Route<'a> {
    /// Prepares keys whose values were just read at the source. Usually the target has none of them, and no
    /// value must be read again.
    pub(crate) async fn survey(&self, values: Vec<(String, ReadValue)>) -> Result<Vec<MovingKey>, Fatal> {
        let mut all = Vec::with_capacity(values.len());
        let mut values = values.into_iter();
        loop {
            // The check at the target has two operations for each key.
            let part: Vec<_> = values.by_ref().take(BATCH_OPERATIONS / 2).collect();
            if part.is_empty() {
                return Ok(all);
            }
            let marks = revisions(self.source, part.iter().map(|(key, _)| mark_of(key))).await?;
            let at_target = part.iter().flat_map(|(key, _)| [key.clone(), note_of(key)]);
            let at_target = revisions(self.target, at_target).await?;
            for (((key, source), mark), present) in part.into_iter().zip(marks).zip(at_target.chunks(2)) {
                let is_new = present.iter().all(Option::is_none);
                let found = KeyValues { source: Some(source), mark, target: None, note: None };
                all.push(MovingKey { key, found: is_new.then_some(found), steps: 0 });
            }
        }
    }

    /// Applies one step after another until each key has moved or is in conflict.
    pub(crate) async fn move_keys(&self, mut left: Vec<MovingKey>) -> Result<Moved, Fatal> {
        let mut moved = Moved::default();
        while !left.is_empty() {
            let (mut at_source, mut at_target) = (Vec::new(), Vec::new());
            for mut moving in left {
                moving.steps += 1;
                if moving.steps > STEPS_MAX {
                    let message = format!("{:?} changes too often to be moved; try again later", moving.key);
                    return Err(Fatal::new(Exit::TryAgain, message));
                }
                let found = match moving.found.take() {
                    Some(found) => found,
                    None => self.look(&moving.key).await?,
                };
                match self.plan(moving, found) {
                    NextStep::Step(planned) if planned.side == Side::Source => at_source.push(*planned),
                    NextStep::Step(planned) => at_target.push(*planned),
                    NextStep::Conflict(key) => moved.conflicts.push(key),
                    NextStep::Done => {}
                }
            }
            left = Vec::with_capacity(at_source.len() + at_target.len());
            for planned in [at_source, at_target] {
                for batch in batches(planned) {
                    self.carry_out(batch, &mut left, &mut moved).await?;
                }
            }
        }
        Ok(moved)
    }

    /// Reads a key at both servers, the source first: `DeleteAtSource` deletes the revision that is read
    /// here, so the target must be read after it.
    async fn look(&self, key: &str) -> Result<KeyValues, Fatal> {
        let source = read(self.source, key).await?;
        let mark = read(self.source, &mark_of(key)).await?.map(|mark| mark.revision);
        let target = read(self.target, key).await?;
        let note = read(self.target, &note_of(key)).await?.map(|note| note.revision);
        Ok(KeyValues { source, mark, target, note })
    }

    fn plan(&self, moving: MovingKey, found: KeyValues) -> NextStep {
        let step = found.both_servers().next_step();
        if step == MoveStep::Done {
            return NextStep::Done;
        }
        match self.operations(&moving.key, step, &found) {
            None => NextStep::Conflict(moving.key),
            Some((side, operations)) => {
                NextStep::Step(Box::new(PlannedStep { moving, found, step, side, operations }))
            }
        }
    }

    /// Returns the operations of a step, and their server; `None` for a conflict without `--keep`.
    fn operations(&self, key: &str, step: MoveStep, found: &KeyValues) -> Option<(Side, Vec<WireOperation>)> {
        let (note, mark) = (note_of(key), mark_of(key));
        let delete_at_source = |revision| {
            let place = WireValue::new(content(self.target.url, key).into_bytes());
            let put = WireOperation::put(&mark, place, Only::Always);
            (Side::Source, vec![put, WireOperation::delete(key, revision)])
        };
        let copy =
            |source: &ReadValue, of_key, of_note| (Side::Target, self.copy(key, source, of_key, of_note));
        Some(match step {
            MoveStep::Copy => copy(found.source.as_ref()?, Only::IfAbsent, Only::IfAbsent),
            MoveStep::CopyAgain { copy: present, note } => {
                let of_key = present.map_or(Only::IfAbsent, Only::IfMatch);
                copy(found.source.as_ref()?, of_key, Only::IfMatch(note))
            }
            MoveStep::DeleteAtSource { source } => delete_at_source(source),
            MoveStep::RemoveNote { note: revision } => {
                (Side::Target, vec![WireOperation::delete(&note, revision)])
            }
            MoveStep::RemoveMark { mark: revision } => {
                (Side::Source, vec![WireOperation::delete(&mark, revision)])
            }
            MoveStep::RemoveCopy { copy, note: noted } => {
                let operations = vec![WireOperation::delete(key, copy), WireOperation::delete(&note, noted)];
                (Side::Target, operations)
            }
            MoveStep::Conflict => match self.keep? {
                Keep::Target => delete_at_source(found.source.as_ref()?.revision),
                Keep::Source => {
                    let other = found.target.as_ref()?.revision;
                    copy(found.source.as_ref()?, Only::IfMatch(other), Only::IfAbsent)
                }
            },
            MoveStep::Done => return None,
        })
    }

    /// Returns the operations that copy a key. The note comes after the key, so that it has the next
    /// revision.
    fn copy(&self, key: &str, value: &ReadValue, of_key: Only, of_note: Only) -> Vec<WireOperation> {
        let mut put = WireOperation::put(key, WireValue::new(value.bytes.to_vec()), of_key);
        // If this host's clock is ahead, the time to live may not be over at the server: send at least 1 ms.
        let left_ms =
            value.expires.as_deref().and_then(|expires| ttl_left_ms(expires, Timestamp::now()).ok());
        put.ttl = left_ms.map(|left_ms| format!("{}ms", left_ms.max(1)));
        let place = WireValue::new(content(self.source.url, key).into_bytes());
        vec![put, WireOperation::put(&note_of(key), place, of_note)]
    }

    /// Sends a batch of steps, which all have the same server. If a client has changed a key, its condition
    /// fails, and the key is read again.
    async fn carry_out(
        &self,
        mut batch: Vec<PlannedStep>,
        left: &mut Vec<MovingKey>,
        moved: &mut Moved,
    ) -> Result<(), Fatal> {
        let mut failures = 0;
        while let Some(first) = batch.first() {
            let place = match first.side {
                Side::Source => self.source,
                Side::Target => self.target,
            };
            let operations: Vec<_> = batch.iter().flat_map(|planned| &planned.operations).collect();
            let answer = place.client.batch(&operations).await;
            match answer {
                Ok(BatchAnswer::Done(results)) => {
                    return self.record(place, batch, &results, left, moved).await;
                }
                Ok(BatchAnswer::ConditionFailed { operation }) if failures < FAILURES_MAX => {
                    failures += 1;
                    left.push(batch.remove(position(&batch, operation)).moving);
                }
                Ok(BatchAnswer::ConditionFailed { .. }) => {
                    left.extend(batch.drain(..).map(|planned| planned.moving));
                }
                // The server has a lower limit on batches.
                Err(error) if error.word() == "too_large" && batch.len() > 1 => {
                    let half = batch.split_off(batch.len() / 2);
                    Box::pin(self.carry_out(half, left, moved)).await?;
                }
                Err(error) => return Err(failed(place.client, error)),
            }
        }
        Ok(())
    }

    /// Records the changes of a batch, so that the next steps need not read the keys.
    async fn record(
        &self,
        place: NamedServer<'_>,
        batch: Vec<PlannedStep>,
        results: &[WireResult],
        left: &mut Vec<MovingKey>,
        moved: &mut Moved,
    ) -> Result<(), Fatal> {
        let deleted: Vec<_> = batch
            .iter()
            .filter(|planned| planned.deletes_at_source())
            .map(|planned| planned.moving.key.clone())
            .collect();
        // A client may have put a deleted key again at the source. Then the key is read again: while its note
        // is there, it is copied again.
        let present = revisions(place, deleted.into_iter()).await?;
        let mut present = present.into_iter();
        let mut results = results.iter();
        for planned in batch {
            let count = planned.operations.len();
            let revisions: Vec<u64> =
                results.by_ref().take(count).filter_map(|result| result.revision).collect();
            let deletes = planned.deletes_at_source();
            moved.keys += u64::from(matches!(planned.step, MoveStep::DeleteAtSource { .. }));
            let is_put_again = deletes && present.next().flatten().is_some();
            let mut moving = planned.moving;
            moving.found =
                if is_put_again { None } else { planned.found.after(planned.step, planned.side, &revisions) };
            left.push(moving);
        }
        Ok(())
    }
}

/// The server at which a step is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

enum NextStep {
    Step(Box<PlannedStep>),
    Conflict(String),
    Done,
}

impl PlannedStep {
    fn deletes_at_source(&self) -> bool {
        self.side == Side::Source && !matches!(self.step, MoveStep::RemoveMark { .. })
    }

    fn len(&self) -> usize {
        self.operations.iter().map(WireOperation::len).sum()
    }
}

impl KeyValues {
    fn both_servers(&self) -> BothServers<'_> {
        BothServers {
            source: self.source.as_ref().map(present_value),
            mark: self.mark,
            target: self.target.as_ref().map(present_value),
            note: self.note,
        }
    }

    /// Returns the values after a step whose operations got these revisions, or `None` if they must be read.
    fn after(mut self, step: MoveStep, side: Side, revisions: &[u64]) -> Option<KeyValues> {
        match (step, side, revisions) {
            (MoveStep::DeleteAtSource { .. } | MoveStep::Conflict, Side::Source, [mark, _]) => {
                (self.source, self.mark) = (None, Some(*mark));
            }
            (
                MoveStep::Copy | MoveStep::CopyAgain { .. } | MoveStep::Conflict,
                Side::Target,
                [copy, note],
            ) => {
                // A copy with a time to live may be gone before the key is deleted at the source.
                let source = self.source.clone().filter(|source| source.expires.is_none())?;
                self.target = Some(ReadValue { revision: *copy, ..source });
                self.note = Some(*note);
            }
            (MoveStep::RemoveNote { .. }, ..) => self.note = None,
            (MoveStep::RemoveMark { .. }, ..) => self.mark = None,
            (MoveStep::RemoveCopy { .. }, ..) => (self.target, self.note) = (None, None),
            _ => return None,
        }
        Some(self)
    }
}

fn present_value(value: &ReadValue) -> PresentValue<'_> {
    PresentValue { bytes: &value.bytes, revision: value.revision, expires: value.expires.is_some() }
}

/// Returns the index of the step that has the operation with this index in the batch.
fn position(batch: &[PlannedStep], operation: usize) -> usize {
    let mut before = 0;
    let index = batch.iter().position(|planned| {
        before += planned.operations.len();
        operation < before
    });
    index.unwrap_or(batch.len() - 1)
}

/// Groups steps into batches within the limits.
fn batches(planned: Vec<PlannedStep>) -> Vec<Vec<PlannedStep>> {
    let mut batches: Vec<Vec<PlannedStep>> = Vec::new();
    let (mut operations, mut bytes) = (BATCH_OPERATIONS, 0);
    for step in planned {
        if operations + step.operations.len() > BATCH_OPERATIONS || bytes >= BATCH_BYTES {
            batches.push(Vec::new());
            (operations, bytes) = (0, 0);
        }
        operations += step.operations.len();
        bytes += step.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(step);
        }
    }
    batches
}

/// Returns the revisions of keys as of one moment, `None` for a key that does not exist.
async fn revisions(
    place: NamedServer<'_>,
    keys: impl Iterator<Item = String>,
) -> Result<Vec<Option<u64>>, Fatal> {
    let checks: Vec<_> = keys.map(WireOperation::check).collect();
    if checks.is_empty() {
        return Ok(Vec::new());
    }
    match place.client.batch(&checks.iter().collect::<Vec<_>>()).await {
        Ok(BatchAnswer::Done(results)) => Ok(results.iter().map(|result| result.revision).collect()),
        Ok(BatchAnswer::ConditionFailed { .. }) => {
            let message = format!("{} refused a check that has no condition", place.client.server());
            Err(Fatal::new(Exit::Failure, message))
        }
        Err(error) => Err(failed(place.client, error)),
    }
}

async fn read(place: NamedServer<'_>, key: &str) -> Result<Option<ReadValue>, Fatal> {
    place.client.get(key).await.map_err(|error| failed(place.client, error))
}

pub(crate) fn failed(client: &Client, error: CallError) -> Fatal {
    error.fatal(format!("cannot rebalance the keys at {}", client.server()))
}
