//! The running program and its admin endpoint.

use super::Setup;
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Command, ExitStatus};
use trial::{Process, ask, metric, wait_until};

pub struct Daemon {
    process: Process,
    pub address: SocketAddr,
}

impl Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Daemon {
    pub fn start(setup: &Setup, flags: &[&str]) -> Daemon {
        let mut command = setup.command();
        command.args(flags);
        Daemon::run(command)
    }

    /// Starts the daemon without waiting until it is ready; the flags must contain `--admin=127.0.0.1:0`.
    pub fn run(mut command: Command) -> Daemon {
        let process = Process::start(command.env("LOGCD_LOG_FORMAT", "json"));
        let address = process.address("admin");
        Daemon { process, address }
    }

    /// Returns status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = ask(self.address, "GET", path);
        (answer.status, answer.text().to_owned())
    }

    /// Returns the value of one metric, or 0 if it is missing.
    pub fn metric(&self, name: &str) -> f64 {
        metric(&self.get("/metrics").1, name)
    }

    pub fn wait_until_ready(&self) {
        wait_until("the daemon is ready", || self.get("/ready").0 == 200);
    }

    /// Sends SIGTERM, waits, and returns the exit status and the log.
    pub fn stop(self) -> (ExitStatus, String) {
        (self.process.terminate(), self.process.log())
    }
}
