//! logcd archives the logs of some directories in one plain tar.gz or tar.zst a day, and compresses only the
//! new bytes. It also archives container logs.
//!
//! In a cycle ([`cycle::archiver`]), [`logs::scan`] lists the files. [`cycle::changes`] matches them with the
//! entries of the current archive. [`cycle::plan`] decides about each of them, and [`cycle::assembly`] makes
//! the new archive from the old one's blocks and the new bytes of the [`logs`]. [`archive`] has the format,
//! [`control`] starts the cycles, and [`commands`] are for people who read archives.

pub mod archive;
pub mod archive_dir;
pub mod change_watcher;
pub mod commands;
pub mod config;
pub mod control;
pub mod cycle;
pub mod cycle_history;
pub mod cycle_thread;
pub mod day;
pub mod download;
pub mod error;
pub mod freshness;
pub mod logs;
pub mod metrics;
pub mod once;
pub mod page;
pub mod pods;
pub mod progress;
pub mod safe_dir;
pub mod settings;

use cycle_history::CycleHistory;
use kit::daemon::Context;
use kit::exit::Fatal;
use kit::settings::Settings;
use page::{DirectorySources, PageSources};
use pods::config::PodsConfig;
use pods::metrics::PodsMetrics;
use pods::page::PodsSources;
use settings::{Command, Flags};
use std::ffi::OsString;
use tokio::sync::watch;

/// Returns the command line definition, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("LOGCD")
}

/// Runs the whole program and returns instead of exiting, for `main` and the crew's binary.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("LOGCD", argv)?;
    match &settings.flags.command {
        Some(Command::List(options)) => return commands::list::list(&options.archive),
        Some(Command::Cat(options)) => return commands::cat::cat(&options.archive, &options.name),
        Some(Command::Extract(options)) => {
            return commands::extract::extract(&options.archive, &options.names, &options.to);
        }
        Some(Command::Verify(options)) => return commands::verify::verify(&options.archive),
        Some(Command::Read(options)) => return pods::read::read(options),
        None => {}
    }
    let serve = &settings.flags.serve;
    serve.level()?;
    let pods = serve.pods_config()?;
    let (common, admin) = (serve.common.clone(), serve.admin);
    if serve.once {
        kit::telemetry::logs::start(&common.log_level, common.log_format)?;
        kit::daemon::runtime()?.block_on(async { kit::lifecycle::stop::survive_size_limit() })?;
        let pods = pods.map_or(Ok(()), pods::once::once);
        let days = if serve.has_directories() { once::once(serve.config()?) } else { Ok(()) };
        return pods.and(days);
    }
    kit::daemon::run("logcd", &common, admin, |context| run(settings, pods, context))
}

/// Archives directories, container logs, or both, until the daemon is drained.
pub async fn run(settings: Settings<Flags>, pods: Option<PodsConfig>, context: Context) -> Result<(), Fatal> {
    let serve = &settings.flags.serve;
    let days = if serve.has_directories() { Some(serve.config()?) } else { None };
    let history = CycleHistory::default();
    let hours = pods.map(|config| (watch::Sender::new(config), PodsMetrics::register(&context.metrics)));
    let sources = PageSources {
        directories: days.as_ref().map(|config| DirectorySources {
            dirs: config.dirs.iter().map(|dir| dir.path.clone()).collect(),
            out: config.out.clone(),
            cycles: history.read(),
        }),
        pods: hours.as_ref().map(|(config, metrics)| PodsSources {
            pods: config.borrow().pods.clone(),
            out: config.borrow().out.clone(),
            figures: metrics.overview.read(),
            lines: serve.show_lines,
        }),
        readiness: context.readiness.clone(),
    };
    let _ = context.pages.set(page::routes(sources, serve.page.load()?));
    let has_directories = days.is_some();
    let (pods, hours) = match hours {
        Some((pods, metrics)) => (Some(pods.clone()), Some((pods.subscribe(), metrics))),
        None => (None, None),
    };
    let days = async {
        match (days, pods) {
            (Some(config), pods) => control::run(settings, config, pods, history, context.clone()).await,
            (None, Some(pods)) => pods::reload::run(settings, pods, context.clone()).await,
            (None, None) => Ok(()),
        }
    };
    let hours = async {
        match hours {
            Some((configs, metrics)) => {
                pods::control::run(configs, metrics, context.clone(), has_directories).await
            }
            None => Ok(()),
        }
    };
    tokio::try_join!(days, hours).map(drop)
}
