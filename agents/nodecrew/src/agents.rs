//! The crew: every agent by its name.

use kit::exit::{Exit, Fatal};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A member of the crew.
pub struct Agent {
    pub name: &'static str,
    pub about: &'static str,
    /// Runs the agent's own program with its own command line.
    pub cli: fn(Vec<OsString>) -> Result<Exit, Fatal>,
    /// The agent's flags, from which help, man pages and completions are made.
    pub command: fn() -> clap::Command,
}

pub const CREW: [Agent; 9] = [
    Agent {
        name: "logd",
        about: "TCP log daemon",
        cli: |argv| logd::cli(argv).map(Exit::from),
        command: logd::command,
    },
    Agent {
        name: "logsend",
        about: "Client of logd: sends lines, a command's output, greetings",
        cli: |argv| logsend::cli(argv),
        command: logsend::command,
    },
    Agent {
        name: "logcd",
        about: "Log compressor: one archive a day",
        cli: |argv| logcd::cli(argv).map(Exit::from),
        command: logcd::command,
    },
    Agent {
        name: "queued",
        about: "Queue server for Jobs",
        cli: |argv| queued::cli(argv).map(Exit::from),
        command: queued::command,
    },
    Agent {
        name: "queuectl",
        about: "Client of queued, and the worker of a Job",
        cli: |argv| queuectl::cli(argv),
        command: queuectl::command,
    },
    Agent {
        name: "kvd",
        about: "Key/value server for the state of agents and Jobs",
        cli: |argv| kvd::cli(argv).map(Exit::from),
        command: kvd::command,
    },
    Agent {
        name: "kvctl",
        about: "Client of kvd: get, put, watch, compare-and-set, backup",
        cli: |argv| kvctl::cli(argv),
        command: kvctl::command,
    },
    Agent {
        name: "keygen",
        about: "Example workload: makes RSA keys",
        cli: |argv| keygen::cli(argv),
        command: keygen::command,
    },
    Agent {
        name: "rng",
        about: "Example service: random bytes, and which node answered",
        cli: |argv| rng::cli(argv).map(Exit::from),
        command: rng::command,
    },
];

/// Finds the agent that `name`, or the file name of the path `name`, stands for.
pub fn find(name: &OsStr) -> Option<&'static Agent> {
    let name = Path::new(name).file_name()?;
    CREW.iter().find(|agent| name == agent.name)
}

/// Returns the program name that errors begin with: the agent's if it was called by a link or as a
/// subcommand, otherwise the crew's.
pub fn called(argv: &[OsString]) -> &'static str {
    argv.iter().take(2).find_map(|name| find(name)).map_or("nodecrew", |agent| agent.name)
}

pub fn names() -> String {
    CREW.map(|agent| agent.name).join(", ")
}

/// The agents, for the help of the crew's own program.
pub fn section() -> String {
    let lines = CREW.iter().map(|agent| format!("  {:<8} {}", agent.name, agent.about));
    format!("Agents (nodecrew AGENT --help):\n{}", lines.collect::<Vec<_>>().join("\n"))
}
