//! The whole crew in one binary: each agent as a subcommand, and `up`, which runs them together.

mod agents;
mod logs;
mod mistyped;
mod pages;
mod ports;
mod up;

use clap::Parser;
use kit::exit::{Exit, Fatal};
use kit::settings::completion;
use kit::settings::help::examples;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

/// Small node agents that lose nothing. `nodecrew up` runs them all on this host
#[derive(Debug, Parser)]
#[command(name = "nodecrew", version = kit::VERSION, max_term_width = 110,
    after_help = agents::section(),
    after_long_help = format!("{}\n\n{}", agents::section(), examples(&[
        "nodecrew up                                          # everything, here, without root",
        "nodecrew logd --file /tmp/node_log                   # one agent, with flags of its own",
        "seq 3 | nodecrew queuectl push -q work --seal        # a client",
    ])))]
enum Crew {
    /// Run every agent on loopback, with its data in one directory; no root, no configuration
    #[command(after_long_help = examples(&[
        "nodecrew up",
        "nodecrew up --http-port 8081 --data /tmp/crew       # where 8080 is taken",
        "nodecrew up --any-port                              # the next free port for each that is taken",
    ]))]
    Up(up::Options),
    /// Print the logs of all nodes in one stream, ordered by time, also of pods that are gone
    #[command(after_long_help = examples(&[
        "nodecrew logs -n shop --pod '^cart-' --since 2h",
        "nodecrew logs --source logd --grep ORDER-4711 --since yesterday",
        "nodecrew logs --ssh web1,web2 --since 10m --output json",
        "nodecrew logs --follow -n shop --timestamps",
        "nodecrew logs --local --stats",
    ]))]
    Logs(Box<logs::options::Options>),
    /// Print a script that completes commands and flags in a shell
    #[command(after_long_help = completion::examples("nodecrew"))]
    Completion(completion::Options),
    /// Write the man pages and shell completions of all agents
    #[command(hide = true)]
    Pages(pages::Options),
    /// Any other name is an agent, which has flags of its own
    #[command(external_subcommand)]
    Agent(Vec<OsString>),
}

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    kit::exit::report(agents::called(&argv), run(argv))
}

fn run(argv: Vec<OsString>) -> Result<Exit, Fatal> {
    // A link named after an agent runs that agent.
    if let Some(agent) = argv.first().and_then(|name| agents::find(name)) {
        return (agent.cli)(argv);
    }
    if let Some(asked) = help_on_an_agent(&argv) {
        return run(asked);
    }
    match kit::settings::load::<Crew>("NODECREW", argv)?.flags {
        Crew::Up(options) => up::run(&options).map(Exit::from),
        Crew::Logs(options) => logs::run(&options).map(Exit::from),
        Crew::Completion(options) => Err(Fatal::new(Exit::Ok, options.shell.script(pages::whole_crew()))),
        Crew::Pages(options) => pages::write(&options).map(Exit::from),
        Crew::Agent(argv) => match argv.first().and_then(|name| agents::find(name)) {
            Some(agent) => (agent.cli)(argv),
            None => Err(mistyped::command(argv.first().map_or(OsStr::new(""), OsString::as_os_str))),
        },
    }
}

/// Turns `nodecrew help AGENT COMMAND` into `AGENT COMMAND --help`: clap knows only the crew's own commands.
fn help_on_an_agent(argv: &[OsString]) -> Option<Vec<OsString>> {
    let [_, help, agent, commands @ ..] = argv else { return None };
    (help == "help").then(|| agents::find(agent)).flatten()?;
    let asked = std::iter::once(agent).chain(commands).cloned();
    Some(asked.chain([OsString::from("--help")]).collect())
}
