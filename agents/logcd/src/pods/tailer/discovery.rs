//! Finds pods and containers, watches their directories, and opens their logs.

use super::{Sight, Tailer};
use crate::error::ArchiveError;
use crate::pods::followed_container::FollowedContainer;
use crate::pods::place::{ContainerDir, PodDir};
use crate::pods::watches::Watched;
use std::io;
use std::time::{Duration, Instant};

/// Limit on the delay before departed logs are read. A deleted log occupies disk space until then.
const DEPARTED_WITHIN: Duration = Duration::from_secs(1);
/// Limit on the lost containers that are logged by name. Further ones are only counted.
pub(super) const NAMED_MAX: usize = 10;

impl Tailer {
    /// Finds all pods and their containers. After an error, the next sweep does it again.
    pub(super) fn find_pods(&mut self) -> Result<(), ArchiveError> {
        let found = self.watch_pods();
        if found.is_err() {
            self.be_blind();
        }
        found
    }

    /// Watches the pods directory, then lists it. In this order, no pod is missed.
    fn watch_pods(&mut self) -> Result<(), ArchiveError> {
        let on = |error| ArchiveError::on("follow the logs below", &self.config.pods)(error);
        let fd = self.pods.directory(b"").map_err(on)?;
        let watched = self.watches.directory(&fd, Watched::Pods);
        self.note_blind(watched);
        let names = self.pods.names(b"");
        for name in names.map_err(ArchiveError::on("list", self.pods.path()))? {
            if let Ok(pod) = name.parse::<PodDir>() {
                self.find_containers(&pod);
            }
        }
        Ok(())
    }

    pub(super) fn find_containers(&mut self, pod: &PodDir) {
        let fd = match self.pods.directory(pod.to_string().as_bytes()) {
            Ok(fd) => fd,
            // The pod and everything in it may be gone already.
            Err(error) if is_no_directory(&error) => return,
            Err(error) => return self.note_blind(Err(error)),
        };
        let watched = self.watches.directory(&fd, Watched::Pod(pod.clone()));
        self.note_blind(watched);
        match self.pods.names(pod.to_string().as_bytes()) {
            Ok(names) => self.unseen.extend(names.iter().filter_map(|name| pod.container(name).ok())),
            Err(error) if is_no_directory(&error) => {}
            // Nothing else would show the containers that are there already.
            Err(error) => self.note_blind(Err(error)),
        }
    }

    pub(super) fn note_blind(&mut self, watched: io::Result<()>) {
        let Err(error) = watched else { return };
        if self.sight == Sight::Full {
            tracing::warn!(event = "container_watch_failed", %error, "the kernel cannot report all changes: every log is checked each time; raise fs.inotify.max_user_watches");
        }
        self.be_blind();
    }

    /// Schedules a sweep that examines everything, because the kernel reports nothing about what is unwatched.
    fn be_blind(&mut self) {
        self.sight = Sight::Blind;
        self.due_within(self.config.within);
    }

    /// Examines again everything that could not be read or watched before.
    pub(super) fn look_again(&mut self) -> Result<(), ArchiveError> {
        self.unseen.extend(self.retries.take_due(Instant::now()));
        if self.sight == Sight::Blind {
            self.sight = Sight::Recovering;
            self.find_pods()?;
        }
        let is_due = !self.unseen.is_empty();
        self.look_at_unseen();
        if is_due && !self.past.is_empty() {
            self.tell_lost_containers();
        }
        Ok(())
    }

    pub(super) fn look_at_unseen(&mut self) {
        let mut rounds = 0;
        while !self.unseen.is_empty() && rounds < 10 {
            rounds += 1;
            for dir in std::mem::take(&mut self.unseen) {
                self.look(&dir);
            }
        }
    }

