//! The flags, each also `LOGCD_…` in the environment and a key of the `--config` file.

mod conversion;
mod namespace_rule;
mod values;

use crate::logs::pattern::Pattern;
use crate::pods::read::options::ReadOptions;
use kit::disk::free_space::MinFree;
use kit::page::access::PageToken;
use kit::settings::help::examples;
use kit::settings::{Common, Door, parse_duration, parse_nonzero_duration, parse_size};
use namespace_rule::NamespaceRule;
use std::path::PathBuf;
use std::time::Duration;
use values::{parse_interval, parse_mode};

/// Archives the logs of directories in one compressed file per day. An update compresses only the new bytes.
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
    /// Print a file of an archive; with the index, only that file's part is read
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
    /// Print lines of container logs in order of time, from archives and live logs
    #[command(after_long_help = examples(&[
        "logcd read --namespace shop --since 2h",
        "logcd read --pod '^web-' --grep 'status=5..' -o json",
    ]))]
    Read(ReadOptions),
}

#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveOptions {
    /// The archive, a .tar.gz or .tar.zst file
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct CatOptions {
    /// The archive, a .tar.gz or .tar.zst file
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,

    /// The file's path as listed, or only its name
    #[arg(value_name = "NAME")]
    pub name: std::ffi::OsString,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ExtractOptions {
    /// The archive, a .tar.gz or .tar.zst file
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,

    /// Unpack the files with these paths, as listed; without any, all files
    #[arg(value_name = "NAME")]
    pub names: Vec<std::ffi::OsString>,

    /// Unpack into this directory
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
    "namespace",
    "min-free",
    "compare-bytes",
    "max-superseded",
    "max-files",
    "max-holes",
    "max-deleted",
    "remove-after",
    "log-level",
];

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Archive the logs in this directory, which may be read-only; or none. Repeat the flag for further
    /// directories, whose files are archived under their whole paths
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/log",
        value_delimiter = ',',
        help_heading = "Files"
    )]
    pub dir: Vec<PathBuf>,

    /// Write archives to this directory, such as /var/lib/logcd [default: the first log directory]
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub out: Option<PathBuf>,

    /// Archive the container logs below this directory (/var/log/pods on most nodes); or none
    #[arg(long, value_name = "DIR", default_value = "none", help_heading = "Files")]
    pub pods: PathBuf,

    /// Write archives of container logs to this directory, one for each namespace and hour
    #[arg(long, value_name = "DIR", default_value = "/var/lib/logcd", help_heading = "Files")]
    pub pods_out: PathBuf,

    /// Archive files whose names match these patterns; a pattern with a slash matches paths below the
    /// directory
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "*.log",
        value_delimiter = ',',
        help_heading = "Files"
    )]
    pub include: Vec<Pattern>,

    /// Skip files that match these patterns
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = "Files")]
    pub exclude: Vec<Pattern>,

    /// Include subdirectories
    #[arg(long, help_heading = "Files")]
    pub recursive: bool,

    /// Archive a file with several hard links even if some are outside the directories
    #[arg(long, help_heading = "Files")]
    pub hard_links: bool,

    /// Put files under this path in the archive [default: the directory, such as var/log]
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    pub prefix: Option<PathBuf>,

    /// Keep only the current content, none that was rotated, truncated, rewritten or deleted during the day
    #[arg(long, help_heading = "Files")]
    pub latest_only: bool,

    /// Archive the current state and exit
    #[arg(long, help_heading = "Timing")]
    pub once: bool,

    /// Scan for changes at this interval
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_interval, help_heading = "Timing")]
    pub interval: Duration,

    /// Publish changes before they are this old, or at the next scan if --interval is longer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration, help_heading = "Timing")]
    pub publish_within: Duration,

    /// Publish at once when unpublished changes reach this percentage of what is archived
    #[arg(long, value_name = "PERCENT", default_value_t = 5, help_heading = "Timing")]
    pub publish_percent: u64,

    /// Scan after this time even if the kernel reported no change
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_nonzero_duration, help_heading = "Timing")]
    pub poll: Duration,

    /// Use days in UTC instead of local time
    #[arg(long, help_heading = "Timing")]
    pub utc: bool,

    /// Write .tar.zst instead of .tar.gz; today's archive of the other kind is converted, and container
    /// logs continue in new ones
    #[arg(long, help_heading = "Archives")]
    pub zstd: bool,

    /// Compression level: 1 is fast, 6 as gzip, 7 a little smaller; with --zstd 1 to 12 [default: 6, with
    /// --zstd 3]
    #[arg(long, value_name = "LEVEL", help_heading = "Archives")]
    pub level: Option<u32>,

    /// Compress a backlog with this many threads [default: the processors that the process may use, at most
    /// 8]
    #[arg(long, value_name = "N", help_heading = "Archives")]
    pub threads: Option<usize>,

    /// Give archives these permissions; they may contain logs that only root could read
    #[arg(long, value_name = "OCTAL", default_value = "0600", value_parser = parse_mode, help_heading = "Archives")]
    pub mode: u32,

    /// Keep the archives of this many days
    #[arg(long, value_name = "DAYS", default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub keep_days: u32,

    /// Keep archives up to this total size; the oldest are removed first
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = parse_size, help_heading = "Bounds")]
    pub keep_bytes: u64,

    /// Set bounds for the container logs of one namespace or a pattern, such as
    /// kube-system:keep-bytes=1GiB,keep-days=7
    #[arg(long, value_name = "RULE", help_heading = "Bounds")]
    pub namespace: Vec<NamespaceRule>,

    /// Keep this much of the archives' disk free, such as 256MiB or 15%. The oldest days are removed to make
    /// room; if that is not enough, no archive is written
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = "Bounds")]
    pub min_free: MinFree,

    /// Compare this much archived content with the logs at each scan, or 1/64 of it if that is more
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = parse_size, help_heading = "Bounds")]
    pub compare_bytes: u64,

    /// In a day's archive, keep at most this much compressed content that its log no longer holds; the oldest
    /// is dropped first
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size, help_heading = "Bounds")]
    pub max_superseded: u64,

    /// Archive at most this many files
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Bounds")]
    pub max_files: usize,

    /// Skip sparse files whose holes add up to more than this
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = parse_size, help_heading = "Bounds")]
    pub max_holes: u64,

    /// Hold deleted container logs of this total size open while they cannot be archived; then the oldest are lost
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size, help_heading = "Bounds")]
    pub max_deleted: u64,

    /// Delete a log that has not changed for this long and is in a verified archive
    #[arg(long, value_name = "DURATION", value_parser = parse_nonzero_duration, help_heading = "Bounds")]
    pub remove_after: Option<Duration>,

    /// Serve probes, metrics and the page at this address; or none. Without --page-token only this host can
    /// open the page
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7668", help_heading = "Process")]
    pub admin: Door,

    #[command(flatten)]
    pub page: PageToken,

    /// Show a container's newest lines on the page: to every user of this host, or with --page-token to everyone
    /// who has the token
    #[arg(long, help_heading = "Process")]
    pub show_lines: bool,

    #[command(flatten)]
    pub common: Common,
}
