//! Renders the chart with the real Helm engine, through k8s/helm.

use crate::rendering::root;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// The release's name and namespace, where a test names no other.
pub const RELEASE: &str = "nodecrew";

pub fn helm(words: &[&str]) -> Command {
    let mut command = Command::new(root().join("k8s/helm"));
    command.args(words);
    command
}

/// Runs a command of k8s/helm that must succeed, and returns its stdout.
#[track_caller]
pub fn helm_says(words: &[&str]) -> String {
    let output = helm(words).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "k8s/helm {}: {stderr}", words.join(" "));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Renders once for each request, in order. Each result is the text, or what Helm refuses.
#[track_caller]
pub fn answers(requests: &[Value]) -> Vec<Result<String, String>> {
    let mut command = helm(&["answers"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let output = trial::with_input(command.spawn().unwrap(), input.as_bytes());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "k8s/helm answers: {stderr}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<_> = lines.lines().map(answer).collect();
    assert_eq!(answers.len(), requests.len(), "{stderr}");
    answers
}

fn answer(line: &str) -> Result<String, String> {
    let answer: Value = serde_json::from_str(line).unwrap();
    match (answer["text"].as_str(), answer["error"].as_str()) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, error) => Err(error.unwrap().to_owned()),
    }
}

/// Renders the objects for these values, without those of `helm test`.
#[track_caller]
pub fn rendered(values: &[Value]) -> Vec<String> {
    let requests: Vec<Value> =
        values.iter().map(|values| json!({"values": values, "hooks": false})).collect();
    accepted(&requests)
}

/// Renders requests that Helm must accept.
#[track_caller]
pub fn accepted(requests: &[Value]) -> Vec<String> {
    let answers = answers(requests).into_iter().zip(requests);
    answers.map(|(answer, request)| answer.unwrap_or_else(|error| panic!("{request}: {error}"))).collect()
}
