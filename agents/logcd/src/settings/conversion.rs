//! Turns the flags into the configuration of the cycle and the tailer, after checks that need the disk.

use super::Serve;
use crate::archive::codec::Codec;
use crate::config::{ArchiveLimits, Config, Packing, Publishing, Select};
use crate::cycle::retention::RetentionLimits;
use crate::day::Calendar;
use crate::logs::directories::LogDir;
use crate::pods::bounds::{Bound, Bounds};
use crate::pods::config::PodsConfig;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::identity::Identity;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

impl Serve {
    pub fn config(&self) -> Result<Config, Fatal> {
        let (dir, further) = self.dir.split_first().ok_or_else(|| usage("--dir: a directory is needed"))?;
        let dir = existing(dir, "--dir")?;
        let out = match &self.out {
            Some(out) => created(out, "--out")?,
            None => dir.clone(),
        };
        let prefix = member_prefix(self.prefix.as_deref().unwrap_or(&dir));
        let threads = self
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8));
        Ok(Config {
            dirs: self.directories(&dir, further, &prefix)?,
            prefix,
            out,
            select: Select {
                include: self.include.clone(),
                exclude: self.exclude.clone(),
                recursive: self.recursive,
                hard_links: self.hard_links,
            },
            limits: ArchiveLimits {
                files: self.max_files,
                hole_bytes: self.max_holes,
                superseded_bytes: if self.latest_only { 0 } else { self.max_superseded },
                keep: RetentionLimits { days: self.keep_days, bytes: self.keep_bytes },
                min_free: self.min_free,
                compare_bytes: self.compare_bytes,
            },
            packing: Packing { codec: self.codec(), level: self.level()?, threads },
            publishing: Publishing {
                interval: self.interval,
                within: self.publish_within,
                percent: self.publish_percent,
                poll: self.poll,
                mode: self.mode,
            },
            calendar: Calendar::new(self.utc),
            remove_after: self.remove_after,
        })
    }

    /// True if the logs of directories are archived, by day.
    pub fn has_directories(&self) -> bool {
        !is_none(&self.dir)
    }

    /// True if container logs are archived.
    pub fn has_pods(&self) -> bool {
        !is_none(std::slice::from_ref(&self.pods))
    }

    /// Returns the settings for container logs, if they are to be archived.
    pub fn pods_config(&self) -> Result<Option<PodsConfig>, Fatal> {
        if !self.has_pods() {
            return match self.has_directories() {
                true => Ok(None),
                false => {
                    Err(usage("--dir none: --pods names no directory either, so there is nothing to archive"))
                }
            };
        }
        let out = created(&self.pods_out, "--pods-out")?;
        let identity = Identity::of_this_process();
        let all = Bound { bytes: self.keep_bytes, days: self.keep_days };
        let namespaces = self.namespace.iter().map(|rule| (rule.pattern.clone(), rule.within(all))).collect();
        Ok(Some(PodsConfig {
            pods: perhaps_missing(&self.pods, "--pods")?,
            out,
            within: self.publish_within,
            bounds: Bounds {
                all,
                namespaces,
                min_free: self.min_free,
                days: self.days_beside(&self.pods_out),
            },
            calendar: Calendar::new(self.utc),
            mode: self.mode,
            codec: self.codec(),
            level: self.level()?,
            hole_bytes_max: self.max_holes,
            logs_max: self.max_files,
            deleted_bytes_max: self.max_deleted,
            own_pod: identity.namespace.map(|namespace| (namespace, identity.name)),
        }))
    }

    /// Returns the directory for the archives of days, if it is on the same file system as another directory.
    fn days_beside(&self, other: &Path) -> Option<PathBuf> {
        let days = self.out.as_ref().or(self.dir.first()).filter(|_| self.has_directories())?;
        let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
        (device(days)? == device(other)?).then(|| days.clone())
    }

    /// Returns each log directory once, so that no file is archived under two names.
    fn directories(&self, first: &Path, further: &[PathBuf], prefix: &[u8]) -> Result<Vec<LogDir>, Fatal> {
        let mut dirs = vec![LogDir::first(first.to_owned())];
        let mut resolved = vec![first.to_owned()];
        for path in further {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let real = path.canonicalize().unwrap_or_else(|_| whole.clone());
            if resolved.contains(&real) {
                continue;
            }
            let nested = |other: &PathBuf| real.starts_with(other) || other.starts_with(&real);
            if let Some(other) = resolved.iter().find(|other| self.recursive && nested(other)) {
                let (real, other) = (real.display(), other.display());
                return Err(usage(&format!(
                    "--dir {real}: with --recursive, it and {other} hold the same files"
                )));
            }
            dirs.push(LogDir::further(whole.clone(), prefix, &member_prefix(&whole)));
            resolved.push(real);
        }
        if self.prefix.is_some() && dirs.len() > 1 {
            return Err(usage(
                "--prefix: with more than one --dir, each file's name in the archive is its own path",
            ));
        }
        Ok(dirs)
    }

    fn codec(&self) -> Codec {
        if self.zstd { Codec::Zstd } else { Codec::Gzip }
    }

    /// Returns the compression level, if archives of this kind have it.
    pub fn level(&self) -> Result<u32, Fatal> {
        let codec = self.codec();
        let level = self.level.unwrap_or(codec.default_level());
        if codec.levels().contains(&level) {
            return Ok(level);
        }
        let levels = codec.levels();
        let kind = codec.suffix();
        Err(Fatal::new(
            Exit::Usage,
            format!("--level {level}: {} to {} are possible for {kind}", levels.start(), levels.end()),
        ))
    }
}

