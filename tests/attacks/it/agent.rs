//! An agent as a process: the binary beside this test's, what it says, and its end.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Nothing here takes nearly as long, logcd's lowest priority on a busy machine included; it only turns a hang into a failure.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// Between two looks at a condition.
pub const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What cargo built beside this test; `just attacks` builds the agents first.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join(name);
    assert!(binary.exists(), "{} is missing: run `just attacks`", binary.display());
    binary
}

#[derive(Default)]
struct Said {
    events: Vec<Value>,
    is_over: bool,
}

/// Killed when it is dropped.
pub struct Agent {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Agent {
    /// Its log must be JSON on stderr.
    pub fn start(command: &mut Command) -> Agent {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<(Mutex<Said>, Condvar)>::default();
        let stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn({
            let said = said.clone();
            move || follow(stderr, &said)
        });
        Agent { child, said, reader: Some(reader) }
    }

    /// A start that must succeed.
    pub fn start_ready(command: &mut Command) -> Agent {
        let mut agent = Agent::start(command);
        if !agent.becomes_ready() {
            let status = agent.join();
            panic!("it did not start ({status}): {:#?}", agent.last_events());
        }
        agent
    }

    /// False when it ended instead.
    pub fn becomes_ready(&self) -> bool {
        let (said, more) = &*self.said;
        let has = |said: &Said| said.events.iter().any(|event| event["message"] == "ready");
        let waiting = |said: &mut Said| !said.is_over && !has(said);
        let (said, timeout) = more.wait_timeout_while(said.lock().unwrap(), DEADLINE, waiting).unwrap();
        assert!(!timeout.timed_out(), "neither ready nor over: {:#?}", said.events);
        has(&said)
    }

    /// Where it said that it listens.
    pub fn address(&self, message: &str, field: &str) -> SocketAddr {
        let said = self.said.0.lock().unwrap();
        let event = said.events.iter().find(|event| event["message"] == message).unwrap();
        event[field].as_str().unwrap().trim_matches(['[', ']']).parse().unwrap()
    }

    /// Enough of them to see what it is about.
    pub fn last_events(&self) -> Vec<Value> {
        let events = &self.said.0.lock().unwrap().events;
        events[events.len().saturating_sub(20)..].to_vec()
    }

    /// It has ended, or nearly.
    pub fn is_over(&self) -> bool {
        self.said.0.lock().unwrap().is_over
    }

    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.join();
    }

    /// Waits for its end.
    pub fn join(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(stderr: ChildStderr, said: &(Mutex<Said>, Condvar)) {
    let (said, more) = said;
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
        said.lock().unwrap().events.push(event);
        more.notify_all();
    }
    said.lock().unwrap().is_over = true;
    more.notify_all();
}
