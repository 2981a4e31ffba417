//! The settings of logsend, each with the bound or habit that it sets.

use kit::exit::{Exit, Fatal};
use kit::help::examples;
use kit::settings::{Common, parse_duration, parse_size};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Hands log lines to logd and knows that they arrived: the lines of stdin, of a command, or a greeting.
///
/// A batch counts as delivered only with logd's receipt; without one it is sent again. Each long flag is
/// also an environment variable (LOGSEND_SPOOL for --spool) and a key of the --config file.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "logsend", after_long_help = examples(&[
        "my-program 2>&1 | logsend --host 10.0.0.5",
        "logsend --spool /var/spool/logsend -- my-program     # exits with the program's code",
        "logsend --greet 15s",
    ]),
    mut_arg("config", |arg| arg.help("Read settings from this TOML file at start; its keys are the long flag names")))]
pub(crate) struct Flags {
    /// Run this command and send the lines of its stdout and stderr; its exit code is passed on
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "greet")]
    pub(crate) command: Vec<OsString>,

    /// Instead of reading stdin, send `DATE - Greetings from NAME` at once and then at this interval
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, help_heading = "Input")]
    pub(crate) greet: Option<Duration>,

    /// Also echo what is read: a command's stdout to stdout and stderr to stderr, stdin to stdout
    #[arg(long, conflicts_with = "greet", help_heading = "Input")]
    pub(crate) tee: bool,

    /// A longer line is sent in pieces of this size, each a line of its own
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_bound, help_heading = "Input")]
    pub(crate) max_line: usize,

    /// logd's host; without it $HOST_IP, else $NODE_IP, else 127.0.0.1
    #[arg(long, value_name = "HOST", help_heading = "Where to")]
    pub(crate) host: Option<String>,

    /// logd's port
    #[arg(long, value_name = "PORT", default_value_t = 6666, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Where to")]
    pub(crate) port: u16,

    /// Append to this file, one write a line, instead of sending
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "spool", "give_up", "tls_ca"], help_heading = "Where to")]
    pub(crate) to_file: Option<PathBuf>,

    /// A batch is closed at this size; a line that is longer goes alone
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = parse_bound, help_heading = "Delivery")]
    pub(crate) batch_bytes: usize,

    /// Lines waiting in memory; beyond it nothing more is read until logd takes some
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_bound, help_heading = "Delivery")]
    pub(crate) buffer_bytes: usize,

    /// How long a connection may take to be made
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_interval, help_heading = "Delivery")]
    pub(crate) connect_timeout: Duration,

    /// How long a batch may wait for its receipt before it is sent again
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_interval, help_heading = "Delivery")]
    pub(crate) receipt_timeout: Duration,

    /// After the end of the input, stop trying after this long; without it, try for as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Delivery")]
    pub(crate) give_up: Option<Duration>,

    /// Keep what logd cannot take now in this directory, across restarts; one logsend a directory
    #[arg(long, value_name = "DIR", help_heading = "Spool")]
    pub(crate) spool: Option<PathBuf>,

    /// How much the spool may hold
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_bound, help_heading = "Spool")]
    pub(crate) spool_bytes: usize,

    /// What to do when the spool is full
    #[arg(long, value_name = "POLICY", default_value = "wait", help_heading = "Spool")]
    pub(crate) spool_full: WhenFull,

    #[command(flatten)]
    pub(crate) tls: kit::tls::ClientFiles,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// What happens to new lines when the spool holds all that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WhenFull {
    /// Stop reading until there is room; nothing is lost
    Wait,
    /// Drop the oldest lines and count them; the writer is never held up
    DropOldest,
}

impl Flags {
    /// Refuses bounds that contradict each other; called before anything is opened.
    pub(crate) fn check(&self) -> Result<(), Fatal> {
        if self.spool.is_some() && self.spool_bytes <= self.max_line {
            return Err(Fatal::new(
                Exit::Usage,
                "--spool-bytes must be greater than --max-line, or a line might never fit",
            ));
        }
        Ok(())
    }
}

fn parse_bound(text: &str) -> Result<usize, String> {
    let size =
        usize::try_from(parse_size(text)?).map_err(|_| "more than this machine can hold".to_owned())?;
    if size == 0 { Err("expected a size above zero".to_owned()) } else { Ok(size) }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() { Err("expected a duration above zero".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str]) -> Result<Flags, Fatal> {
        let argv = ["logsend"].iter().chain(arguments).map(OsString::from);
        kit::settings::load::<Flags>("LOGSEND_TEST_UNSET", argv).map(|settings| settings.flags)
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let flags = load(&[]).unwrap();
        assert_eq!((flags.port, flags.batch_bytes, flags.buffer_bytes), (6666, 256 << 10, 1 << 20));
        assert_eq!((flags.spool_bytes, flags.spool_full), (64 << 20, WhenFull::Wait));
        assert!(flags.command.is_empty() && flags.check().is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (arguments, named) in [
            (&["--port", "0"][..], "--port"),
            (&["--batch-bytes", "0"], "--batch-bytes"),
            (&["--greet", "0s"], "--greet"),
            (&["--greet", "15"], "--greet"),
            (&["--greet", "1s", "--", "true"], "--greet"),
            (&["--to-file", "x", "--spool", "y"], "--to-file"),
            (&["--spool-full", "explode"], "--spool-full"),
            (&["--tls-cert", "x"], "--tls-ca"),
            (&["true"], "true"),
        ] {
            let fatal = load(arguments).unwrap_err();
            assert_eq!(fatal.exit(), Exit::Usage, "{arguments:?}");
            assert!(fatal.one_line().contains(named), "{arguments:?}: {fatal}");
        }
        let fatal = load(&["--spool", "x", "--spool-bytes", "1MiB"]).unwrap().check().unwrap_err();
        assert!(fatal.one_line().contains("--spool-bytes must be greater than --max-line"));
    }
}