fn is_none(paths: &[PathBuf]) -> bool {
    matches!(paths, [path] if path == Path::new("none"))
}

fn usage(message: &str) -> Fatal {
    Fatal::new(Exit::Usage, message)
}

/// Resolves symlinks, which are the operator's own at the start; later ones are not followed.
fn existing(path: &Path, flag: &str) -> Result<PathBuf, Fatal> {
    path.canonicalize().map_err(unusable(path, flag))
}

/// Creates a directory unless it exists, and resolves its symlinks.
fn created(path: &Path, flag: &str) -> Result<PathBuf, Fatal> {
    let cannot =
        |e| Fatal::new(Exit::Failure, format!("cannot create {} ({flag})", path.display())).because(e);
    std::fs::create_dir_all(path).map_err(cannot)?;
    existing(path, flag)
}

fn unusable(path: &Path, flag: &str) -> impl Fn(io::Error) -> Fatal {
    move |error| Fatal::new(Exit::Failure, format!("cannot use {} ({flag})", path.display())).because(error)
}

/// Resolves the symlinks of a path whose last directories may not exist yet.
fn perhaps_missing(path: &Path, flag: &str) -> Result<PathBuf, Fatal> {
    let whole = std::path::absolute(path).map_err(unusable(path, flag))?;
    for ancestor in whole.ancestors() {
        match ancestor.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            resolved => {
                let mut resolved = resolved.map_err(unusable(path, flag))?;
                resolved.extend(whole.strip_prefix(ancestor).into_iter().flatten());
                return Ok(resolved);
            }
        }
    }
    Ok(whole)
}

/// Returns the path as tar stores it: without a leading slash, with one at the end.
fn member_prefix(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(start, |last| last + 1);
    match &bytes[start.min(end)..end] {
        [] => Vec::new(),
        name => [name, b"/"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directory_is_below_the_resolved_ones() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("log")).unwrap();
        std::os::unix::fs::symlink(root.join("log"), root.join("link")).unwrap();
        for (path, expected) in [("link", "log"), ("link/pods/a", "log/pods/a"), ("log", "log")] {
            let resolved = perhaps_missing(&root.join(path), "--pods").unwrap();
            assert_eq!(resolved.as_os_str(), root.join(expected).as_os_str());
        }
    }

    #[test]
    fn member_prefix_is_the_path_without_slash() {
        for (path, expected) in [("/var/log", "var/log/"), ("/", ""), ("", ""), ("x", "x/"), ("//a//", "a/")]
        {
            assert_eq!(member_prefix(Path::new(path)), expected.as_bytes(), "{path}");
        }
    }
}
