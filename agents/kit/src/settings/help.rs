//! The layout of `--help` in every program: own flags first, shared ones last, then examples to try.

use clap::Arg;

/// The heading of the flags that many commands share. `--help` lists them last; `-h` leaves them out.
pub const SHARED: &str = "Shared settings";

/// Moves a flag under the shared heading.
pub fn shared(arg: Arg) -> Arg {
    arg.help_heading(SHARED).hide_short_help(true)
}

/// The heading of the examples. A test finds them by it and parses each one.
pub const EXAMPLES: &str = "Examples:";

/// The last section of `--help`: commands to try, one a line. Used in `#[command(after_long_help = …)]`.
pub fn examples(commands: &[&str]) -> String {
    let lines: Vec<String> = commands.iter().map(|command| format!("  {command}")).collect();
    format!("{EXAMPLES}\n{}", lines.join("\n"))
}
