//! The directory, flags and environment of an agent under test. The agent inherits no other variables.

use crate::process::run_to_end;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Names of flags without their dashes, each with a value.
type Flags = &'static [(&'static str, &'static str)];

/// An agent that is not started yet, and its directory, which is removed on drop.
pub struct Setup {
    program: &'static str,
    directory: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    unless_given: Flags,
}

impl Setup {
    /// Takes the program's path. `unless_given` holds defaults for flags, such as one for any free port.
    pub fn new(program: &'static str, unless_given: Flags) -> Setup {
        let directory = tempfile::tempdir().unwrap();
        Setup { program, directory, arguments: Vec::new(), environment: Vec::new(), unless_given }
    }

    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
    }

    pub fn set_variable(&mut self, name: &str, value: impl AsRef<Path>) {
        self.environment.push((name.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
    }

    /// Returns the agent's working directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns a path in the agent's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Returns the command that starts the agent.
    pub fn command(&self) -> Command {
        let mut command = self.bare();
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        for (name, value) in self.unless_given {
            let flag = format!("--{name}");
            if !self.arguments.contains(&flag) {
                command.args([&flag, *value]);
            }
        }
        command
    }

    /// Runs the agent to its end, as for a setup that it must refuse.
    pub fn run(&self) -> Output {
        run_to_end(&mut self.command())
    }

    /// Runs the program to its end with other arguments, in the same directory.
    pub fn run_other(&self, arguments: &[&str]) -> Output {
        run_to_end(self.bare().args(arguments))
    }

    fn bare(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env_clear().current_dir(self.directory()).stdin(Stdio::null());
        command
    }
}
