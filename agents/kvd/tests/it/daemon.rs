//! Starts the daemon under test, and sends requests to it.

use crate::openapi::check_status;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Output;
use trial::{Answer, DEADLINE, Http, Process};

/// The settings of a daemon that is still to be started.
pub(crate) struct Setup(trial::Setup);

impl Deref for Setup {
    type Target = trial::Setup;

    fn deref(&self) -> &trial::Setup {
        &self.0
    }
}

impl Setup {
    pub(crate) fn new(arguments: &[&str]) -> Setup {
        let unless_given =
            &[("http", "127.0.0.1:0"), ("data", "data"), ("linger", "0s"), ("log-format", "json")];
        let mut setup = trial::Setup::new(env!("CARGO_BIN_EXE_kvd"), unless_given);
        setup.add_arguments(arguments);
        Setup(setup)
    }

    pub(crate) fn environment(mut self, name: &str, value: impl AsRef<Path>) -> Setup {
        self.0.set_variable(name, value);
        self
    }

    pub(crate) fn start(&self) -> Process {
        Process::start_ready(&mut self.command())
    }

    /// Returns the path of the marker in the data directory.
    pub(crate) fn marker(&self) -> PathBuf {
        self.path("data/_shutting_down_")
    }
}

/// A running daemon, killed on drop.
pub(crate) struct Kvd {
    process: Process,
    pub(crate) setup: Setup,
}

impl Deref for Kvd {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Kvd {
    /// Starts a server that keeps keys on the disk.
    pub(crate) fn start(arguments: &[&str]) -> Kvd {
        Kvd::of(Setup::new(arguments))
    }

    pub(crate) fn in_memory(arguments: &[&str]) -> Kvd {
        Kvd::start(&[&["--data", "memory"], arguments].concat())
    }

    pub(crate) fn of(setup: Setup) -> Kvd {
        Kvd { process: setup.start(), setup }
    }

    /// Kills the server and restarts it on the same directory.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill9();
        self.process = self.setup.start();
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.process.address("http")
    }

    pub(crate) fn connect(&self) -> Http {
        Http::connect(self.http()).unwrap()
    }

    /// Sends one request on its own connection.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let answer = self.connect().call(method, path, &headers, body).unwrap();
        check_status(method, path, answer.status);
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("PUT", path, &[], body.as_ref())
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], b"")
    }

    /// Sends a batch of operations in JSON.
    pub(crate) fn batch(&self, operations: &str) -> Answer {
        self.ask("POST", "/v1/batch", &[], format!("{{\"operations\":[{operations}]}}").as_bytes())
    }

    /// Sends these bytes on their own connection, and reads until the server closes it.
    pub(crate) fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        read_to_end(stream)
    }

    /// Sends an HTTP/1.0 request, so that an answer of unknown length is not chunked.
    pub(crate) fn get_whole(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    /// Runs another `kvd` with these arguments in the directory of this one.
    pub(crate) fn run_other(&self, arguments: &[&str]) -> Output {
        self.setup.run_other(arguments)
    }
}

/// Reads an answer up to the end of its connection.
#[track_caller]
pub(crate) fn read_to_end(mut stream: TcpStream) -> Answer {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(answer[..end + 2].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

/// Returns a header of an answer.
pub(crate) fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// Returns the revision in the `ETag` of an answer.
#[track_caller]
pub(crate) fn revision(answer: &Answer) -> u64 {
    let etag = header(answer, "etag").unwrap_or_else(|| panic!("no ETag in {}", answer.head));
    etag.trim_matches('"').parse().unwrap()
}
