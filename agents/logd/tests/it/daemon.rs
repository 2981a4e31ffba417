//! The daemon under test as a child process, in a directory of its own.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes nearly as long; it only turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a daemon is going to be started with.
pub(crate) struct Setup {
    directory: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    pub(crate) fn new() -> Setup {
        let directory = tempfile::tempdir().unwrap();
        Setup { directory, arguments: Vec::new(), environment: Vec::new() }
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Setup {
        self.arguments.extend(arguments.iter().map(|&a| a.to_owned()));
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: impl AsRef<Path>) -> Setup {
        self.environment.push((name.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
        self
    }

    /// A path in the daemon's working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Logd {
        let running = Running::start(self.command());
        Logd { setup: self, running }
    }

    /// The same by another way to start it.
    pub(crate) fn start_with(self, command: Command) -> Logd {
        Logd { setup: self, running: Running::start(command) }
    }

    /// Runs it to its end, for what is to be refused.
    pub(crate) fn run(&self) -> Output {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() && began.elapsed() < DEADLINE {
            pause();
        }
        let _ = child.kill();
        child.wait_with_output().unwrap()
    }

    /// Starts it without expecting anything.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logd"));
        command.env_clear().current_dir(self.directory.path()).stdin(Stdio::null());
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Whatever port is free, unless the test is about the address.
        for (name, default) in [("listen", "127.0.0.1:0"), ("admin", "127.0.0.1:0"), ("log-format", "json")] {
            if !self.arguments.iter().any(|a| a == &format!("--{name}")) {
                command.args([format!("--{name}"), default.to_owned()]);
            }
        }
        command
    }
}

/// One run of the daemon.
struct Running {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
    lines: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn({
            let log = log.clone();
            move || follow(stderr, &log)
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut running = Running { child, log, reader: Some(reader), lines: nowhere, admin: nowhere };
        wait_until("the daemon is ready", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?} at the start: {:#?}", running.log.lock().unwrap());
            running.says("ready")
        });
        running.admin = running.address("admin endpoint", "address");
        running.lines = running.address("taking lines", "addresses");
        running
    }

    fn says(&self, message: &str) -> bool {
        self.log.lock().unwrap().iter().any(|event| event["message"] == message)
    }

    fn address(&self, message: &str, field: &str) -> SocketAddr {
        let log = self.log.lock().unwrap();
        let event = log.iter().find(|event| event["message"] == message).unwrap();
        let addresses = event[field].as_str().unwrap().trim_matches(['[', ']']);
        addresses.split(", ").next().unwrap().parse().unwrap()
    }

    fn join(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the daemon has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.unwrap()
    }
}

fn follow(stderr: ChildStderr, log: &Mutex<Vec<Value>>) {
    for line in BufReader::new(stderr).lines() {
        let line = line.unwrap();
        let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
        log.lock().unwrap().push(event);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon that is or was running; killed when dropped.
pub(crate) struct Logd {
    setup: Setup,
    running: Running,
}

impl Logd {
    pub(crate) fn start(arguments: &[&str]) -> Logd {
        Setup::new().arguments(arguments).start()
    }

    /// The same once more, on the same files.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.child.try_wait().unwrap().is_some(), "still running");
        self.running = Running::start(self.setup.command());
    }

    /// Where it takes lines.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.lines
    }

    /// Where probes are answered, and metrics, and the page.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.running.admin
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.running.child.id()).unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// What the file holds.
    pub(crate) fn file(&self) -> Vec<u8> {
        std::fs::read(self.path("node_log")).unwrap()
    }

    /// Files of the log, oldest first: rotated ones, then the one that is written.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.setup.directory.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("node_log."));
        // Their numbers have leading zeros.
        files.sort();
        files.push(self.path("node_log"));
        files
    }

    pub(crate) fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.join()
    }

    pub(crate) fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.join();
    }

    /// Waits for its end.
    pub(crate) fn join(&mut self) -> ExitStatus {
        self.running.join()
    }

    /// Whether it has logged this.
    pub(crate) fn says(&self, message: &str) -> bool {
        self.running.says(message)
    }

    /// The events so far with this message.
    pub(crate) fn events(&self, message: &str) -> Vec<Value> {
        let log = self.running.log.lock().unwrap();
        log.iter().filter(|event| event["message"] == message).cloned().collect()
    }

    /// Status and body of an admin request.
    pub(crate) fn admin(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.running.admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: logd\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn ready(&self) -> (u16, String) {
        self.admin("GET", "/ready")
    }

    /// Lets the data plane turn: what was there to be read has been read then, as far as it will be.
    pub(crate) fn turn(&self) {
        for _ in 0..3 {
            assert_eq!(self.admin("GET", "/live").0, 200);
        }
    }

    /// A metric's value by name and labels as on the page, without the agent's prefix; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (status, page) = self.admin("GET", "/metrics");
        assert_eq!(status, 200);
        let mut samples = page.lines().filter_map(|line| line.strip_prefix("logd_")?.rsplit_once(' '));
        samples.find(|(sample, _)| *sample == name).map_or(0, |(_, value)| value.parse().unwrap())
    }

    /// Waits for a metric that is counted when the peer may already know.
    pub(crate) fn counts(&self, name: &str, value: u64) {
        wait_until(&format!("{name} is {value}"), || self.metric(name) == value);
    }

    /// A line of /proc/PID/status in bytes.
    pub(crate) fn memory_bytes(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().unwrap() * 1024
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The processor time that it has used so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        ticks / 100.0
    }

    /// Sets a soft limit of the running process.
    pub(crate) fn limit(&self, resource: nix::sys::resource::Resource, soft: u64) {
        let (pid, resource) = (self.pid().as_raw(), resource as _);
        let mut limit = nix::libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        #[allow(unsafe_code, reason = "nix has these for this process only")]
        // SAFETY: both structures are valid for the call, and the one that is not needed is null.
        let result = unsafe {
            nix::libc::prlimit(pid, resource, std::ptr::null(), &raw mut limit);
            limit.rlim_cur = soft.min(limit.rlim_max);
            nix::libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut())
        };
        nix::errno::Errno::result(result).unwrap();
    }
}

/// Waits for the thing itself.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "in vain: {what}");
        pause();
    }
}

fn pause() {
    #[allow(clippy::disallowed_methods, reason = "the one place that polls, for all others")]
    std::thread::sleep(LOOK_EVERY);
}
