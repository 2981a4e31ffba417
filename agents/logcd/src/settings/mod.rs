//! The flags, each also `LOGCD_…` in the environment and a key of the `--config` file.

mod conversion;
mod namespace_rule;
mod values;

use crate::logs::pattern::Pattern;
use crate::pods::read::ReadOptions;
use kit::disk::free_space::MinFree;
use kit::page::access::PageToken;
use kit::settings::help::examples;
use kit::settings::{Common, Door, parse_duration, parse_nonzero_duration, parse_size};
use namespace_rule::NamespaceRule;
use std::path::PathBuf;
use std::time::Duration;
use values::{parse_interval, parse_mode};

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