    fn look(&mut self, dir: &ContainerDir) {
        let is_known = self.containers.contains_key(dir);
        let opened = self.pods.directory(dir.to_string().as_bytes());
        if let Ok(fd) = &opened {
            let watched = self.watches.directory(fd, Watched::Container(dir.clone()));
            self.note_blind(watched);
        } else if !is_known && opened.is_err_and(|error| is_no_directory(&error)) {
            self.retries.remove(dir);
            return;
        }
        let room = self.room_for(dir);
        let past = &mut self.past;
        let container = self.containers.entry(dir.clone()).or_insert_with(|| {
            FollowedContainer::new(dir.clone(), past.remove(&dir.to_string()).unwrap_or_default())
        });
        match container.look(&self.pods, room) {
            Ok(findings) => {
                match findings.must_retry {
                    true => drop(self.retries.add(dir, Instant::now())),
                    false => self.retries.remove(dir),
                }
                self.metrics.skipped_names.inc_by(findings.skipped);
                if findings.lost > 0 {
                    let (pod, container) = (&dir.pod, &dir.container);
                    tracing::warn!(
                        event = "container_logs_lost",
                        namespace = pod.namespace,
                        pod = pod.pod,
                        container,
                        logs = findings.lost,
                        "logs went before they were read to their end"
                    );
                    self.metrics.lost(dir.to_string(), findings.lost);
                }
                if findings.is_unclear {
                    self.unseen.insert(dir.clone());
                }
                self.is_checkpoint_old |= findings.has_moved || findings.lost > 0;
                // A renamed log is as safe as before.
                if findings.opened > 0 || findings.has_moved {
                    self.due_within(self.config.within);
                }
                if findings.has_departed {
                    self.departed_due_within(DEPARTED_WITHIN.saturating_sub(self.swept.elapsed()));
                }
            }
            Err(error) => {
                if self.retries.add(dir, Instant::now()) {
                    tracing::warn!(event = "container_unreadable", container = %dir, %error, "cannot look at a container's logs; it is tried again");
                }
            }
        }
    }

    /// Returns the number of logs that a container may have open. A namespace may use half of what the others
    /// leave, so that the next namespace always finds some.
    fn room_for(&self, dir: &ContainerDir) -> usize {
        let (mut logs_of_others, mut logs_of_namespace) = (0, 0);
        for (other, container) in self.containers.iter().filter(|(other, _)| *other != dir) {
            match other.pod.namespace == dir.pod.namespace {
                true => logs_of_namespace += container.logs.len(),
                false => logs_of_others += container.logs.len(),
            }
        }
        let left = self.config.logs_max.saturating_sub(logs_of_others);
        left.div_ceil(2).saturating_sub(logs_of_namespace)
    }

    /// Logs and counts the containers that were removed while logcd was not running. A container that is only
    /// unreadable at present keeps its cursors.
    pub(super) fn tell_lost_containers(&mut self) {
        let mut named = 0;
        for (dir, cursors) in std::mem::take(&mut self.past) {
            let opened = self.pods.directory(dir.as_bytes());
            if let (Ok(container), false) =
                (dir.parse(), opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
            {
                self.retries.add(&container, Instant::now());
                self.past.insert(dir, cursors);
                continue;
            }
            if let Ok(container) = dir.parse() {
                self.retries.remove(&container);
            }
            let lost = cursors.logs.iter().filter(|cursor| !cursor.is_whole).count();
            if lost == 0 {
                continue;
            }
            self.metrics.lost(dir.clone(), lost as u64);
            self.is_checkpoint_old = true;
            self.due_within(self.config.within);
            named += 1;
            if named <= NAMED_MAX {
                tracing::warn!(
                    event = "container_missed",
                    container = dir,
                    logs = lost,
                    "a container was removed while logcd was not running; its last lines may be missing"
                );
            }
        }
        if named > NAMED_MAX {
            tracing::warn!(
                event = "more_containers_missed",
                containers = named - NAMED_MAX,
                "more containers were removed; see the metrics"
            );
        }
    }
}

/// True if the name leads to nothing that can be followed: to no directory, or to a link.
fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::ELOOP))
}
