//! Errors begin with the name of the program that was called.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

const AGENTS: [&str; 9] = ["logd", "logsend", "logcd", "queued", "queuectl", "kvd", "kvctl", "keygen", "rng"];

fn error_of(program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn errors_begin_with_the_called_name() {
    let crew = Path::new(env!("CARGO_BIN_EXE_nodecrew"));
    let directory = tempfile::tempdir().unwrap();
    for agent in AGENTS {
        let link = directory.path().join(agent);
        std::os::unix::fs::symlink(crew, &link).unwrap();
        for error in [error_of(&link, &["--nonsense"]), error_of(crew, &[agent, "--nonsense"])] {
            assert!(error.starts_with(&format!("{agent}: ")), "{error}");
        }
    }
    let error = error_of(crew, &["--nonsense"]);
    assert!(error.starts_with("nodecrew: "), "{error}");
}
