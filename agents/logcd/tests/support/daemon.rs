//! The running program, and what it says at its admin endpoint.

use super::{Bench, wait_for};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

/// Killed when it is dropped.
pub struct Daemon {
    child: Child,
    pub address: String,
    stderr: BufReader<ChildStderr>,
}

impl Daemon {
    pub fn start(bench: &Bench, flags: &[&str]) -> Daemon {
        let mut command = bench.command();
        command.args(flags);
        Daemon::run(command)
    }

    /// The flags must ask for `--admin=127.0.0.1:0`; the port is read from the log.
    pub fn run(mut command: Command) -> Daemon {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            if let Some((_, address)) = line.split_once("address=") {
                break address.split_whitespace().next().unwrap().to_owned();
            }
            said.push_str(&line);
        };
        Daemon { child, address, stderr }
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: logcd\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn is_ready(&self) -> bool {
        self.get("/ready").0 == 200
    }

    /// The value of one line of the metrics page; 0 where there is none yet.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").1;
        let line =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn wait_until_ready(&self) {
        wait_for("the daemon to be ready", || self.is_ready());
    }

    pub fn signal(&self, name: &str) {
        super::run(Command::new("kill").arg(format!("-{name}")).arg(self.pid()));
    }

    /// SIGTERM, the end, and what it said.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
