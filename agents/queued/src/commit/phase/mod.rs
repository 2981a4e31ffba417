//! The state machine of the commit path: decides when records are written and synced, and by which thread.
//!
//! The machine does no I/O and reads no clock: time, pending groups and results are arguments. So every order
//! of pushes, answers, slow and failing syncs is tested without a disk.
//!
//! | phase | event | next phase |
//! |---|---|---|
//! | `Idle` | a record for which no request waits | `Lingering` |
//! | `Idle`, `Lingering` | a request waits | `Gathering`, or `Expecting` after a slow commit |
//! | `Lingering`, `Expecting` | its time is over | `Writing` |
//! | `Expecting` | as many requests wait as last time | `Gathering` |
//! | `Gathering` | the event loop brought no more requests | `Writing` |
//! | `Writing` | done | as from `Idle`, by what is pending now |
//! | `Writing` | failed | `Failing` |
//! | `Failing` | its time is over | `Writing` |
//! | `Idle`, `Lingering` | a sync is due or requested | `Syncing` |
//! | `Failing` | a sync of earlier groups is due | `Syncing` |
//! | `Syncing` | done or failed | as from `Idle`, by what is pending now; `Failing` if writes fail |
//! | any | closing, and nothing is left | `Closed` |
//! | `Writing` | failed while closing | `Closed`, after a last sync of earlier groups |

use super::Durability;
use std::time::{Duration, Instant};

/// The longest delay of a record for which no request waits (a lease), so that more records share its write.
pub const LINGER: Duration = Duration::from_millis(10);
/// A log is quick if the last commit took no longer than this. The event loop then writes by itself: passing
/// the groups to a thread and the answers back takes two more wake-ups. In alternating runs on two busy
/// cores, these add 20 µs to the 185 µs of one client's push. They add a tenth to the CPU time of
/// pushes from 16 clients.
pub const QUICK: Duration = Duration::from_micros(500);
/// Limit on the bytes that the event loop writes at once: the duration of the last commit says little about a
/// much larger one.
pub const EVENT_LOOP_BYTES_MAX: usize = 32 << 10;
/// The wait for more requests after a slow commit takes at most this, and at most half of that commit's
/// duration. Without this wait, half of 64 clients would wait while a slow disk syncs for the other half.
/// Measured in alternating runs with syncs of 3 ms: without it, pushes of 16 clients take 6 % longer, those
/// of 64 clients 40 %. The timer of the event loop counts whole milliseconds, so the wait may end up to one
/// millisecond late.
pub const EXPECT_MAX: Duration = Duration::from_millis(10);
/// Interval between two attempts to write after a failure.
pub const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The state of the commit path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is pending.
    Idle,
    /// Records are pending, and no request waits for them. They are written at this time at the latest.
    Lingering { until: Instant },
    /// Requests wait, and the event loop may bring more. `seen` is the number that waited after the last full
    /// iteration of the event loop; `None` before the first one.
    Gathering { seen: Option<usize> },
    /// Requests wait, but fewer than the last commit answered. That commit was slow, so the others get this
    /// time to arrive.
    Expecting { until: Instant },
    /// Groups are being appended, and synced if answers must be durable.
    Writing(By),
    /// Groups that were appended earlier are being synced.
    Syncing,
    /// The last attempt to write failed; the next one begins at this time.
    Failing { until: Instant },
    /// The commit path has ended: no further record is written.
    Closed,
}

/// The thread that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    EventLoop,
    /// A separate thread, so that a slow log delays only the requests that wait for it.
    Thread,
}

/// Something that may change the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record was appended, a request waits for the last one, or a sync of everything appended is requested.
    Appended,
    /// The event loop has finished an iteration: every task that was ready has run.
    Iterated,
    /// The time that `Machine::due` returned has come.
    Due,
    /// The log may have been removed or replaced since it was opened.
    Suspected,
    Done {
        /// The duration of the commit; `None` if no group was written.
        took: Option<Duration>,
        /// The number of requests that this commit answers.
        answered: usize,
    },
    Failed,
    Closing,
}

/// The groups that wait to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingGroups {
    /// The time of the first record in the oldest group; `None` without a group.
    pub since: Option<Instant>,
    /// The number of requests that wait for these groups.
    pub waiting: usize,
    pub bytes: usize,
    pub begins_segment: bool,
    /// True if a sync is requested, whatever the durability.
    pub sync_asked: bool,
    /// True if everything that the requested syncs must cover was written.
    pub asked_is_written: bool,
}

/// The result of the last attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWrite {
    /// There was no attempt yet, or it succeeded.
    Kept,
    Failed {
        retry_at: Instant,
    },
    /// A write failed while the commit path was closing, so there is no further attempt.
    GaveUp,
}

/// The phase, and the facts on which the next one depends.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    durability: Durability,
    /// The duration of the last commit.
    took: Duration,
    /// The number of requests that the last commit answered, plus those that waited at its end. Clients that
    /// were answered usually send another request.
    expected: usize,
    expect_until: Option<Instant>,
    /// The time of the first append that is not synced yet.
    unsynced_since: Option<Instant>,
    suspected: bool,
    last_write: LastWrite,
    closing: bool,
}

impl Machine {
    pub fn new(durability: Durability) -> Machine {
        Machine {
            phase: Phase::Idle,
            durability,
            // Not measured yet.
            took: Duration::MAX,
            expected: 0,
            expect_until: None,
            unsynced_since: None,
            suspected: false,
            last_write: LastWrite::Kept,
            closing: false,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Called when the groups of a `Writing` phase are taken. True if the log must be checked first.
    pub fn begin(&mut self) -> bool {
        std::mem::take(&mut self.suspected)
    }

    /// Returns the time at which `Event::Due` must come; `None` if nothing becomes due.
    pub fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Lingering { until } | Phase::Failing { until } => {
                Some(self.sync_due().map_or(until, |sync| sync.min(until)))
            }
            Phase::Expecting { until } => Some(until),
            Phase::Idle => self.sync_due(),
            Phase::Gathering { .. } | Phase::Writing(_) | Phase::Syncing | Phase::Closed => None,
        }
    }

