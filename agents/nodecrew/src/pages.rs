//! Man pages and shell completions, made from the flags themselves, so that they cannot be out of date.

use crate::Crew;
use crate::agents::CREW;
use clap::Command;
use kit::exit::{Exit, Fatal};
use kit::settings::completion::Shell;
use std::io;
use std::path::{Path, PathBuf};

/// Options of `nodecrew pages`
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Directory for man1/ and a directory for each shell; it is created if it does not exist
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

pub fn write(options: &Options) -> Result<(), Fatal> {
    let to = &options.to;
    write_below(to).map_err(|e| {
        Fatal::new(Exit::Failure, format!("cannot write the pages to {}", to.display())).because(e)
    })
}

fn crew() -> Command {
    kit::settings::command::<Crew>("NODECREW")
}

/// Returns the crew's program with each agent as a subcommand.
pub fn whole_crew() -> Command {
    CREW.iter().fold(crew(), |crew, agent| {
        crew.subcommand((agent.command)().name(agent.name).disable_version_flag(true))
    })
}

fn write_below(to: &Path) -> io::Result<()> {
    let man = to.join("man1");
    std::fs::create_dir_all(&man)?;
    // Each agent has its own page, so the crew's page does not repeat them.
    clap_mangen::generate_to(page(crew()), &man)?;
    complete(&whole_crew(), to)?;
    for agent in &CREW {
        clap_mangen::generate_to(page((agent.command)()), &man)?;
        complete(&(agent.command)(), to)?;
    }
    Ok(())
}

/// Removes `help`, which would become an empty page.
fn page(command: Command) -> Command {
    command.disable_help_subcommand(true)
}

fn complete(command: &Command, to: &Path) -> io::Result<()> {
    for shell in Shell::ALL {
        let directory = to.join(shell.name());
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(shell.file_name(command.get_name())), shell.script(command.clone()))?;
    }
    Ok(())
}
