//! The flags, each also `LOGCD_…` in the environment and a key of the `--config` file.

use crate::archive::codec::Codec;
use crate::config::{ArchiveLimits, Config, Packing, Publishing, Select};
use crate::cycle::retention::RetentionLimits;
use crate::day::Calendar;
use crate::logs::directories::LogDir;
use crate::logs::pattern::Pattern;
use crate::pods::config::PodsConfig;
use crate::pods::read::ReadOptions;
use crate::pods::share::Bound;
use crate::pods::store::Bounds;
use kit::disk::free_space::MinFree;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::identity::Identity;
use kit::page::access::PageToken;
use kit::settings::help::examples;
use kit::settings::{Common, Door, parse_duration, parse_nonzero_duration, parse_size};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keeps the logs of directories in one compressed archive a day, at the cost of the new bytes only.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "logcd", args_conflicts_with_subcommands = true, max_term_width = 110,
    after_long_help = examples(&[
        "logcd --dir /var/log --out . --once; tar -tzf all-logs-*.tar.gz",
        "logcd --dir logs --out archives --interval 10s",
        "logcd --dir /var/log --recursive --include '*.log,*.out' --zstd --keep-days 7",
    ]))]
pub struct Flags {
    #[command(flatten)]
    pub serve: Serve,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands that read archives; any tar can read them, too.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// List the files of an archive
    #[command(after_long_help = examples(&[
        "logcd list all-logs-2026-11-21.tar.gz",
        "logcd list /var/log/all-logs-2026-11-21.tar.zst | grep kubelet",
    ]))]
    List(ArchiveOptions),
    /// Print a file of an archive; with the index, nothing else of the archive is read
    #[command(after_long_help = examples(&[
        "logcd cat all-logs-2026-11-21.tar.gz node.log",
        "logcd cat all-logs-2026-11-21.tar.gz var/log/node.log | tail",
    ]))]
    Cat(CatOptions),
    /// Unpack an archive or some of its files
    #[command(after_long_help = examples(&[
        "logcd extract all-logs-2026-11-21.tar.gz --to unpacked",
        "logcd extract all-logs-2026-11-21.tar.gz var/log/node.log",
    ]))]
    Extract(ExtractOptions),
    /// Check every byte of an archive and report damage
    #[command(after_long_help = examples(&[
        "logcd verify all-logs-2026-11-21.tar.gz",
        "logcd verify all-logs-2026-11-21.tar.gz && echo sound",
    ]))]
    Verify(ArchiveOptions),
    /// Print lines of container logs in the order of time, from archives and live logs
    #[command(after_long_help = examples(&[
        "logcd read --namespace shop --since 2h",
        "logcd read --pod '^web-' --grep 'status=5..' -o json",
    ]))]
    Read(ReadOptions),
}

