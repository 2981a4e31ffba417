//! Shortens clap's error about a setting to one line that names the place where the value was given.

use super::variable;
use crate::exit::{Exit, Fatal};
use clap::error::{ContextKind, ErrorKind};
use std::ffi::OsString;
use std::path::Path;

/// Shortens clap's paragraph to one line that names the flag, variable or file and keeps clap's hint.
pub(super) fn refused(error: &clap::Error, prefix: &str, argv: &[OsString], file: Option<&Path>) -> Fatal {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return Fatal::new(Exit::Ok, error.render().to_string());
        }
        // A command is missing: the help lists the commands.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Fatal::page(Exit::Usage, error.render().to_string());
        }
        _ => {}
    }
    let rendered = error.render().to_string();
    let paragraph = rendered.split("\n\nUsage").next().unwrap_or(&rendered);
    let message = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let message = message.strip_suffix("For more information, try '--help'.").unwrap_or(message).trim();
    let long = error.get(ContextKind::InvalidArg).and_then(|value| {
        let text = value.to_string();
        Some(text.split_whitespace().next()?.trim_start_matches("--").to_owned())
    });
    let typed = |long: &str| {
        let flag = format!("--{long}");
        argv.iter().any(|word| word.to_string_lossy().split('=').next() == Some(&flag))
    };
    match (file, long) {
        (Some(path), Some(long)) if !typed(&long) => {
            Fatal::new(Exit::Config, format!("{}: {message}", path.display()))
        }
        (_, Some(long)) if !typed(&long) && std::env::var_os(variable(prefix, &long)).is_some() => {
            Fatal::new(Exit::Config, format!("{}: {message}", variable(prefix, &long)))
        }
        _ => Fatal::new(Exit::Usage, format!("{message} (see --help)")),
    }
}
