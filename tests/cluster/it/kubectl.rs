//! Runs kubectl as a person types it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;

pub fn kubectl(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs a command that must succeed, and returns its stdout.
#[track_caller]
pub fn says(words: &[&str]) -> String {
    text(words, &kubectl(words))
}

/// Runs a command that must succeed with text on stdin, and returns its stdout.
#[track_caller]
pub fn says_to(words: &[&str], input: &str) -> String {
    let mut child =
        command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    text(words, &child.wait_with_output().unwrap())
}

#[track_caller]
fn text(words: &[&str], output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {}: {stderr}", words.join(" "));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Passes each line that kubectl prints to `take`, without keeping them. The command must succeed.
#[track_caller]
pub fn each_line(words: &[&str], take: impl FnMut(&str)) {
    each_line_of(&mut command(words), take);
}

/// Passes each line that the command prints to `take`. The command must succeed.
#[track_caller]
pub fn each_line_of(command: &mut Command, mut take: impl FnMut(&str)) {
    let mut running = RunningCommand::spawn(command);
    loop {
        let line = running.line();
        match line.strip_suffix('\n') {
            Some(line) => take(line),
            None => break assert_eq!(line, "", "the last line is whole"),
        }
    }
    let status = running.child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// Returns the answer of `get … -o json`.
#[track_caller]
pub fn json(words: &[&str]) -> Value {
    serde_json::from_str(&says(&[words, &["-o", "json"]].concat())).unwrap()
}

/// Returns the objects of a list.
#[track_caller]
pub fn list(words: &[&str]) -> Vec<Value> {
    json(words)["items"].as_array().unwrap().clone()
}

/// True if the cluster has this version of an API, such as `policy/v1`.
pub fn serves(version: &str) -> bool {
    static VERSIONS: OnceLock<String> = OnceLock::new();
    VERSIONS.get_or_init(|| says(&["api-versions"])).lines().any(|line| line == version)
}

/// True if the cluster has CronJobs in `batch/v1`. That version alone proves nothing: it had Jobs long
/// before.
pub fn has_cron_job_v1() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let resources: Value = serde_json::from_str(&says(&["get", "--raw", "/apis/batch/v1"])).unwrap();
        resources["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == "cronjobs")
    })
}

/// A command that runs until this is dropped.
pub struct RunningCommand {
    child: Child,
    /// Kept open while the command runs, because the command writes to it.
    stdout: BufReader<ChildStdout>,
}

impl RunningCommand {
    pub fn start(words: &[&str]) -> RunningCommand {
        RunningCommand::spawn(&mut command(words))
    }

    fn spawn(command: &mut Command) -> RunningCommand {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        RunningCommand { child, stdout }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
