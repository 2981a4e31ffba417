//! Reports a command that does not exist: suggests the one that was probably meant, else lists all commands.

use crate::agents::{self, CREW};
use kit::exit::{Exit, Fatal};
use std::ffi::OsStr;

/// The crew's commands that are not agents.
const COMMANDS: [&str; 3] = ["up", "completion", "help"];

/// Returns the error for an unknown command.
pub fn command(name: &OsStr) -> Fatal {
    let name = name.to_string_lossy();
    let known = COMMANDS.into_iter().chain(CREW.iter().map(|agent| agent.name));
    let what = match kit::settings::nearest(known, &name) {
        Some(meant) => format!("there is no command {name:?}, did you mean `{meant}`? (see --help)"),
        None => {
            format!("there is no command {name:?}; try `up`, or an agent: {} (see --help)", agents::names())
        }
    };
    Fatal::new(Exit::Usage, what)
}
