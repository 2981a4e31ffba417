//! The `--config` file: its keys are long flags, and their values become arguments.

use crate::exit::{Exit, Fatal};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::ffi::OsString;
use std::path::Path;

/// The similarity above which a word is taken for a misspelling of another, as clap does for flags.
const ALIKE: f64 = 0.7;

/// Turns the file's keys into flags, except those that the command line or environment sets.
pub(super) fn file_arguments(
    command: &Command,
    matches: &ArgMatches,
    path: &Path,
) -> Result<Vec<OsString>, Fatal> {
    let bad = |what: String| Fatal::new(Exit::Config, format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path)
        .map_err(|e| Fatal::new(Exit::Config, format!("cannot read {}", path.display())).because(e))?;
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| bad(e.to_string().trim().to_owned()))?;
    let mut arguments = Vec::new();
    for (key, value) in &table {
        let known = command.get_arguments().find(|a| a.get_long() == Some(key.as_str()) && key != "config");
        let Some(argument) = known else {
            let hint = match nearest(command.get_arguments().filter_map(clap::Arg::get_long), key) {
                Some(long) => format!(", did you mean `{long}`?"),
                None => ", its keys are the long flags of --help".to_owned(),
            };
            return Err(bad(format!("unknown key `{key}`{hint}")));
        };
        let given = matches.value_source(argument.get_id().as_str());
        if matches!(given, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        match (argument.get_action().takes_values(), value) {
            (false, toml::Value::Boolean(true)) => arguments.push(format!("--{key}").into()),
            (false, toml::Value::Boolean(false)) => {}
            (false, _) => return Err(bad(format!("`{key}` takes true or false"))),
            (true, toml::Value::Table(rules)) => {
                for (name, rule) in rules {
                    let rule = pairs(rule)
                        .ok_or_else(|| bad(format!("`{key}.{name}` takes keys with plain values")))?;
                    arguments.push(format!("--{key}={name}:{rule}").into());
                }
            }
            (true, value) => {
                let text = scalar(value).ok_or_else(|| bad(format!("`{key}` cannot be a table")))?;
                arguments.push(format!("--{key}={text}").into());
            }
        }
    }
    Ok(arguments)
}

/// The known word that is spelled most like this one, if any is close.
pub fn nearest<'a>(known: impl Iterator<Item = &'a str>, word: &str) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::jaro(known, word), known));
    let (score, known) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > ALIKE).then_some(known)
}

/// Turns a table such as `[namespace.shop]` into the rule of a flag: `keep-days=7,keep-bytes=1GiB`.
fn pairs(rule: &toml::Value) -> Option<String> {
    let pairs = rule.as_table()?.iter().map(|(key, value)| Some(format!("{key}={}", scalar(value)?)));
    Some(pairs.collect::<Option<Vec<_>>>()?.join(","))
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(items) => Some(items.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(",")),
        toml::Value::Table(_) => None,
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Datetime(time) => Some(time.to_string()),
    }
}
