//! Starts the daemon under test with its stdout in a file, and sends raw requests to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use trial::{DEADLINE, Process, wait_until};

/// The flags and environment of a daemon, before it is started.
pub(crate) struct Setup(trial::Setup);

impl Deref for Setup {
    type Target = trial::Setup;

    fn deref(&self) -> &trial::Setup {
        &self.0
    }
}

impl Setup {
    pub(crate) fn new() -> Setup {
        let unless_given = &[("http", "127.0.0.1:0"), ("linger", "0s"), ("log-format", "json")];
        Setup(trial::Setup::new(env!("CARGO_BIN_EXE_rng"), unless_given))
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
    pub(crate) fn start(self) -> Rng {
        self.start_with(r#"exec "$0" "$@" >access.log"#)
    }

    /// Starts the daemon by a shell script, which gets its command line as `$0` and `$@`.
    pub(crate) fn start_with(self, script: &str) -> Rng {
        let command = self.command();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).arg(command.get_program()).args(command.get_args());
        shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(self.directory());
        Rng { process: Process::start_ready(&mut shell), setup: self }
    }
}

/// A running daemon, killed on drop.
pub(crate) struct Rng {
    process: Process,
    pub(crate) setup: Setup,
}

impl Deref for Rng {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Rng {
    pub(crate) fn start(arguments: &[&str]) -> Rng {
        Setup::new().arguments(arguments).start()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address("http")
    }

    /// Returns the address of the admin endpoint. Panics unless the arguments open one.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.process.address("admin")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path)
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: rng\r\n\r\n"))
    }

    /// Sends a request as it is, on a new connection, and reads the answer.
    pub(crate) fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Waits for at least `count` access lines, and returns all that there are.
    pub(crate) fn access_lines(&self, count: usize) -> Vec<String> {
        let path = self.setup.path("access.log");
        let lines = || {
            let text = std::fs::read_to_string(&path).unwrap();
            text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>()
        };
        wait_until("the access lines", || {
            lines().iter().filter(|line| line.ends_with('\n')).count() >= count
        });
        lines()
    }
}

/// An answer, read until the daemon closed the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn read(mut stream: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
