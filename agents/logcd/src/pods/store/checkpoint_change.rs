//! The difference between the checkpoints of two commits.

use crate::pods::cursor::{Checkpoint, Cursors, OpenArchive};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckpointChange {
    next_entry: u64,
    /// The open archives that are new or have grown.
    open: Vec<OpenArchive>,
    /// The namespaces whose open archive was closed.
    closed: BTreeSet<String>,
    /// The containers whose logs are new or have changed.
    containers: BTreeMap<String, Cursors>,
    /// The containers that are gone.
    gone: BTreeSet<String>,
}

impl CheckpointChange {
    /// Compares two checkpoints. Each has at most one open archive of a namespace.
    pub fn between(before: &Checkpoint, after: &Checkpoint) -> CheckpointChange {
        let old: BTreeMap<&str, &OpenArchive> =
            before.open.iter().map(|archive| (archive.namespace.as_str(), archive)).collect();
        let new: BTreeSet<&str> = after.open.iter().map(|archive| archive.namespace.as_str()).collect();
        let has_changed =
            |archive: &&OpenArchive| old.get(archive.namespace.as_str()).is_none_or(|old| old != archive);
        let changed =
            after.containers.iter().filter(|(dir, cursors)| before.containers.get(*dir) != Some(cursors));
        CheckpointChange {
            next_entry: after.next_entry,
            open: after.open.iter().filter(has_changed).cloned().collect(),
            closed: old.keys().filter(|name| !new.contains(*name)).map(|name| (*name).to_owned()).collect(),
            containers: changed.map(|(dir, cursors)| (dir.clone(), cursors.clone())).collect(),
            gone: before
                .containers
                .keys()
                .filter(|dir| !after.containers.contains_key(*dir))
                .cloned()
                .collect(),
        }
    }

    /// Turns the checkpoint of the earlier commit into that of the later one.
    pub fn apply_to(self, checkpoint: &mut Checkpoint) {
        let CheckpointChange { next_entry, open, closed, containers, gone } = self;
        let changed: BTreeSet<String> = open.iter().map(|archive| archive.namespace.clone()).collect();
        let stays =
            |archive: &OpenArchive| ![&closed, &changed].iter().any(|set| set.contains(&archive.namespace));
        checkpoint.next_entry = next_entry;
        checkpoint.open.retain(stays);
        checkpoint.open.extend(open);
        checkpoint.open.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        checkpoint.containers.retain(|dir, _| !gone.contains(dir));
        checkpoint.containers.extend(containers);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pods::cursor::ArchivedCopy;
    use proptest::prelude::*;

    /// Checkpoints of few namespaces and containers, so that two of them have some in common.
    pub fn checkpoints() -> impl Strategy<Value = Checkpoint> {
        let open = prop::collection::btree_map("[a-d]", 0u64..3, 0..4);
        let containers = prop::collection::btree_map("[a-d]", 0u64..3, 0..4);
        (0u64..9, open, containers).prop_map(|(next_entry, open, containers)| {
            let archive = |(namespace, bytes): (String, u64)| {
                let name = "2026-11-28T14.tar.gz".to_owned();
                OpenArchive { namespace, name, bytes, hidden_end: None }
            };
            let cursors = |inode| Cursors {
                logs: Vec::new(),
                settled: vec![ArchivedCopy { name: "0.log".to_owned(), inode }],
            };
            Checkpoint {
                next_entry,
                open: open.into_iter().map(archive).collect(),
                containers: containers.into_iter().map(|(dir, inode)| (dir, cursors(inode))).collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn change_leads_from_one_checkpoint_to_the_next(before in checkpoints(), after in checkpoints()) {
            let mut checkpoint = before.clone();
            CheckpointChange::between(&before, &after).apply_to(&mut checkpoint);
            prop_assert_eq!(checkpoint, after);
        }

        #[test]
        fn equal_checkpoints_differ_in_nothing(checkpoint in checkpoints()) {
            let change = CheckpointChange::between(&checkpoint, &checkpoint);
            prop_assert!(change.open.is_empty() && change.closed.is_empty());
            prop_assert!(change.containers.is_empty() && change.gone.is_empty());
        }
    }
}
