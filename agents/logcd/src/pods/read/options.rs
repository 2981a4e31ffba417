//! The flags of `logcd read`: which lines are wanted, and how they are printed.

use crate::pods::place::{ContainerDir, PodDir};
use crate::pods::veil::Span;
use jiff::Timestamp;
use kit::settings::time::parse_time;
use regex::bytes::Regex;
use std::path::PathBuf;

/// Selects lines, and how they are printed.
#[derive(Clone, Debug, clap::Args)]
pub struct ReadOptions {
    /// The directory with the archives of container logs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/logcd")]
    pub pods_out: PathBuf,

    /// The directory of the container logs, for lines that are not archived yet; or none
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods")]
    pub pods: PathBuf,

    /// Only this namespace
    #[arg(long, short, value_name = "NAMESPACE", hide_env = true)]
    pub namespace: Option<String>,

    /// Only pods whose names this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub pod: Option<Regex>,

    /// Only containers with this name
    #[arg(long, short, value_name = "NAME")]
    pub container: Option<String>,

    /// Only lines since a time (2026-11-21T08:00:00Z), a local time (2026-11-21 08:00), a date, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,

    /// Only lines up to a time, in the same forms
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,

    /// Only lines that this regular expression matches, after their parts are joined
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<Regex>,

    /// Print lines in this format
    #[arg(long, short, value_name = "FORMAT", default_value = "plain")]
    pub output: ReadFormat,

    /// Keep printing new lines, through rotations, restarts and new pods, until interrupted
    #[arg(long, short, conflicts_with = "until")]
    pub follow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadFormat {
    /// The line alone, its parts joined
    Plain,
    /// An object for each line, with its time, namespace, pod, container and stream
    Json,
    /// As the container runtime wrote it, parts not joined
    Raw,
    /// For `nodecrew logs`: compressed, each line with its time and container
    #[value(hide = true)]
    Records,
}

impl ReadOptions {
    pub(super) fn wants_namespace(&self, name: &str) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| namespace == name)
    }

    pub(super) fn wants_pod(&self, pod: &PodDir) -> bool {
        self.wants_namespace(&pod.namespace)
            && self.pod.as_ref().is_none_or(|pattern| pattern.is_match(pod.pod.as_bytes()))
    }

    pub(super) fn wants(&self, dir: &ContainerDir) -> bool {
        self.wants_pod(&dir.pod) && self.container.as_ref().is_none_or(|name| *name == dir.container)
    }

    pub(super) fn wants_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    /// True if a place with this span may have wanted lines. Always true for a place without times.
    pub(super) fn wants_span(&self, span: Span) -> bool {
        span.is_none_or(|(first, last)| {
            self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first <= until)
        })
    }
}
