//! The steps by which a key moves from one server to another. Each step follows from the values at both
//! servers, so a move can be killed after any step and started again.
//!
//! The target gets a copy of the key and a note, in one batch. At the source, a batch deletes the key and
//! puts a mark in its place. The key is deleted only in the revision that was compared with the target. The
//! mark distinguishes a key that has moved from one that a client has deleted at the source.
//!
//! In this table, an untouched copy is one that no client has changed since the note was written:
//!
//! | source | mark | target | note | step |
//! |---|---|---|---|---|
//! | value | yes | any | any | `RemoveMark` |
//! | value | no | none | no | `Copy` |
//! | value | no | the same value | no | `DeleteAtSource` |
//! | value | no | another value | no | `Conflict` |
//! | value | no | untouched copy of another value | yes | `CopyAgain` |
//! | value with a time to live | no | none | yes | `CopyAgain` |
//! | value | no | anything else | yes | `DeleteAtSource` |
//! | none | no | untouched copy | yes | `RemoveCopy` |
//! | none | any | anything else | yes | `RemoveNote` |
//! | none | yes | any | no | `RemoveMark` |
//! | none | no | any | no | `Done` |
//!
//! The first row is for a client that put the key again at the source after it had moved. Its mark is stale:
//! if the client then deleted the key, the mark would make the copy look like the newest value.

/// The parts of a value that decide about the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PresentValue<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) revision: u64,
    /// True if the value has a time to live.
    pub(crate) expires: bool,
}

/// The values of a moving key at both servers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BothServers<'a> {
    pub(crate) source: Option<PresentValue<'a>>,
    /// The revision of the mark at the source.
    pub(crate) mark: Option<u64>,
    pub(crate) target: Option<PresentValue<'a>>,
    /// The revision of the note at the target.
    pub(crate) note: Option<u64>,
}

/// The next step of a move. It applies only while the revisions in it are the present ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveStep {
    /// Put copy and note at the target, which has neither.
    Copy,
    /// Put copy and note again: the source has changed since the last copy, or the copy has expired.
    CopyAgain {
        copy: Option<u64>,
        note: u64,
    },
    /// Put the mark at the source, and delete the key there, in one batch.
    DeleteAtSource {
        source: u64,
    },
    /// The target decides from now on: remove the note. The mark, if there is one, is removed next.
    RemoveNote {
        note: u64,
    },
    RemoveMark {
        mark: u64,
    },
    /// The key has gone from the source without a mark, so a client deleted it: remove copy and note.
    RemoveCopy {
        copy: u64,
        note: u64,
    },
    /// The servers have different values, and no note tells which one is newer.
    Conflict,
    Done,
}

impl BothServers<'_> {
    /// Decides the next step. The table above has all cases.
    pub(crate) fn next_step(&self) -> MoveStep {
        match self.source {
            Some(source) => self.with_source(source),
            None => self.without_source(),
        }
    }

    fn with_source(&self, source: PresentValue<'_>) -> MoveStep {
        if let Some(mark) = self.mark {
            return MoveStep::RemoveMark { mark };
        }
        let delete = MoveStep::DeleteAtSource { source: source.revision };
        match (self.target, self.note) {
            (None, None) => MoveStep::Copy,
            (Some(target), None) if target.bytes == source.bytes => delete,
            (Some(_), None) => MoveStep::Conflict,
            (Some(target), Some(note)) if is_untouched(target, note) && target.bytes != source.bytes => {
                MoveStep::CopyAgain { copy: Some(target.revision), note }
            }
            // The copy may have expired while a client renewed the key at the source. If instead a client of
            // the target deleted the copy, the new one expires like any other.
            (None, Some(note)) if source.expires => MoveStep::CopyAgain { copy: None, note },
            // The copy equals the source, or a client of the target has changed or deleted it.
            (Some(_) | None, Some(_)) => delete,
        }
    }

    fn without_source(&self) -> MoveStep {
        match (self.mark, self.target, self.note) {
            (None, Some(target), Some(note)) if is_untouched(target, note) => {
                MoveStep::RemoveCopy { copy: target.revision, note }
            }
            (_, _, Some(note)) => MoveStep::RemoveNote { note },
            (Some(mark), _, None) => MoveStep::RemoveMark { mark },
            (None, _, None) => MoveStep::Done,
        }
    }
}

