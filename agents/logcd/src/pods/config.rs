//! The settings for container logs.

use crate::archive::codec::Codec;
use crate::day::Calendar;
use crate::error::ArchiveError;
use crate::pods::bounds::Bounds;
use crate::pods::cursor::Cursors;
use crate::pods::hour::ArchiveName;
use crate::pods::place::{ContainerDir, PodDir};
use crate::pods::store::Store;
use jiff::{Timestamp, ToSpan};
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Time between two attempts after a failure.
pub const RETRY: Duration = Duration::from_secs(5);

/// Descriptors that are reserved for archives, directories, connections and probes.
const DESCRIPTORS_RESERVED: usize = 256;

/// Returns the number of container logs that may be open: the wanted number, or fewer if the limit of open
/// files is low.
pub fn logs_within_limit(wanted: usize) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let allowed = limit.saturating_sub(DESCRIPTORS_RESERVED).max(limit / 2);
    if allowed < wanted {
        tracing::warn!(
            event = "container_logs_reduced",
            wanted,
            allowed,
            "the limit of open files (RLIMIT_NOFILE) is lower than --max-files; fewer container logs are followed"
        );
    }
    wanted.min(allowed)
}

/// The checked settings for container logs.
#[derive(Clone, Debug)]
pub struct PodsConfig {
    pub pods: PathBuf,
    pub out: PathBuf,
    pub within: Duration,
    pub bounds: Bounds,
    pub calendar: Calendar,
    pub mode: u32,
    pub codec: Codec,
    pub level: u32,
    /// Limit on the bytes of holes in a log.
    pub hole_bytes_max: u64,
    pub logs_max: usize,
    /// Limit on the disk space of deleted logs that are still open.
    pub deleted_bytes_max: u64,
    /// The namespace and name of the pod in which this logcd runs.
    pub own_pod: Option<(String, String)>,
}

impl PodsConfig {
    /// Returns this configuration with those settings of `new` that can change while logs are followed.
    pub fn renewed(&self, new: PodsConfig) -> PodsConfig {
        PodsConfig {
            within: new.within,
            bounds: new.bounds,
            hole_bytes_max: new.hole_bytes_max,
            logs_max: new.logs_max,
            deleted_bytes_max: new.deleted_bytes_max,
            ..self.clone()
        }
    }

    /// Returns the names of the settings in which `new` differs and which need a restart.
    pub fn needs_restart_for(&self, new: &PodsConfig) -> Vec<&'static str> {
        let zstd = self.codec != new.codec;
        // Each kind of archive has its own levels.
        let settings = [
            ("zstd", zstd),
            ("level", !zstd && self.level != new.level),
            ("utc", self.calendar != new.calendar),
        ];
        settings.into_iter().filter_map(|(name, has_changed)| has_changed.then_some(name)).collect()
    }

    pub fn hour(&self) -> ArchiveName {
        ArchiveName::at(self.calendar.at(Timestamp::now()).datetime(), self.codec)
    }

    /// Opens and locks the directory for archives.
    pub fn store(&self) -> Result<(Store, BTreeMap<String, Cursors>), ArchiveError> {
        Store::open(&self.out, self.mode, self.level, self.bounds.clone(), self.hour())
    }

    pub fn is_own(&self, container: &ContainerDir) -> bool {
        let PodDir { namespace, pod, .. } = &container.pod;
        self.own_pod.as_ref().is_some_and(|own| (&own.0, &own.1) == (namespace, pod))
    }

    pub fn until_next_hour(&self) -> Duration {
        let now = self.calendar.at(Timestamp::now());
        let next = now.checked_add(1.hour()).ok().and_then(|later| {
            later.round(jiff::ZonedRound::new().smallest(jiff::Unit::Hour).mode(jiff::RoundMode::Trunc)).ok()
        });
        next.and_then(|next| next.timestamp().duration_since(now.timestamp()).try_into().ok())
            .unwrap_or(RETRY)
    }
}
