//! An agent of the crew as a process, in a directory of its own.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Nothing here takes nearly as long; it only turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// Killed when dropped.
pub(crate) struct Agent {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
}

impl Agent {
    /// Runs until it says that it is ready.
    pub(crate) fn start(directory: &Path, name: &str, arguments: &[&str]) -> Agent {
        let mut agent = Agent::launch(directory, name, arguments);
        agent.event("ready");
        agent
    }

    /// Also one that will never be ready.
    pub(crate) fn launch(directory: &Path, name: &str, arguments: &[&str]) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodecrew"));
        command.env_clear().current_dir(directory).arg(name).args(arguments).args(["--log-format", "json"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Agent { child, events, seen: Vec::new() }
    }

    /// The event with that message, once it is there.
    pub(crate) fn event(&mut self, message: &str) -> Value {
        loop {
            if let Some(event) = self.seen.iter().find(|event| event["message"] == message) {
                return event.clone();
            }
            match self.events.recv_timeout(DEADLINE) {
                Ok(event) => self.seen.push(event),
                Err(_) => panic!("no {message:?} in {:#?}", self.seen),
            }
        }
    }

    pub(crate) fn address(&mut self, message: &str) -> SocketAddr {
        self.event(message)["address"].as_str().unwrap().parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request, and what came back: the status, and the whole answer with its head.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, token: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}
