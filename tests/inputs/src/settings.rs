//! Checks that any settings file of an agent is refused as a bad file, in one line, or means the same as the
//! same flags.

use clap::{CommandFactory, FromArgMatches};
use kit::exit::{Exit, Fatal};
use kit::settings::{Settings, load};
use std::ffi::OsString;
use std::io::Write;
use toml::Value;

/// Reads from the input: the agent, and the file.
pub fn settings(bytes: &[u8]) {
    let [agent, file @ ..] = bytes else { return };
    match agent % 3 {
        0 => read::<logd::settings::Flags>(file),
        1 => read::<logcd::settings::Flags>(file),
        _ => read::<queued::settings::Flags>(file),
    }
}

fn read<S: CommandFactory + FromArgMatches>(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let from_file = || given::<S>(&[format!("--config={}", file.path().display())]);
    let settings = match from_file() {
        Ok(settings) => settings,
        Err(fatal) => {
            assert_eq!(fatal.exit(), Exit::Config, "{}", fatal.one_line());
            return assert!(!fatal.one_line().contains('\n'));
        }
    };
    assert!(from_file().unwrap().changed_since(&settings).is_empty());
    let table: toml::Table = std::str::from_utf8(bytes).unwrap().parse().unwrap();
    let flag = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("--{key}={text}")),
        Value::Integer(number) => Some(format!("--{key}={number}")),
        Value::Boolean(true) => Some(format!("--{key}")),
        _ => None,
    };
    let Some(flags) = table.iter().filter(|(_, value)| **value != Value::Boolean(false)).map(flag).collect()
    else {
        return;
    };
    let flags: Vec<String> = flags;
    let differs = given::<S>(&flags).unwrap().changed_since(&settings);
    assert_eq!(differs, ["config"], "{flags:?}");
}

/// Loads the settings with a prefix that no environment variable has.
fn given<S: CommandFactory + FromArgMatches>(flags: &[String]) -> Result<Settings<S>, Fatal> {
    load("INPUTS", ["agent"].into_iter().map(OsString::from).chain(flags.iter().map(OsString::from)))
}
