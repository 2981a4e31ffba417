//! The whole crew in one binary: each agent as a subcommand, and `up`, which runs them together.

mod agents;
mod pages;
mod up;

use clap::Parser;
use kit::exit::{Exit, Fatal};
use std::ffi::OsString;
use std::process::ExitCode;

/// Small node agents that lose nothing. `nodecrew up` runs them all on this host
#[derive(Debug, Parser)]
#[command(name = "nodecrew", version = kit::VERSION, max_term_width = 110)]
enum Crew {
    /// Run every agent on loopback, with its data in one directory; no root, no configuration
    Up(up::Options),
    /// Write the man pages and shell completions of all agents
    #[command(hide = true)]
    Pages(pages::Options),
    /// The rest are agents: their flags are their own
    #[command(external_subcommand)]
    Agent(Vec<OsString>),
}

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    kit::exit::report(agents::called(&argv), run(argv))
}

fn run(argv: Vec<OsString>) -> Result<Exit, Fatal> {
    // A link named after an agent is that agent.
    if let Some(agent) = argv.first().and_then(|name| agents::find(name)) {
        return (agent.cli)(argv);
    }
    match kit::settings::load::<Crew>("NODECREW", argv) {
        Ok(settings) => match settings.flags {
            Crew::Up(options) => up::run(&options).map(Exit::from),
            Crew::Pages(options) => pages::write(&options).map(Exit::from),
            Crew::Agent(argv) => match argv.first().and_then(|name| agents::find(name)) {
                Some(agent) => (agent.cli)(argv),
                None => Err(Fatal::new(
                    Exit::Usage,
                    format!(
                        "there is no agent {:?}; the crew is {}",
                        argv.first().unwrap_or(&OsString::new()),
                        agents::names()
                    ),
                )),
            },
        },
        Err(fatal) if fatal.exit() == Exit::Ok => {
            Err(Fatal::new(Exit::Ok, agents::add_to_help(&fatal.one_line())))
        }
        Err(fatal) => Err(fatal),
    }
}
