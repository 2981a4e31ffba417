//! The flags of logsend.

use crate::answer::Receipt;
use crate::host;
use kit::exit::{Exit, Fatal};
use kit::settings::help::examples;
use kit::settings::{Common, parse_duration, parse_size};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Sends the lines of stdin or of a command, or greetings, to logd and verifies that they arrived.
///
/// A batch is sent again until logd has given a receipt for it. Each long flag is also an environment
/// variable (LOGSEND_SPOOL for --spool) and a key of the --config file.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "logsend", after_long_help = examples(&[
        "my-program 2>&1 | logsend --host 10.0.0.5",
        "logsend --spool /var/spool/logsend -- my-program     # exits with the program's code",
        "logsend --greet 15s",
    ]),
    mut_arg("config", |arg| arg.help("Read settings from this TOML file at start; its keys are the long flag names")))]
pub(crate) struct Flags {
    /// Run this command, send the lines of its stdout and stderr, and exit with its code
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "greet")]
    pub(crate) command: Vec<OsString>,

    /// Send `DATE - Greetings from NAME` at once and then at this interval, instead of reading stdin
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, help_heading = "Input")]
    pub(crate) greet: Option<Duration>,

    /// Print the input as well: stdin to stdout, a command's stdout to stdout and its stderr to stderr
    #[arg(long, conflicts_with = "greet", help_heading = "Input")]
    pub(crate) tee: bool,

    /// Cut longer lines into pieces of this size, and send each as a line of its own
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_bound, help_heading = "Input")]
    pub(crate) max_line: usize,

    /// Send to logd on this host (name or address, no port); the default is $HOST_IP, else $NODE_IP, else
    /// 127.0.0.1
    #[arg(long, value_name = "HOST", value_parser = host::parse, help_heading = "Destination")]
    pub(crate) host: Option<String>,

    /// Send to this port of logd
    #[arg(long, value_name = "PORT", default_value_t = 6666, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Destination")]
    pub(crate) port: u16,

    /// Append to this file, with one write per line, instead of sending
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "spool", "give_up", "tls_ca"], help_heading = "Destination")]
    pub(crate) to_file: Option<PathBuf>,

    /// Limit batches to this size; a longer line is sent alone
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = parse_bound, help_heading = "Delivery")]
    pub(crate) batch_bytes: usize,

    /// Buffer at most this much in memory; then stop reading until logd accepts some
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_bound, help_heading = "Delivery")]
    pub(crate) buffer_bytes: usize,

    /// Accept this as the proof that a batch has arrived
    #[arg(long, value_name = "KIND", default_value = "explicit", help_heading = "Delivery")]
    pub(crate) receipt: Receipt,

    /// Give up a connection attempt after this time
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_interval, help_heading = "Delivery")]
    pub(crate) connect_timeout: Duration,

    /// Send a batch again if its receipt does not arrive within this time
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_interval, help_heading = "Delivery")]
    pub(crate) receipt_timeout: Duration,

    /// Stop retrying this long after the end of the input; the default is to retry until all is delivered
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Delivery")]
    pub(crate) give_up: Option<Duration>,

    /// Store lines in this directory, across restarts, while logd cannot accept them; one logsend per
    /// directory
    #[arg(long, value_name = "DIR", help_heading = "Spool")]
    pub(crate) spool: Option<PathBuf>,

    /// Store at most this much in the spool
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_bound, help_heading = "Spool")]
    pub(crate) spool_bytes: usize,

    /// Do this when the spool is full
    #[arg(long, value_name = "POLICY", default_value = "wait", help_heading = "Spool")]
    pub(crate) spool_full: WhenFull,

    #[command(flatten)]
    pub(crate) tls: kit::net::tls::ClientFiles,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// The policy for new lines when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WhenFull {
    /// Stop reading until there is room; nothing is lost
    Wait,
    /// Drop the oldest lines and count them, also if the spool's disk is full; the writer is not blocked
    /// while logd is unreachable
    DropOldest,
}

impl Flags {
    /// Refuses bounds that contradict each other. Called before anything is opened.
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
    fn defaults_are_as_documented() {
        let flags = load(&[]).unwrap();
        assert_eq!((flags.port, flags.batch_bytes, flags.buffer_bytes), (6666, 256 << 10, 1 << 20));
        assert_eq!((flags.spool_bytes, flags.spool_full), (64 << 20, WhenFull::Wait));
        assert!(flags.command.is_empty() && flags.check().is_ok());
    }

    #[test]
    fn bad_flags_are_named() {
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
