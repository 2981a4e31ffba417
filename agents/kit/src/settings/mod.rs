//! Reads settings: from a flag, else the environment, else the `--config` file, else the default.
//!
//! An agent declares each setting once, as a clap flag. The environment variable (`LOGD_ROTATE_BYTES` for
//! `--rotate-bytes`) and the key of the TOML file (`rotate-bytes`) follow from the flag's name. Their values
//! go through the flag's own parser, so the three cannot drift apart.

pub mod completion;
mod file;
pub mod help;
mod rejection;
pub mod time;
mod values;
pub mod watch;

pub use file::nearest;
pub use values::{Door, parse_address, parse_duration, parse_nonzero_duration, parse_size};

use crate::exit::{Exit, Fatal};
use crate::telemetry::logs::LogFormat;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use file::file_arguments;
use help::SHARED;
use rejection::refused;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;
use watch::WatchedFiles;

/// The settings that every program has.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Read settings from this TOML file; its keys are the long flag names. Changes are applied without a
    /// restart where possible
    #[arg(long, value_name = "FILE", help_heading = SHARED, hide_short_help = true)]
    pub config: Option<PathBuf>,

    /// Log level: error, warn, info, debug or trace; or per module, such as info,logd=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = SHARED, hide_short_help = true)]
    pub log_level: String,

    /// Format of this program's own log, on stderr
    #[arg(long, value_name = "FORMAT", default_value = "plain", help_heading = SHARED, hide_short_help = true)]
    pub log_format: LogFormat,

    /// Time to finish work in progress after SIGTERM; keep it below the pod's grace period
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = parse_duration,
        help_heading = SHARED, hide_short_help = true)]
    pub drain_timeout: Duration,
}

impl Common {
    /// The settings file, if there is one, to be watched.
    pub fn file(&self) -> WatchedFiles {
        WatchedFiles::new(self.config.iter().cloned().collect())
    }

    /// Refuses a `--linger` that leaves no time to answer the last requests.
    pub fn check_linger(&self, linger: Duration) -> Result<(), Fatal> {
        if linger < self.drain_timeout {
            return Ok(());
        }
        let message = format!(
            "--linger {linger:?} must be shorter than --drain-timeout {:?}: lower it or raise --drain-timeout",
            self.drain_timeout
        );
        Err(Fatal::new(Exit::Usage, message))
    }
}

/// Settings and their sources, which are read again when the file changes.
#[derive(Clone, Debug)]
pub struct Settings<S> {
    pub flags: S,
    prefix: &'static str,
    argv: Vec<OsString>,
    raw: BTreeMap<String, Vec<OsString>>,
}

/// Parses the command line, environment and file into `S`. `prefix` starts the names of the environment
/// variables.
pub fn load<S: CommandFactory + FromArgMatches>(
    prefix: &'static str,
    argv: impl IntoIterator<Item = OsString>,
) -> Result<Settings<S>, Fatal> {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let declared = declared::<S>(prefix);
    let completes_itself = completion::is_declared(&declared);
    let command = completion::add_to(declared);
    let mut matches =
        command.clone().try_get_matches_from(&argv).map_err(|e| refused(&e, prefix, &argv, None))?;
    if let Some(shell) = completion::asked(&matches).filter(|_| !completes_itself) {
        return Err(Fatal::new(Exit::Ok, shell.script(command)));
    }
    let config = matches.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    if let Some(path) = config {
        let mut layered: Vec<OsString> = argv.first().cloned().into_iter().collect();
        layered.extend(file_arguments(&command, &matches, &path)?);
        layered.extend(argv.iter().skip(1).cloned());
        matches = command
            .clone()
            .try_get_matches_from(&layered)
            .map_err(|e| refused(&e, prefix, &argv, Some(&path)))?;
    }
    let raw = raw_values(&command, &matches);
    let flags = S::from_arg_matches(&matches).map_err(|e| refused(&e, prefix, &argv, None))?;
    Ok(Settings { flags, prefix, argv, raw })
}