#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveOptions {
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct CatOptions {
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,

    /// Path as listed, or only the file's name
    #[arg(value_name = "NAME")]
    pub name: std::ffi::OsString,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ExtractOptions {
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,

    /// Paths as listed; all files if none is given
    #[arg(value_name = "NAME")]
    pub names: Vec<std::ffi::OsString>,

    /// Directory to unpack into
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub to: PathBuf,
}

/// The settings that are applied to a running daemon.
pub const LIVE: &[&str] = &[
    "include",
    "exclude",
    "hard-links",
    "prefix",
    "latest-only",
    "interval",
    "publish-within",
    "publish-percent",
    "poll",
    "utc",
    "zstd",
    "level",
    "threads",
    "keep-days",
    "keep-bytes",
    "min-free",
    "compare-bytes",
    "max-superseded",
    "max-files",
    "max-holes",
    "remove-after",
    "log-level",
];

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// A directory with logs, which may be read-only, or none; give the flag again for more, whose files keep their whole paths as names
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/log",
        value_delimiter = ',',
        help_heading = "What"
    )]
    pub dir: Vec<PathBuf>,

    /// Directory for the archives, such as /var/lib/logcd [default: the first log directory]
    #[arg(long, value_name = "DIR", help_heading = "What")]
    pub out: Option<PathBuf>,

    /// Archive the container logs below this directory, too: /var/log/pods on most nodes; or none
    #[arg(long, value_name = "DIR", default_value = "none", help_heading = "What")]
    pub pods: PathBuf,

    /// Directory for the archives of container logs, one for each namespace and hour
    #[arg(long, value_name = "DIR", default_value = "/var/lib/logcd", help_heading = "What")]
    pub pods_out: PathBuf,

    /// Files to archive: patterns for names, or with a slash for paths below the directory
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "*.log",
        value_delimiter = ',',
        help_heading = "What"
    )]
    pub include: Vec<Pattern>,

    /// Files to leave out
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = "What")]
    pub exclude: Vec<Pattern>,

    /// Include subdirectories
    #[arg(long, help_heading = "What")]
    pub recursive: bool,

    /// Archive files with several names even if not all of the names are in the directories
    #[arg(long, help_heading = "What")]
    pub hard_links: bool,

    /// Path of the files in the archive [default: the directory, such as var/log]
    #[arg(long, value_name = "PATH", help_heading = "What")]
    pub prefix: Option<PathBuf>,

    /// Do not keep content that was rotated, truncated, rewritten or deleted during the day
    #[arg(long, help_heading = "What")]
    pub latest_only: bool,

    /// Make one archive of the present state and exit
    #[arg(long, help_heading = "When")]
    pub once: bool,

    /// Time between two looks for news
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_interval, help_heading = "When")]
    pub interval: Duration,

    /// Publish news before it is this old, or at the next look where --interval is longer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration, help_heading = "When")]
    pub publish_within: Duration,

    /// Publish at once when the news is this many per cent of what is archived
    #[arg(long, value_name = "PER CENT", default_value_t = 5, help_heading = "When")]
    pub publish_percent: u64,

    /// Look after this time even if the kernel reported no change
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_nonzero_duration, help_heading = "When")]
    pub poll: Duration,

    /// Use days in UTC instead of local time
    #[arg(long, help_heading = "When")]
    pub utc: bool,

    /// Make .tar.zst instead of .tar.gz; today's archive of the other kind is converted
    #[arg(long, help_heading = "How")]
    pub zstd: bool,

    /// Compression: 1 is fast, 6 as gzip, 7 a little smaller; with --zstd 1 to 12 [default: 6, with --zstd 3]
    #[arg(long, value_name = "LEVEL", help_heading = "How")]
    pub level: Option<u32>,

    /// Threads for a backlog [default: the processors that the process may use, at most 8]
    #[arg(long, value_name = "N", help_heading = "How")]
    pub threads: Option<usize>,

    /// Permissions of the archives, which may contain logs that only root could read
    #[arg(long, value_name = "OCTAL", default_value = "0600", value_parser = parse_mode, help_heading = "How")]
    pub mode: u32,

    /// Keep the archives of this many days
    #[arg(long, value_name = "DAYS", default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub keep_days: u32,

    /// Keep archives up to this total size; the oldest go first
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = parse_size, help_heading = "Bounds")]
    pub keep_bytes: u64,

    /// Bounds for the container logs of one namespace or a pattern, such as kube-system:keep-bytes=1GiB,keep-days=7
    #[arg(long, value_name = "RULE", help_heading = "Bounds")]
    pub namespace: Vec<NamespaceRule>,

    /// Leave this much of the archives' disk free, such as 256MiB or 15%: the oldest days are removed, then no archive is made
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = "Bounds")]
    pub min_free: MinFree,

    /// Compare this much of what is archived with the logs at each look, or one 64th of it where that is more
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = parse_size, help_heading = "Bounds")]
    pub compare_bytes: u64,

    /// Keep at most this much superseded content in a day's archive, compressed; the oldest goes first
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size, help_heading = "Bounds")]
    pub max_superseded: u64,

    /// Archive at most this many files
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Bounds")]
    pub max_files: usize,

    /// Skip sparse files whose holes add up to more than this
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = parse_size, help_heading = "Bounds")]
    pub max_holes: u64,

    /// Delete a log that has not changed for this long and is in a verified archive
    #[arg(long, value_name = "DURATION", value_parser = parse_nonzero_duration, help_heading = "Bounds")]
    pub remove_after: Option<Duration>,

    /// Address for probes, metrics and, from this host only, a page; or none
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7668", help_heading = "Process")]
    pub admin: Door,

    #[command(flatten)]
    pub page: PageToken,

    /// Show a container's newest lines on the page, too: to every user of this host, and to whoever has the page's token
    #[arg(long, help_heading = "Process")]
    pub show_lines: bool,

    #[command(flatten)]
    pub common: Common,
}

