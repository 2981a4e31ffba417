//! The containers that could not be read completely, and the time of the next attempt.

use crate::pods::place::ContainerDir;
use kit::net::backoff::Backoff;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Limit on the delay, so that a container that stays unreadable hardly wakes the thread.
const DELAY_MAX: Duration = Duration::from_secs(600);

pub struct Retries {
    containers: BTreeSet<ContainerDir>,
    delays: Backoff,
    due: Option<Instant>,
}

impl Retries {
    pub fn new() -> Retries {
        Retries { containers: BTreeSet::new(), delays: Backoff::up_to(DELAY_MAX), due: None }
    }

    /// Adds a container. Each new one restarts the delays. Returns false if the container was added before.
    pub fn add(&mut self, dir: &ContainerDir, now: Instant) -> bool {
        let is_new = self.containers.insert(dir.clone());
        if is_new {
            self.delays.succeeded();
            self.due = Some(now + self.delays.ceiling_after_failure());
        }
        is_new
    }

    /// Removes a container that was read.
    pub fn remove(&mut self, dir: &ContainerDir) {
        self.containers.remove(dir);
        if self.containers.is_empty() {
            self.due = None;
        }
    }

    /// Returns the containers that are due for a retry, and schedules the next retry.
    pub fn take_due(&mut self, now: Instant) -> Vec<ContainerDir> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = Some(now + self.delays.ceiling_after_failure());
        self.containers.iter().cloned().collect()
    }

    /// Makes the next retry due at once, because logs were closed.
    pub fn hasten(&mut self, now: Instant) {
        self.due = self.due.map(|due| due.min(now));
    }

    /// Returns the time of the next retry.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> ContainerDir {
        format!("shop_web_1/{name}").parse().unwrap()
    }

    #[test]
    fn delays_grow_until_a_container_is_added() {
        let (mut retries, start) = (Retries::new(), Instant::now());
        assert!(retries.add(&dir("a"), start));
        assert_eq!(retries.take_due(start), []);
        let mut delays = Vec::new();
        let mut now = start;
        for _ in 0..20 {
            let due = retries.due().unwrap();
            delays.push(due - now);
            now = due;
            assert_eq!(retries.take_due(now), [dir("a")]);
            assert!(!retries.add(&dir("a"), now));
        }
        assert!(delays.is_sorted() && delays[0] < Duration::from_secs(1) && delays[19] == DELAY_MAX);
        assert!(retries.add(&dir("b"), now));
        assert_eq!(retries.due().unwrap() - now, delays[0]);
    }

    #[test]
    fn nothing_is_due_without_containers() {
        let (mut retries, now) = (Retries::new(), Instant::now());
        retries.hasten(now);
        assert_eq!(retries.due(), None);
        retries.add(&dir("a"), now);
        retries.hasten(now);
        assert_eq!(retries.take_due(now), [dir("a")]);
        retries.remove(&dir("a"));
        assert_eq!(retries.due(), None);
    }
}
