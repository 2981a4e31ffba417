//! The daemon's own log: one event a line on stderr, plain or JSON.

use crate::exit::{Exit, Fatal};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The format of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, message, fields
    Plain,
    /// For machines: one object a line
    Json,
}

static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn filter(level: &str) -> Result<EnvFilter, Fatal> {
    EnvFilter::try_new(level).map_err(|e| {
        Fatal::new(
            Exit::Usage,
            format!("--log-level {level:?} is not a level; examples: info, or info,logd=debug"),
        )
        .because(e)
    })
}

/// Starts logging for the process; a second call only sets the level.
pub fn start(level: &str, format: LogFormat) -> Result<(), Fatal> {
    if LEVEL.get().is_some() {
        return set_level(level);
    }
    let (level, handle) = reload::Layer::new(filter(level)?);
    let colour = crate::terminal::colour::is_wanted(std::io::stderr().is_terminal());
    let plain = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let registry = tracing_subscriber::registry().with(level);
    let started = match format {
        LogFormat::Plain => registry.with(plain.with_target(false)).try_init(),
        LogFormat::Json => {
            registry.with(plain.with_ansi(false).json().flatten_event(true).with_target(false)).try_init()
        }
    };
    started.map_err(|e| Fatal::new(Exit::System, "cannot start logging").because(e))?;
    let _ = LEVEL.set(handle);
    Ok(())
}

/// Changes the level of the running process.
pub fn set_level(level: &str) -> Result<(), Fatal> {
    let filter = filter(level)?;
    if let Some(handle) = LEVEL.get() {
        let failed = |e| Fatal::new(Exit::System, "cannot change the log level").because(e);
        handle.reload(filter).map_err(failed)?;
    }
    Ok(())
}
