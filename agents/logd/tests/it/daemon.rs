//! The daemon under test as a child process, in a directory of its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use trial::{Process, ask, metric, wait_until};

/// Settings and files for a daemon that is to be started.
pub(crate) struct Setup(trial::Setup);

impl Deref for Setup {
    type Target = trial::Setup;

    fn deref(&self) -> &trial::Setup {
        &self.0
    }
}

impl Setup {
    pub(crate) fn new() -> Setup {
        const ANY_PORT: &str = "127.0.0.1:0";
        Setup(trial::Setup::new(
            env!("CARGO_BIN_EXE_logd"),
            &[("listen", ANY_PORT), ("admin", ANY_PORT), ("log-format", "json")],
        ))
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Setup {
        self.0.add_arguments(arguments);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: impl AsRef<Path>) -> Setup {
        self.0.set_variable(name, value);
        self
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(self) -> Logd {
        let command = self.command();
        self.start_with(command)
    }

    /// Starts the daemon by another command and waits until it is ready.
    pub(crate) fn start_with(self, mut command: Command) -> Logd {
        Logd { setup: self, process: Process::start_ready(&mut command) }
    }
}

/// A daemon that is or was running; killed when dropped.
pub(crate) struct Logd {
    setup: Setup,
    process: Process,
}

impl Deref for Logd {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Logd {
    pub(crate) fn start(arguments: &[&str]) -> Logd {
        Setup::new().arguments(arguments).start()
    }

    /// Starts the daemon again, on the same files.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_over(), "still running");
        self.process = Process::start_ready(&mut self.setup.command());
    }

    /// Returns the address where lines are taken.
    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address("lines")
    }

    /// Returns the address for probes, metrics and the page.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.process.address("admin")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// Returns the file's content.
    pub(crate) fn file(&self) -> Vec<u8> {
        std::fs::read(self.path("node_log")).unwrap()
    }

    /// Returns the files of the log, oldest first: rotated ones, then the one that is written.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.setup.directory()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("node_log."));
        // Sorting by name works, since the numbers have leading zeros.
        files.sort();
        files.push(self.path("node_log"));
        files
    }

    /// True if the daemon is not ready because its file cannot be written for this reason.
    pub(crate) fn cannot_write(&self, why: &str) -> bool {
        let (status, reasons) = self.ready();
        status == 503 && reasons.contains(&format!("file: cannot write: {why}"))
    }

    /// Returns status and body of an admin request.
    pub(crate) fn admin(&self, method: &str, path: &str) -> (u16, String) {
        let answer = ask(self.admin_address(), method, path);
        (answer.status, answer.text().to_owned())
    }

    pub(crate) fn ready(&self) -> (u16, String) {
        self.admin("GET", "/ready")
    }

    /// Waits for some iterations of the data plane. All input that the daemon would read has then been read.
    pub(crate) fn turn(&self) {
        for _ in 0..3 {
            assert_eq!(self.admin("GET", "/live").0, 200);
        }
    }

    /// Returns a metric's value by name and labels as on the page, without the agent's prefix; 0 if absent.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (status, page) = self.admin("GET", "/metrics");
        assert_eq!(status, 200);
        metric(&page, &format!("logd_{name}"))
    }

    /// Waits until a metric has this value. Some are counted only after the peer may know the result.
    pub(crate) fn counts(&self, name: &str, value: u64) {
        wait_until(&format!("{name} is {value}"), || self.metric(name) == value);
    }
}
