//! Each program's texts about itself: `--help` and `--version` word for word, man pages and completions made
//! from the same flags.
//! To accept an intended change of the help: `INSTA_UPDATE=always cargo test -p nodecrew --test pages`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

const AGENTS: [&str; 9] = ["logd", "logsend", "logcd", "queued", "queuectl", "kvd", "kvctl", "keygen", "rng"];

/// Returns stdout of a run that must succeed, as on a terminal of 100 columns.
fn says(words: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_nodecrew"));
    let output = program.args(words).env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names under `Commands:`; further lines of a description are indented deeper.
fn subcommands(help: &str) -> Vec<&str> {
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    names.filter_map(|line| line.split_whitespace().next()).collect()
}

/// A command's help, followed by that of all its commands.
fn all_help(words: &[&str]) -> String {
    let asked = [words, &["--help"]].concat();
    let help = says(&asked);
    let mut text = format!("$ {}\n{help}", asked.join(" "));
    for name in subcommands(&help).into_iter().filter(|name| *name != "help") {
        text.push('\n');
        text.push_str(&all_help(&[words, &[name]].concat()));
    }
    text
}

#[test]
fn help_equals_its_snapshot() {
    for agent in AGENTS {
        insta::assert_snapshot!(agent, all_help(&[agent]));
    }
    insta::assert_snapshot!("nodecrew", all_help(&[]));
}

#[test]
fn every_program_prints_its_version() {
    let of_the_crew = says(&["--version"]);
    let rest = of_the_crew.strip_prefix("nodecrew ").unwrap();
    let (version, revision) = rest.trim_end().split_once(' ').unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert!(revision.starts_with('(') && revision.ends_with(')') && revision.len() > 2, "{revision}");
    for agent in AGENTS {
        assert_eq!(says(&[agent, "--version"]), format!("{agent} {rest}"));
    }
}

#[test]
fn man_pages_and_completions_list_every_flag() {
    let directory = tempfile::tempdir().unwrap();
    says(&["pages", directory.path().to_str().unwrap()]);
    let page = |path: &str| fs::read_to_string(directory.path().join(path)).unwrap();
    for agent in AGENTS {
        let help = says(&[agent, "--help"]);
        let man = page(&format!("man1/{agent}.1")).replace("\\-", "-");
        let flags = help.split([' ', '\n', ',']).filter_map(|word| word.strip_prefix("--"));
        let flags: Vec<&str> = flags
            .filter(|flag| flag.len() > 1 && flag.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
            .collect();
        assert!(flags.len() > 4, "{agent}: {flags:?}");
        for (shell, completion) in [
            ("bash", format!("{agent}.bash")),
            ("zsh", format!("_{agent}")),
            ("fish", format!("{agent}.fish")),
        ] {
            let completion = page(&format!("{shell}/{completion}"));
            for flag in &flags {
                assert!(completion.contains(flag), "{shell} does not complete {agent} --{flag}");
            }
        }
        for flag in flags {
            assert!(man.contains(&format!("--{flag}")), "no --{flag} in {agent}(1)");
        }
        for subcommand in subcommands(&help).into_iter().filter(|name| *name != "help") {
            page(&format!("man1/{agent}-{subcommand}.1"));
        }
    }
    assert!(page("man1/nodecrew.1").contains("nodecrew"));
    let bash = page("bash/nodecrew.bash");
    assert!(AGENTS.iter().all(|agent| bash.contains(agent)), "`nodecrew AGENT` is completed");
}