impl Serve {
    pub fn config(&self) -> Result<Config, Fatal> {
        let (dir, further) = self.dir.split_first().ok_or_else(|| usage("--dir: a directory is needed"))?;
        let dir = existing(dir, "--dir")?;
        let out = match &self.out {
            Some(out) => {
                let cannot = |e| {
                    Fatal::new(Exit::Failure, format!("cannot create {} (--out)", out.display())).because(e)
                };
                std::fs::create_dir_all(out).map_err(cannot)?;
                existing(out, "--out")?
            }
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

    /// True if the logs of directories are archived by the day.
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
        let cannot = |e| {
            Fatal::new(Exit::Failure, format!("cannot create {} (--pods-out)", self.pods_out.display()))
                .because(e)
        };
        std::fs::create_dir_all(&self.pods_out).map_err(cannot)?;
        let identity = Identity::of_this_process();
        let all = Bound { bytes: self.keep_bytes, days: self.keep_days };
        let namespaces = self.namespace.iter().map(|rule| (rule.pattern.clone(), rule.within(all))).collect();
        Ok(Some(PodsConfig {
            pods: existing(&self.pods, "--pods")?,
            out: existing(&self.pods_out, "--pods-out")?,
            within: self.publish_within,
            bounds: Bounds { all, namespaces, min_free: self.min_free },
            calendar: Calendar::new(self.utc),
            mode: self.mode,
            // A level for `--zstd` means nothing for these archives, which are gzip.
            level: if self.zstd { Codec::Gzip.default_level() } else { self.level()? },
            hole_bytes_max: self.max_holes,
            logs_max: self.max_files,
            own_pod: identity.namespace.map(|namespace| (namespace, identity.name)),
        }))
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

/// Bounds for the namespaces that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceRule {
    pattern: Pattern,
    keep_bytes: Option<u64>,
    keep_days: Option<u32>,
}

impl NamespaceRule {
    /// Returns the bounds of this rule. Those that it does not name are the bounds for all namespaces.
    fn within(&self, all: Bound) -> Bound {
        Bound { bytes: self.keep_bytes.unwrap_or(all.bytes), days: self.keep_days.unwrap_or(all.days) }
    }
}

impl std::str::FromStr for NamespaceRule {
    type Err = String;

    fn from_str(text: &str) -> Result<NamespaceRule, String> {
        let expected = || {
            "expected NAMESPACE:keep-bytes=SIZE,keep-days=DAYS, such as kube-system:keep-bytes=1GiB"
                .to_owned()
        };
        let (pattern, bounds) = text.split_once(':').ok_or_else(expected)?;
        let mut rule = NamespaceRule { pattern: pattern.parse()?, keep_bytes: None, keep_days: None };
        for bound in bounds.split(',') {
            match bound.split_once('=').ok_or_else(expected)? {
                ("keep-bytes", size) => rule.keep_bytes = Some(parse_size(size)?),
                ("keep-days", days) => {
                    let days = days.parse().ok().filter(|days| *days > 0);
                    rule.keep_days = Some(days.ok_or("keep-days: expected a number of days above zero")?);
                }
                (other, _) => return Err(format!("`{other}` is no bound of a namespace; {}", expected())),
            }
        }
        Ok(rule)
    }
}

fn usage(message: &str) -> Fatal {
    Fatal::new(Exit::Usage, message)
}

/// Resolves symlinks, which are the operator's own at the start; later ones are not followed.
fn existing(path: &Path, flag: &str) -> Result<PathBuf, Fatal> {
    path.canonicalize()
        .map_err(|e| Fatal::new(Exit::Failure, format!("cannot use {} ({flag})", path.display())).because(e))
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

/// The shortest interval: looks without a pause would keep a processor busy.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    match interval < INTERVAL_MIN {
        true => Err("expected 10ms or more, such as 60s".to_owned()),
        false => Ok(interval),
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => {
            Err("expected octal permissions such as 0600 or 0640; the owner has to read and write".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_prefix_is_the_path_without_slash() {
        for (path, expected) in [("/var/log", "var/log/"), ("/", ""), ("", ""), ("x", "x/"), ("//a//", "a/")]
        {
            assert_eq!(member_prefix(Path::new(path)), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn rule_bounds_a_namespace() {
        let rule: NamespaceRule = "kube-*:keep-bytes=1MiB,keep-days=7".parse().unwrap();
        let all = Bound { bytes: 5, days: 3 };
        assert_eq!(rule.within(all), Bound { bytes: 1 << 20, days: 7 });
        assert_eq!(
            "a:keep-days=7".parse::<NamespaceRule>().unwrap().within(all),
            Bound { bytes: 5, days: 7 }
        );
        for text in ["a", "a:", "a:keep-days=0", "a:keep-hours=3", ":keep-days=1"] {
            assert!(text.parse::<NamespaceRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn mode_without_owner_access_is_refused() {
        assert_eq!(parse_mode("0640"), Ok(0o640));
        for text in ["0440", "rw", "07777", "0200"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
