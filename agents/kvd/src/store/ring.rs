//! The latest mutations, for watchers that resume.

use super::contract::{Mutation, MutationKind, Revision};
use std::collections::VecDeque;

/// Memory that a mutation takes besides its key and value.
const OVERHEAD_BYTES: usize = 96;

/// The mutations after some revision, up to the newest one. Older ones are dropped to stay within a limit.
/// Those of the last commit are always kept, because no watcher could read them before.
#[derive(Debug)]
pub struct MutationRing {
    /// The revision before the first kept mutation.
    dropped_to: Revision,
    mutations: VecDeque<Mutation>,
    bytes: usize,
    bytes_max: usize,
}

/// The error for mutations that are no longer kept, or never were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes are kept after revision {dropped_to} and up to {newest}, not after {after}")]
pub struct NotKept {
    pub after: Revision,
    pub dropped_to: Revision,
    pub newest: Revision,
}

impl MutationRing {
    /// Creates an empty ring that starts after this revision.
    pub fn new(revision: Revision, bytes_max: usize) -> MutationRing {
        MutationRing { dropped_to: revision, mutations: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds mutations with consecutive revisions.
    pub fn extend(&mut self, mutations: Vec<Mutation>) {
        let added = mutations.len();
        for mutation in mutations {
            self.bytes += length(&mutation);
            self.mutations.push_back(mutation);
        }
        while self.bytes > self.bytes_max
            && self.mutations.len() > added
            && let Some(dropped) = self.mutations.pop_front()
        {
            self.bytes -= length(&dropped);
            self.dropped_to = dropped.revision;
        }
    }

    pub fn newest(&self) -> Revision {
        self.mutations.back().map_or(self.dropped_to, |newest| newest.revision)
    }

    /// Returns up to `max` mutations after a revision, in order.
    pub fn after(
        &self,
        after: Revision,
        max: usize,
    ) -> Result<impl Iterator<Item = &Mutation> + use<'_>, NotKept> {
        let skipped = self.position(after)?;
        Ok(self.mutations.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)).take(max))
    }

    /// Returns the number of kept mutations up to a revision. Fails if later ones were dropped, or if the
    /// revision is not reached yet.
    pub fn position(&self, after: Revision) -> Result<u64, NotKept> {
        let (dropped_to, newest) = (self.dropped_to, self.newest());
        let position = after.checked_sub(dropped_to).filter(|_| after <= newest);
        position.ok_or(NotKept { after, dropped_to, newest })
    }
}

/// Returns the memory that a mutation takes.
pub fn length(mutation: &Mutation) -> usize {
    let value = match &mutation.kind {
        MutationKind::Put { bytes, .. } => bytes.len(),
        MutationKind::Delete | MutationKind::Expire => 0,
    };
    OVERHEAD_BYTES + mutation.key.len() + value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key::Key;
    use proptest::prelude::*;

    fn mutation(revision: Revision) -> Mutation {
        Mutation { key: Key::new("k").unwrap(), revision, kind: MutationKind::Delete }
    }

    fn revisions(ring: &MutationRing, after: Revision, max: usize) -> Result<Vec<Revision>, NotKept> {
        Ok(ring.after(after, max)?.map(|mutation| mutation.revision).collect())
    }

    proptest! {
        /// A watcher gets every mutation after its revision, or an error.
        #[test]
        fn ring_returns_all_mutations_or_an_error(
            first in 0_u64..5,
            groups in prop::collection::vec(0_u64..6, 0..20),
            kept in 0_usize..12,
            max in 1_usize..4,
        ) {
            let mut ring = MutationRing::new(first, kept * (OVERHEAD_BYTES + 1));
            let (mut newest, mut last_group) = (first, 0);
            for size in groups {
                ring.extend((newest + 1..=newest + size).map(mutation).collect());
                newest += size;
                last_group = size;
            }
            prop_assert_eq!(ring.newest(), newest);
            let oldest = newest.saturating_sub(last_group.max(kept as u64)).max(first);
            for after in 0..newest + 3 {
                let got = revisions(&ring, after, max);
                if after < oldest || after > newest {
                    prop_assert_eq!(got, Err(NotKept { after, dropped_to: oldest, newest }));
                } else {
                    let expected: Vec<_> = (after + 1..=newest).take(max).collect();
                    prop_assert_eq!(got, Ok(expected));
                }
            }
        }
    }
}