/// True if no client has changed the copy: the batch gave the note the next revision after it.
fn is_untouched(copy: PresentValue<'_>, note: u64) -> bool {
    copy.revision + 1 == note
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moving::names::{mark_of, note_of};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const KEY: &str = "k";

    /// A server: its keys with their values and revisions.
    #[derive(Clone, Debug, Default)]
    struct Model {
        keys: BTreeMap<String, (Vec<u8>, u64)>,
        revision: u64,
    }

    impl Model {
        fn put(&mut self, key: &str, bytes: &[u8]) {
            self.revision += 1;
            self.keys.insert(key.to_owned(), (bytes.to_vec(), self.revision));
        }

        fn remove(&mut self, key: &str) {
            self.keys.remove(key);
        }

        fn held(&self, key: &str) -> Option<PresentValue<'_>> {
            self.keys.get(key).map(|(bytes, revision)| PresentValue {
                bytes,
                revision: *revision,
                expires: false,
            })
        }

        fn revision_of(&self, key: &str) -> Option<u64> {
            self.held(key).map(|held| held.revision)
        }

        fn value(&self) -> Option<Vec<u8>> {
            self.held(KEY).map(|held| held.bytes.to_vec())
        }
    }

    #[derive(Clone, Debug, Default)]
    struct Servers {
        source: Model,
        target: Model,
    }

    impl Servers {
        /// Looks as the mover does. Returns its next step, and the value that it read at the source.
        fn look(&self) -> (MoveStep, Vec<u8>) {
            let Servers { source, target } = self;
            let both_servers = BothServers {
                source: source.held(KEY),
                mark: source.revision_of(&mark_of(KEY)),
                target: target.held(KEY),
                note: target.revision_of(&note_of(KEY)),
            };
            (both_servers.next_step(), source.value().unwrap_or_default())
        }

        /// Applies a step as the servers do, in one batch. Returns false if its conditions no longer hold.
        fn carry_out(&mut self, step: MoveStep, value: &[u8]) -> bool {
            let (note_key, mark_key) = (note_of(KEY), mark_of(KEY));
            let Servers { source, target } = self;
            let at_target = (target.revision_of(KEY), target.revision_of(&note_key));
            match step {
                MoveStep::Copy if at_target == (None, None) => {
                    target.put(KEY, value);
                    target.put(&note_key, b"");
                }
                MoveStep::CopyAgain { copy, note } if at_target == (copy, Some(note)) => {
                    target.put(KEY, value);
                    target.put(&note_key, b"");
                }
                MoveStep::RemoveCopy { copy, note } if at_target == (Some(copy), Some(note)) => {
                    target.remove(KEY);
                    target.remove(&note_key);
                }
                MoveStep::RemoveNote { note } if at_target.1 == Some(note) => target.remove(&note_key),
                MoveStep::DeleteAtSource { source: compared }
                    if source.revision_of(KEY) == Some(compared) =>
                {
                    source.put(&mark_key, b"");
                    source.remove(KEY);
                }
                MoveStep::RemoveMark { mark } if source.revision_of(&mark_key) == Some(mark) => {
                    source.remove(&mark_key);
                }
                MoveStep::Done | MoveStep::Conflict => {}
                _ => return false,
            }
            true
        }

        /// Runs the mover alone until no step is left.
        fn finish(&mut self) -> MoveStep {
            for _ in 0..10 {
                let (step, value) = self.look();
                if matches!(step, MoveStep::Done | MoveStep::Conflict) {
                    return step;
                }
                assert!(self.carry_out(step, &value), "{step:?} by itself");
            }
            panic!("the move never ends: {self:?}");
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        /// A mover looks, and applies its step after this many other events. If it is killed, it never does.
        Move {
            late_by: Option<usize>,
        },
        Put(u8),
        Delete,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => prop::option::weighted(0.9, 0_usize..3).prop_map(|late_by| Event::Move { late_by }),
            2 => (0_u8..3).prop_map(Event::Put),
            1 => Just(Event::Delete),
        ]
    }

    /// A step that was decided but is not applied yet, and the value that was read for it.
    struct Pending {
        late_by: usize,
        step: MoveStep,
        value: Vec<u8>,
    }

    proptest! {
        /// Movers are late, or killed between their steps. Clients use the source until the key has moved,
        /// and the target from then on. Their last change must remain.
        #[test]
        fn last_change_remains(events in prop::collection::vec(event(), 0..40)) {
            let mut servers = Servers::default();
            servers.source.put(KEY, b"first");
            let mut expected = Some(b"first".to_vec());
            let mut has_moved = false;
            let mut pending: Vec<Pending> = Vec::new();
            for event in events {
                let clients = if has_moved { &mut servers.target } else { &mut servers.source };
                match event {
                    Event::Put(value) => {
                        clients.put(KEY, &[value]);
                        expected = Some(vec![value]);
                    }
                    Event::Delete => {
                        clients.remove(KEY);
                        expected = None;
                    }
                    Event::Move { late_by: None } => {}
                    // A single mover applies one step at a time.
                    Event::Move { .. } if !pending.is_empty() => {}
                    Event::Move { late_by: Some(late_by) } => {
                        let (step, value) = servers.look();
                        pending.push(Pending { late_by, step, value });
                    }
                }
                let due = pending.pop_if(|pending| pending.late_by == 0);
                if let Some(Pending { step, value, .. }) = due {
                    let is_done = servers.carry_out(step, &value);
                    if is_done && matches!(step, MoveStep::DeleteAtSource { .. }) {
                        has_moved = true;
                        prop_assert_eq!(servers.target.value(), expected.clone(), "deleted without a copy");
                    }
                }
                for pending in &mut pending {
                    pending.late_by = pending.late_by.saturating_sub(1);
                }
            }
            // If a client has deleted the key at the source for good, nothing has to move.
            prop_assert_eq!(servers.finish(), MoveStep::Done);
            prop_assert_eq!(servers.target.value(), expected);
            prop_assert_eq!(servers.source.keys.len(), 0);
            prop_assert!(servers.target.held(&note_of(KEY)).is_none());
        }
    }

    /// Clients may use the target before the source is empty. Their writes and deletions must remain.
    #[test]
    fn changes_at_the_target_win() {
        for deleted in [false, true] {
            let mut servers = Servers::default();
            servers.source.put(KEY, b"old");
            let (step, value) = servers.look();
            assert!(servers.carry_out(step, &value));
            servers.source.put(KEY, b"later at the source");
            if deleted {
                servers.target.remove(KEY);
            } else {
                servers.target.put(KEY, b"new");
            }
            assert_eq!(servers.finish(), MoveStep::Done);
            assert_eq!(servers.target.value(), (!deleted).then(|| b"new".to_vec()));
            assert!(servers.source.keys.is_empty());
        }
    }

    /// A client puts the key again at the source after it has moved, and deletes it after it was copied again.
    #[test]
    fn key_that_is_deleted_at_the_source_after_its_move_stays_deleted() {
        let mut servers = Servers::default();
        servers.source.put(KEY, b"first");
        let carry_out = |servers: &mut Servers, is_last: fn(MoveStep) -> bool| {
            loop {
                let (step, value) = servers.look();
                assert!(servers.carry_out(step, &value), "{step:?}");
                if is_last(step) {
                    break;
                }
            }
        };
        carry_out(&mut servers, |step| matches!(step, MoveStep::DeleteAtSource { .. }));
        servers.source.put(KEY, b"second");
        carry_out(&mut servers, |step| matches!(step, MoveStep::CopyAgain { .. }));
        servers.source.remove(KEY);
        assert_eq!(servers.finish(), MoveStep::Done);
        assert_eq!((servers.source.value(), servers.target.value()), (None, None));
    }

    #[test]
    fn expired_copy_is_made_again() {
        let lease = PresentValue { bytes: b"holder", revision: 3, expires: true };
        let renewed = BothServers { source: Some(lease), note: Some(2), ..BothServers::default() };
        assert_eq!(renewed.next_step(), MoveStep::CopyAgain { copy: None, note: 2 });
    }

    #[test]
    fn two_values_without_a_note_are_a_conflict() {
        let held = |bytes, revision| Some(PresentValue { bytes, revision, expires: false });
        let of = |source, target| BothServers { source, target, ..BothServers::default() }.next_step();
        assert_eq!(of(held(b"a", 1), held(b"b", 2)), MoveStep::Conflict);
        assert_eq!(of(held(b"a", 1), held(b"a", 2)), MoveStep::DeleteAtSource { source: 1 });
        assert_eq!(of(None, held(b"a", 2)), MoveStep::Done);
        assert_eq!(of(None, None), MoveStep::Done);
    }
}
