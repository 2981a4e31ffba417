//! The daemon under test as a child process, in a directory of its own.

use crate::http::{Answer, Http};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use trial::{DEADLINE, Process, metric, run_to_end};

/// What a daemon is going to be started with.
pub(crate) struct Setup {
    directory: TempDir,
    arguments: Vec<String>,
}

impl Setup {
    pub(crate) fn new(arguments: &[&str]) -> Setup {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Setup { directory: tempfile::tempdir().unwrap(), arguments }
    }

    /// A path in the daemon's working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_queued"));
        command.env_clear().current_dir(self.directory.path()).stdin(Stdio::null());
        command.args(&self.arguments);
        // Whatever port is free; small log files, so that tests see them change.
        for (name, default) in [
            ("http", "127.0.0.1:0"),
            ("line", "127.0.0.1:0"),
            ("log-format", "json"),
            ("data", "data"),
            ("segment-size", "256KiB"),
        ] {
            if !self.arguments.iter().any(|argument| argument == &format!("--{name}")) {
                command.args([format!("--{name}"), default.to_owned()]);
            }
        }
        command
    }

    /// Runs it to its end, for what is to be refused.
    pub(crate) fn run(&self) -> Output {
        run_to_end(&mut self.command())
    }

    /// A subcommand in the same directory.
    pub(crate) fn subcommand(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_queued"));
        command.env_clear().current_dir(self.directory.path()).args(arguments).output().unwrap()
    }

    pub(crate) fn start(self) -> Queued {
        let command = self.command();
        self.start_with(command)
    }

    /// The same by another way to start it.
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

    /// The same once more, on the same files.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_over(), "still running");
        self.process = Process::start_ready(&mut self.setup.command());
    }

    pub(crate) fn http_address(&self) -> SocketAddr {
        self.process.address("serving HTTP")
    }

    pub(crate) fn line_address(&self) -> SocketAddr {
        self.process.address("serving lines")
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

    /// What a line client gets that reads to the end.
    pub(crate) fn line(&self) -> String {
        let mut stream = TcpStream::connect(self.line_address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// A metric's value by name and labels as on the page, without the agent's prefix; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").expect(200);
        metric(page.text(), &format!("queued_{name}"))
    }
}
