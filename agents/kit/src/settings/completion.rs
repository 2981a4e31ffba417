//! `AGENT completion SHELL`: a script that completes commands and flags, made from the flags themselves.

use clap::{ArgMatches, Command};
use clap_complete::Generator;
use clap_complete::shells::{Bash, Fish, Zsh};

/// The command's name. Programs need not declare it: [`add_to`] does.
const NAME: &str = "completion";

/// The shells that completions are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub const ALL: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

    /// The shell's own name.
    pub fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }

    /// The file name under which the shell looks for the completions of `program`.
    pub fn file_name(self, program: &str) -> String {
        match self {
            Shell::Bash => Bash.file_name(program),
            Shell::Zsh => Zsh.file_name(program),
            Shell::Fish => Fish.file_name(program),
        }
    }

    /// The script for this program.
    pub fn script(self, mut command: Command) -> String {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        match self {
            Shell::Bash => clap_complete::generate(Bash, &mut command, name, &mut script),
            Shell::Zsh => clap_complete::generate(Zsh, &mut command, name, &mut script),
            Shell::Fish => clap_complete::generate(Fish, &mut command, name, &mut script),
        }
        String::from_utf8_lossy(&script).into_owned()
    }
}

/// Prints a script that completes commands and flags in a shell
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The shell to make it for
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// True if the program has a command `completion` of its own.
pub fn is_declared(command: &Command) -> bool {
    command.find_subcommand(NAME).is_some()
}

/// Returns the program with the command `completion` added.
pub fn add_to(command: Command) -> Command {
    if is_declared(&command) {
        return command;
    }
    let program = command.get_name().to_owned();
    let has_commands = command.has_subcommands();
    let about = "Print a script that completes commands and flags in a shell";
    let completion = <Options as clap::Args>::augment_args(Command::new(NAME))
        .about(about)
        .after_long_help(examples(&program));
    let command = command.subcommand(completion);
    if has_commands {
        return command;
    }
    // Flags before the command would be silently ignored, so they are an error. `help COMMAND` would only
    // explain `completion`, so it is left out.
    command.args_conflicts_with_subcommands(true).disable_help_subcommand(true)
}

/// Examples that show how to use this program's script.
pub fn examples(program: &str) -> String {
    crate::settings::help::examples(&[
        &format!("source <({program} completion bash)"),
        &format!("{program} completion zsh > ~/.zfunc/_{program}"),
        &format!("{program} completion fish > ~/.config/fish/completions/{program}.fish"),
    ])
}

/// The shell that was asked for, if the command line is `PROGRAM completion SHELL`.
pub fn asked(matches: &ArgMatches) -> Option<Shell> {
    let (name, matches) = matches.subcommand()?;
    if name != NAME {
        return None;
    }
    matches.try_get_one::<Shell>("shell").ok().flatten().copied()
}