    fn sync_due(&self) -> Option<Instant> {
        match (self.durability, self.unsynced_since) {
            (Durability::Interval(within), Some(since)) => Some(since + within),
            _ => None,
        }
    }

    /// Applies an event; returns the new phase.
    pub fn on(&mut self, event: Event, pending: PendingGroups, now: Instant) -> Phase {
        self.note(event, pending, now);
        self.phase = match (self.phase, event) {
            (Phase::Closed, _) => Phase::Closed,
            (Phase::Writing(_) | Phase::Syncing, Event::Done { .. } | Event::Failed) => {
                self.next(pending, now)
            }
            // Nothing else happens until the log has answered.
            (busy @ (Phase::Writing(_) | Phase::Syncing), _) => busy,
            (Phase::Failing { .. }, Event::Due | Event::Closing) => self.next(pending, now),
            (failing @ Phase::Failing { .. }, _) => failing,
            (_, Event::Closing) => self.next(pending, now),
            (Phase::Gathering { seen }, Event::Iterated) => self.gather(seen, pending),
            (gathering @ Phase::Gathering { .. }, _) => gathering,
            (Phase::Lingering { until }, Event::Due) if now >= until => Phase::Writing(By::Thread),
            (Phase::Expecting { until }, Event::Due) if now >= until => self.write(pending),
            (Phase::Idle | Phase::Lingering { .. } | Phase::Expecting { .. }, _) => self.next(pending, now),
        };
        self.phase
    }

    /// Records the facts that an event brings.
    fn note(&mut self, event: Event, pending: PendingGroups, now: Instant) {
        let always = self.durability == Durability::Always;
        match (self.phase, event) {
            (_, Event::Suspected) => self.suspected = true,
            (Phase::Writing(_), Event::Failed) => {
                // After a failure the log may have been replaced.
                self.suspected = true;
                self.last_write = match self.closing {
                    true => LastWrite::GaveUp,
                    false => LastWrite::Failed { retry_at: now + RETRY_AFTER },
                };
            }
            (_, Event::Closing) => self.closing = true,
            (Phase::Writing(_), Event::Done { took, answered }) => {
                self.last_write = LastWrite::Kept;
                let Some(took) = took else { return };
                self.took = took;
                self.expected = pending.waiting + answered;
                let slow = always && took > QUICK;
                self.expect_until = slow.then(|| now + (took / 2).min(EXPECT_MAX));
                if !always {
                    self.unsynced_since.get_or_insert(now.checked_sub(took).unwrap_or(now));
                }
            }
            // A failed sync is reported, and not retried: the system reports each failure once.
            (Phase::Syncing, Event::Done { .. } | Event::Failed) => {
                self.unsynced_since = None;
            }
            _ => {}
        }
    }

    /// Chooses the next phase while the log has nothing to do.
    fn next(&self, pending: PendingGroups, now: Instant) -> Phase {
        let interval_is_over = self.sync_due().is_some_and(|due| due <= now);
        match self.last_write {
            LastWrite::Kept => {}
            LastWrite::GaveUp if self.unsynced_since.is_some() => return Phase::Syncing,
            LastWrite::GaveUp => return Phase::Closed,
            LastWrite::Failed { retry_at } if self.closing || retry_at <= now => {
                return Phase::Writing(By::Thread);
            }
            LastWrite::Failed { .. } if interval_is_over => return Phase::Syncing,
            LastWrite::Failed { retry_at } => return Phase::Failing { until: retry_at },
        }
        let sync_due = pending.sync_asked || interval_is_over;
        let write_first = pending.sync_asked && !pending.asked_is_written;
        match pending.since {
            None if self.suspected && !self.closing => Phase::Writing(By::Thread),
            None if sync_due || self.closing && self.unsynced_since.is_some() => Phase::Syncing,
            None if self.closing => Phase::Closed,
            None => Phase::Idle,
            Some(_) if self.closing || self.suspected || write_first => Phase::Writing(By::Thread),
            Some(_) if sync_due => Phase::Syncing,
            Some(since) if pending.waiting == 0 => Phase::Lingering { until: since + LINGER },
            Some(_) => {
                match self.expect_until.filter(|until| pending.waiting < self.expected && now < *until) {
                    Some(until) => Phase::Expecting { until },
                    None => Phase::Gathering { seen: None },
                }
            }
        }
    }

    /// Decides after an iteration of the event loop if another one may bring more requests.
    fn gather(&self, seen: Option<usize>, pending: PendingGroups) -> Phase {
        let more = match seen {
            // A client that was alone last time is probably alone now: a wait for others would only delay it.
            None => pending.waiting > 1 || self.expected > 1,
            Some(seen) => pending.waiting > seen && pending.waiting < self.expected,
        };
        match more {
            true => Phase::Gathering { seen: Some(seen.map_or(0, |_| pending.waiting)) },
            false => self.write(pending),
        }
    }

    fn write(&self, pending: PendingGroups) -> Phase {
        let small = pending.bytes <= EVENT_LOOP_BYTES_MAX;
        let quick = self.took <= QUICK && small && !pending.begins_segment && !self.suspected;
        Phase::Writing(if quick { By::EventLoop } else { By::Thread })
    }
}

#[cfg(test)]
mod tests;
