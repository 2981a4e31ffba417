//! Gives up deleted logs that cannot be archived, for example while the disk is full. Until they are closed,
//! they occupy disk space and descriptors.

use super::Tailer;
use super::discovery::NAMED_MAX;
use crate::pods::place::ContainerDir;
use crate::safe_dir::FileStatus;

/// A deleted log that is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DeletedLog {
    modified_s: u64,
    /// The disk space that the log occupies.
    bytes: u64,
    container: ContainerDir,
    inode: u64,
}

/// Returns the oldest logs that must go, so that the others fit into both bounds.
fn surplus(mut logs: Vec<DeletedLog>, bytes_max: u64, logs_max: usize) -> Vec<DeletedLog> {
    logs.sort_by_key(|log| log.modified_s);
    let mut bytes: u64 = logs.iter().fold(0, |sum, log| sum.saturating_add(log.bytes));
    let mut left = logs.len();
    let mut is_surplus = |log: &DeletedLog| {
        let is_too_much = bytes > bytes_max || left > logs_max;
        bytes = bytes.saturating_sub(log.bytes);
        left -= 1;
        is_too_much
    };
    let gone = logs.iter().take_while(|log| is_surplus(log)).count();
    logs.truncate(gone);
    logs
}

impl Tailer {
    fn deleted_logs(&self) -> Vec<DeletedLog> {
        let logs = self.containers.iter().flat_map(|(dir, container)| {
            container.logs.iter().filter_map(move |log| Some((dir, log.look().ok()?)))
        });
        let deleted = logs.filter(|(_, look): &(_, FileStatus)| look.links == 0);
        deleted
            .map(|(dir, look)| DeletedLog {
                modified_s: look.meta.mtime_s,
                bytes: look.allocated,
                container: dir.clone(),
                inode: look.stamp.ino,
            })
            .collect()
    }

    /// Closes the oldest deleted logs above the bounds. Everything uncommitted must be rolled back first.
    pub(super) fn give_up_deleted_logs(&mut self) {
        // Half of the descriptors are reserved for logs that are still written.
        self.keep_deleted_logs(self.config.deleted_bytes_max, self.config.logs_max / 2);
    }

    /// Counts all deleted logs as lost, because this tailer ends and cannot archive them.
    pub fn give_up_all_deleted_logs(&mut self) {
        self.keep_deleted_logs(0, 0);
    }

    fn keep_deleted_logs(&mut self, bytes_max: u64, logs_max: usize) {
        let (mut named, mut logs, mut lost_bytes) = (0, 0, 0);
        let given_up = surplus(self.deleted_logs(), bytes_max, logs_max);
        for DeletedLog { container: dir, inode, .. } in given_up {
            let Some(container) = self.containers.get_mut(&dir) else { continue };
            let Some(at) = container.logs.iter().position(|log| log.inode == inode) else { continue };
            let bytes = container.logs.remove(at).unread_bytes();
            if bytes == 0 {
                continue;
            }
            logs += 1;
            lost_bytes += bytes;
            self.metrics.lost(dir.to_string(), 1);
            if named < NAMED_MAX {
                named += 1;
                let (pod, container) = (&dir.pod, &dir.container);
                tracing::error!(
                    event = "container_log_given_up",
                    namespace = pod.namespace,
                    pod = pod.pod,
                    container,
                    bytes,
                    "closed a deleted log that could not be archived (--max-deleted)"
                );
            }
        }
        if logs > named {
            tracing::error!(
                event = "more_container_logs_given_up",
                logs = logs - named,
                "closed more deleted logs than are named; see the metrics"
            );
        }
        self.metrics.given_up_bytes.inc_by(lost_bytes);
        self.is_checkpoint_old |= logs > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn oldest_logs_go_until_the_others_fit(
            logs in prop::collection::vec((0u64..50, 0u64..100), 0..30), bytes_max in 0u64..1500, logs_max in 0usize..30,
        ) {
            let container: ContainerDir = "shop_web_1/app".parse().unwrap();
            let logs: Vec<DeletedLog> = (0..).zip(logs).map(|(inode, (modified_s, bytes))| DeletedLog {
                modified_s, bytes, container: container.clone(), inode,
            }).collect();
            let gone = surplus(logs.clone(), bytes_max, logs_max);
            let kept: Vec<&DeletedLog> = logs.iter().filter(|log| !gone.contains(log)).collect();
            let fits = |logs: &[&DeletedLog]| {
                logs.len() <= logs_max && logs.iter().map(|log| log.bytes).sum::<u64>() <= bytes_max
            };
            prop_assert!(fits(&kept));
            let newest = gone.iter().map(|log| log.modified_s).max().unwrap_or(0);
            prop_assert!(kept.iter().all(|log| log.modified_s >= newest));
            if let Some(last) = gone.last() {
                // No log is given up without need.
                prop_assert!(!fits(&[&kept[..], &[last]].concat()));
            }
        }
    }
}
