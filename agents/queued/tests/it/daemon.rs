//! The daemon under test as a child process, in a directory of its own.

use crate::http::{Answer, Http};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::process::Command;
use trial::{DEADLINE, Process, metric};

/// The flags, files and environment of a daemon that is not started yet.
pub(crate) struct Setup(trial::Setup);

impl Deref for Setup {
    type Target = trial::Setup;

    fn deref(&self) -> &trial::Setup {
        &self.0
    }
}

impl Setup {
    pub(crate) fn new(arguments: &[&str]) -> Setup {
        const ANY_PORT: &str = "127.0.0.1:0";
        let mut setup = trial::Setup::new(
            env!("CARGO_BIN_EXE_queued"),
            &[
                ("http", ANY_PORT),
                ("line", ANY_PORT),
                ("log-format", "json"),
                ("data", "data"),
                // Small log files, so that tests see several of them.
                ("segment-bytes", "256KiB"),
            ],
        );
        setup.add_arguments(arguments);
        Setup(setup)
    }

    pub(crate) fn start(self) -> Queued {
        let command = self.command();
        self.start_with(command)
    }

    /// Starts the daemon with another command.
    pub(crate) fn start_with(self, mut command: Command) -> Queued {
        Queued { setup: self, process: Process::start_ready(&mut command) }
    }
}

/// A daemon that is or was running; killed when dropped.
pub(crate) struct Queued {
    pub(crate) setup: Setup,
    process: Process,
}

impl Deref for Queued {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Queued {
    pub(crate) fn start(arguments: &[&str]) -> Queued {
        Setup::new(arguments).start()
    }

    /// Starts the daemon again, on the same files.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_over(), "still running");
        self.process = Process::start_ready(&mut self.setup.command());
    }

    pub(crate) fn http_address(&self) -> SocketAddr {
        self.process.address("http")
    }

    pub(crate) fn line_address(&self) -> SocketAddr {
        self.process.address("lines")
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.http_address())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.http().get(path)
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.http().post(path, body)
    }

    /// Returns the bytes that a line client gets when it reads to the end.
    pub(crate) fn line(&self) -> String {
        let mut stream = TcpStream::connect(self.line_address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// A metric's value by name and labels as on the page, without the agent's prefix; 0 if it is absent.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").expect(200);
        metric(page.text(), &format!("queued_{name}"))
    }
}
