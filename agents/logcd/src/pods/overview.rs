//! The figures of each namespace and the containers with lost logs, for the page.

use crate::pods::hour::ArchiveName;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A namespace's rate is an average over about this time.
const RATE_OVER: Duration = Duration::from_secs(300);
/// The shortest time from which a rate is extrapolated.
const RATE_OVER_MIN: Duration = Duration::from_secs(10);
/// Limit on the containers with lost logs that are shown by name.
const LOSSES_MAX: usize = 50;

/// The archives of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceUsage {
    pub kept_bytes: u64,
    /// The namespace loses nothing to others while it keeps at most this.
    pub share_bytes: u64,
    pub archives: usize,
    pub oldest: Option<ArchiveName>,
}

/// An average rate in which older bytes count less and less.
#[derive(Clone, Copy, Debug)]
struct Rate {
    began: Instant,
    at: Instant,
    per_second: f64,
}

impl Rate {
    fn new(now: Instant) -> Rate {
        Rate { began: now, at: now, per_second: 0.0 }
    }

    fn decayed(self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.per_second * (-passed / RATE_OVER.as_secs_f64()).exp()
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    fn add(&mut self, bytes: u64, now: Instant) {
        let per_second = self.decayed(now) + bytes as f64 / RATE_OVER.as_secs_f64();
        *self = Rate { at: now, per_second, ..*self };
    }

    /// Returns bytes per second, corrected for the time before counting began.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and far below the limit"
    )]
    fn at(self, now: Instant) -> u64 {
        let counted = now.saturating_duration_since(self.began).max(RATE_OVER_MIN);
        let part = 1.0 - (-counted.as_secs_f64() / RATE_OVER.as_secs_f64()).exp();
        (self.decayed(now) / part) as u64
    }
}

#[derive(Clone, Debug)]
struct NamespaceFigures {
    read_bytes: u64,
    rate: Rate,
    /// `None` until the namespace has an archive.
    usage: Option<NamespaceUsage>,
}

impl NamespaceFigures {
    fn new(now: Instant) -> NamespaceFigures {
        NamespaceFigures { read_bytes: 0, rate: Rate::new(now), usage: None }
    }
}

/// A container that has lost logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    pub container: String,
    pub logs: u64,
    pub at_ms: i64,
}

/// The state at one moment.
#[derive(Clone, Debug, Default)]
pub struct PodsFigures {
    namespaces: BTreeMap<String, NamespaceFigures>,
    /// The logs that were lost since logcd started.
    pub lost_logs: u64,
    /// The losses, the newest one last.
    pub losses: VecDeque<Loss>,
}

/// The row of a namespace on the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceShown {
    pub name: String,
    pub bytes_per_second: u64,
    pub read_bytes: u64,
    pub kept_bytes: u64,
    pub share_bytes: u64,
    pub archives: usize,
    pub oldest: String,
}

impl PodsFigures {
    /// Returns all namespaces. Those that keep the most bytes come first.
    pub fn namespaces(&self, now: Instant) -> Vec<NamespaceShown> {
        let shown = |(name, figures): (&String, &NamespaceFigures)| {
            let usage = figures.usage.as_ref();
            NamespaceShown {
                name: name.clone(),
                bytes_per_second: figures.rate.at(now),
                read_bytes: figures.read_bytes,
                kept_bytes: usage.map_or(0, |usage| usage.kept_bytes),
                share_bytes: usage.map_or(0, |usage| usage.share_bytes),
                archives: usage.map_or(0, |usage| usage.archives),
                oldest: usage.and_then(|usage| usage.oldest).map_or(String::new(), |name| name.to_string()),
            }
        };
        let mut all: Vec<NamespaceShown> = self.namespaces.iter().map(shown).collect();
        all.sort_by_key(|namespace| std::cmp::Reverse((namespace.kept_bytes, namespace.read_bytes)));
        all
    }

    fn count(&mut self, namespace: &str, bytes: u64, now: Instant) {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), NamespaceFigures::new(now));
        }
        if let Some(figures) = self.namespaces.get_mut(namespace) {
            figures.read_bytes += bytes;
            figures.rate.add(bytes, now);
        }
    }

    /// Takes over the present usage. Namespaces without archives are dropped.
    fn set_usage(&mut self, usages: BTreeMap<String, NamespaceUsage>, now: Instant) {
        self.namespaces.retain(|name, _| usages.contains_key(name));
        for (name, usage) in usages {
            self.namespaces.entry(name).or_insert_with(|| NamespaceFigures::new(now)).usage = Some(usage);
        }
    }

    fn lose(&mut self, loss: Loss) {
        self.lost_logs += loss.logs;
        self.losses.push_back(loss);
        if self.losses.len() > LOSSES_MAX {
            self.losses.pop_front();
        }
    }
}

/// The figures, updated after each sweep. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PodsOverview(Arc<watch::Sender<PodsFigures>>);

impl PodsOverview {
    pub fn read(&self) -> watch::Receiver<PodsFigures> {
        self.0.subscribe()
    }

    /// Counts bytes that are being archived. The page is updated after the sweep.
    pub fn count(&self, namespace: &str, bytes: u64) {
        self.0.send_if_modified(|figures| {
            figures.count(namespace, bytes, Instant::now());
            false
        });
    }

    pub fn swept(&self, usages: BTreeMap<String, NamespaceUsage>) {
        self.0.send_modify(|figures| figures.set_usage(usages, Instant::now()));
    }

    pub fn lost(&self, container: String, logs: u64) {
        let at_ms = Timestamp::now().as_millisecond();
        self.0.send_modify(|figures| figures.lose(Loss { container, logs, at_ms }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_that_of_the_last_minutes() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut rate = Rate::new(began);
        for second in 1..=60 {
            rate.add(1000, at(second));
        }
        let near = |rate: u64, expected: u64| rate.abs_diff(expected) * 20 <= expected;
        assert!(near(rate.at(at(60)), 1000), "{rate:?}");
        for second in 61..=3600 {
            rate.add(5000, at(second));
        }
        assert!(near(rate.at(at(3600)), 5000), "{rate:?}");
        assert!(rate.at(at(7200)) < 10, "{rate:?}");
    }

    #[test]
    fn largest_namespaces_come_first() {
        let (mut figures, now) = (PodsFigures::default(), Instant::now());
        figures.count("gone", 5, now);
        figures.count("large", 7, now);
        let usage = |kept_bytes| NamespaceUsage { kept_bytes, share_bytes: 9, archives: 1, oldest: None };
        let usages = [("small", 1), ("large", 3)].map(|(name, kept)| (name.to_owned(), usage(kept)));
        figures.set_usage(usages.into(), now);
        let namespaces = figures.namespaces(now);
        let [largest, small] = &namespaces[..] else { panic!("{namespaces:?}") };
        assert_eq!((&*largest.name, largest.read_bytes, largest.kept_bytes), ("large", 7, 3));
        assert_eq!(small.name, "small");
    }

    #[test]
    fn losses_are_bounded() {
        let mut figures = PodsFigures::default();
        for n in 0..200 {
            figures.lose(Loss { container: n.to_string(), logs: 1, at_ms: n });
        }
        assert_eq!((figures.losses.len(), figures.losses[0].at_ms), (LOSSES_MAX, 150));
        assert_eq!(figures.lost_logs, 200);
    }
}
