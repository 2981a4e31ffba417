//! Each `--help` ends with examples, and each example is a command line that its program accepts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use kit::settings::help::EXAMPLES;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const NODECREW: &str = env!("CARGO_BIN_EXE_nodecrew");

type Definition = fn() -> clap::Command;

const AGENTS: [(&str, Definition); 9] = [
    ("logd", logd::command),
    ("logsend", logsend::command),
    ("logcd", logcd::command),
    ("queued", queued::command),
    ("queuectl", queuectl::command),
    ("kvd", kvd::command),
    ("kvctl", kvctl::command),
    ("keygen", keygen::command),
    ("rng", rng::command),
];

fn help(words: &[&str]) -> String {
    let output = Command::new(NODECREW).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn examples(help: &str) -> Vec<&str> {
    let section = help.lines().skip_while(|line| *line != EXAMPLES).skip(1);
    section.map_while(|line| line.strip_prefix("  ")).collect()
}

/// Replaces each program of the crew by one that only records how it was called.
struct Recorder(tempfile::TempDir);

impl Recorder {
    fn new() -> Recorder {
        let recorder = Recorder(tempfile::tempdir().unwrap());
        for directory in ["calls", "bin", "home/.zfunc", "home/.config/fish/completions"] {
            fs::create_dir_all(recorder.path(directory)).unwrap();
        }
        let script = "#!/bin/bash\nprintf '%s\\0' \"${0##*/}\" \"$@\" > \"$CALLS/$BASHPID\"\n";
        for name in AGENTS.iter().map(|(name, _)| *name).chain(["nodecrew"]) {
            let program = recorder.path("bin").join(name);
            fs::write(&program, script).unwrap();
            fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        }
        recorder
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// The calls that a line makes. Programs outside the crew are missing, and their failure does not matter.
    fn calls(&self, line: &str) -> Vec<Vec<OsString>> {
        let mut bash = Command::new("/bin/bash");
        bash.args(["-c", &format!("{line}\nwait")]).current_dir(self.0.path()).env_clear();
        bash.env("PATH", self.path("bin")).env("HOME", self.path("home")).env("CALLS", self.path("calls"));
        bash.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        fs::read_dir(self.path("calls")).unwrap().map(|entry| take(&entry.unwrap().path())).collect()
    }
}

fn take(file: &Path) -> Vec<OsString> {
    let mut bytes = fs::read(file).unwrap();
    fs::remove_file(file).unwrap();
    assert_eq!(bytes.pop(), Some(0));
    bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// Returns the reason why this call is rejected.
fn refusal(call: &[OsString]) -> Option<String> {
    let name = call[0].to_str().unwrap();
    if let Some((_, command)) = AGENTS.iter().find(|(agent, _)| *agent == name) {
        return command().try_get_matches_from(call).err().map(|error| error.to_string());
    }
    let rest: Vec<&str> = call[1..].iter().map(|word| word.to_str().unwrap()).collect();
    if AGENTS.iter().any(|(agent, _)| *agent == rest[0]) {
        return refusal(&call[1..]);
    }
    let help = help(&rest[..1]);
    let unknown = rest.iter().find(|word| word.starts_with("--") && !help.contains(&format!("{word} ")));
    unknown.map(|flag| format!("nodecrew {} has no {flag}", rest[0]))
}

#[test]
fn every_example_in_help_is_accepted() {
    let recorder = Recorder::new();
    let mut pages: Vec<Vec<&str>> = vec![vec![], vec!["up"], vec!["completion"]];
    let trees: Vec<clap::Command> = AGENTS.iter().map(|(_, command)| command()).collect();
    for tree in &trees {
        gather(tree, &[], &mut pages);
    }
    for words in &pages {
        let help = help(words);
        let examples = examples(&help);
        assert!((2..=3).contains(&examples.len()), "{words:?} needs two or three examples: {examples:?}");
        for line in examples {
            let calls = recorder.calls(line);
            let own = words.first().unwrap_or(&"nodecrew");
            assert!(!calls.is_empty(), "{words:?}: no program of the crew in {line}");
            assert!(line.contains(own), "{words:?}: an example of something else: {line}");
            for call in calls {
                let refusal = refusal(&call);
                assert!(refusal.is_none(), "{line}: {}", refusal.unwrap());
            }
        }
    }
}

/// Collects the command's words, and those of all its subcommands.
fn gather<'a>(command: &'a clap::Command, above: &[&'a str], pages: &mut Vec<Vec<&'a str>>) {
    let words = [above, &[command.get_name()]].concat();
    for subcommand in command.get_subcommands().filter(|below| below.get_name() != "help") {
        gather(subcommand, &words, pages);
    }
    pages.push(words);
}