impl<S: CommandFactory + FromArgMatches> Settings<S> {
    /// Reads the same sources again and returns the new settings with the result of `check`. Logs which
    /// changes are applied (those in `live`) and which need a restart. Invalid settings are logged, and the
    /// old ones stay.
    pub fn renew<T>(
        &self,
        live: &[&str],
        check: impl FnOnce(&S) -> Result<T, Fatal>,
    ) -> Option<(Settings<S>, T)> {
        let renewed = load::<S>(self.prefix, self.argv.clone()).and_then(|new| {
            let checked = check(&new.flags)?;
            Ok((new, checked))
        });
        let (new, checked) = renewed
            .inspect_err(|fatal| {
                let error = fatal.one_line();
                tracing::error!(
                    event = "settings_rejected",
                    error,
                    "the changed settings are invalid, keeping the old ones"
                );
            })
            .ok()?;
        let changed = new.changed_since(self);
        if changed.is_empty() {
            return None;
        }
        let (live, restart): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|name| live.contains(&name.as_str()));
        tracing::info!(event = "settings_reloaded", applied = live.join(" "), "settings reloaded");
        if !restart.is_empty() {
            tracing::warn!(
                event = "restart_required",
                settings = restart.join(" "),
                "these changed settings need a restart"
            );
        }
        Some((new, checked))
    }

    /// The names of the settings whose values differ.
    pub fn changed_since(&self, earlier: &Settings<S>) -> Vec<String> {
        let names = self.raw.keys().chain(earlier.raw.keys());
        let mut changed: Vec<String> =
            names.filter(|name| self.raw.get(*name) != earlier.raw.get(*name)).cloned().collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

/// The clap command with an environment variable for each flag, the version with its revision, and
/// completions.
pub fn command<S: CommandFactory>(prefix: &str) -> Command {
    completion::add_to(declared::<S>(prefix))
}

fn declared<S: CommandFactory>(prefix: &str) -> Command {
    with_environment(S::command().version(crate::VERSION).infer_long_args(false), prefix)
}

fn with_environment(command: Command, prefix: &str) -> Command {
    command
        .mut_args(|arg| match arg.get_long() {
            // A command may have a flag with the name of a setting that means something else.
            Some(long) if !arg.is_hide_env_set() => {
                let name = variable(prefix, long);
                arg.env(name).hide_env_values(true)
            }
            _ => arg,
        })
        .mut_subcommands(|sub| with_environment(sub, prefix))
}

fn variable(prefix: &str, long: &str) -> String {
    format!("{prefix}_{}", long.replace('-', "_").to_uppercase())
}

fn raw_values(command: &Command, matches: &ArgMatches) -> BTreeMap<String, Vec<OsString>> {
    let longs = command.get_arguments().filter_map(|arg| Some((arg.get_id().as_str(), arg.get_long()?)));
    longs
        .filter_map(|(id, long)| {
            let values = matches.try_get_raw(id).ok().flatten()?;
            Some((long.to_owned(), values.map(OsStr::to_owned).collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Flags {
        #[arg(long, default_value = "1MiB", value_parser = parse_size)]
        max_line: u64,
        #[arg(long, value_delimiter = ',')]
        allow: Vec<String>,
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        common: Common,
    }

    fn load_with(file: &str, arguments: &[&str]) -> Result<Settings<Flags>, Fatal> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logd.toml");
        std::fs::write(&path, file).unwrap();
        let mut argv: Vec<OsString> = vec!["logd".into(), "--config".into(), path.into()];
        argv.extend(arguments.iter().map(OsString::from));
        load("KIT_TEST_UNSET", argv)
    }

    #[test]
    fn flag_wins_over_file_over_default() {
        let file = "max-line = \"2MiB\"\nallow = [\"10.0.0.0/8\", \"::1\"]\nquick = true\n";
        let flags = load_with(file, &[]).unwrap().flags;
        assert_eq!((flags.max_line, flags.quick), (2 << 20, true));
        assert_eq!(flags.allow, ["10.0.0.0/8", "::1"]);
        assert_eq!(load_with(file, &["--max-line", "3MiB"]).unwrap().flags.max_line, 3 << 20);
        assert_eq!(load_with("", &[]).unwrap().flags.max_line, 1 << 20);
        assert_eq!(load_with("", &[]).unwrap().flags.common.drain_timeout, Duration::from_secs(25));
    }

    #[test]
    fn table_of_tables_gives_a_rule_for_each() {
        let file = "[allow.shop]\nkeep-days = 7\nkeep-bytes = \"1GiB\"\n[allow.\"kube-*\"]\nkeep-days = 1\n";
        let flags = load_with(file, &[]).unwrap().flags;
        // `allow` splits its values at commas.
        assert_eq!(flags.allow, ["kube-*:keep-days=1", "shop:keep-bytes=1GiB", "keep-days=7"]);
        let bad = load_with("[allow]\nshop = 7\n", &[]).unwrap_err().one_line();
        assert!(bad.ends_with("`allow.shop` takes keys with plain values"), "{bad}");
    }

    #[test]
    fn unknown_key_is_named_with_a_suggestion() {
        let fatal = load_with("max_line = \"2MiB\"\n", &[]).unwrap_err();
        assert_eq!(fatal.exit(), Exit::Config);
        let line = fatal.one_line();
        assert!(line.ends_with("logd.toml: unknown key `max_line`, did you mean `max-line`?"), "{line}");
    }

    #[test]
    fn bad_value_is_blamed_on_its_source() {
        let fatal = load_with("max-line = \"lots\"\n", &[]).unwrap_err();
        assert_eq!(fatal.exit(), Exit::Config);
        assert!(fatal.one_line().contains("logd.toml: invalid value 'lots' for '--max-line"), "{fatal}");
        let fatal = load_with("", &["--max-line=lots"]).unwrap_err();
        assert_eq!(fatal.exit(), Exit::Usage);
        assert!(fatal.one_line().contains("expected a size such as 64KiB"), "{fatal}");
    }

    #[test]
    fn changed_settings_are_named() {
        let before = load_with("max-line = \"2MiB\"\n", &[]).unwrap();
        let after = load_with("max-line = \"3MiB\"\nquick = true\n", &[]).unwrap();
        let changed: Vec<_> = after.changed_since(&before).into_iter().filter(|n| n != "config").collect();
        assert_eq!(changed, ["max-line", "quick"]);
    }

    #[test]
    fn shared_flags_are_last_in_help() {
        let help = |flag| load_with("", &[flag]).unwrap_err().one_line();
        let (long, short) = (help("--help"), help("-h"));
        let at = |what| long.find(what).unwrap();
        assert!(at("--max-line") < at(SHARED) && at("--quick") < at(SHARED), "{long}");
        assert!(at(SHARED) < at("--config") && at(SHARED) < at("--drain-timeout"), "{long}");
        assert!(short.contains("--quick") && short.contains("see more with '--help'"), "{short}");
        assert!(!short.contains("--drain-timeout") && !short.contains(SHARED), "{short}");
    }

    #[test]
    fn every_program_has_completions() {
        for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef kit"), ("fish", "complete -c")] {
            let script = load_with("", &["completion", shell]);
            assert_eq!(script.as_ref().unwrap_err().exit(), Exit::Usage, "a flag before it: {script:?}");
            let script = load::<Flags>("KIT_TEST_UNSET", ["kit", "completion", shell].map(OsString::from));
            let script = script.unwrap_err();
            assert_eq!(script.exit(), Exit::Ok);
            assert!(script.one_line().contains(word) && script.one_line().contains("max-line"), "{script}");
        }
        let unknown = load::<Flags>("KIT_TEST_UNSET", ["kit", "completion", "sh"].map(OsString::from));
        assert!(unknown.unwrap_err().one_line().contains("possible values: bash, zsh, fish"));
        let mistyped = load::<Flags>("KIT_TEST_UNSET", ["kit", "completoin", "bash"].map(OsString::from));
        assert!(
            mistyped.as_ref().unwrap_err().one_line().contains("similar subcommand exists: 'completion'"),
            "{mistyped:?}"
        );
    }

    #[test]
    fn help_and_version_succeed() {
        for flag in ["--help", "--version"] {
            assert_eq!(load_with("", &[flag]).unwrap_err().exit(), Exit::Ok);
        }
    }
}
