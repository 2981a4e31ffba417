//! The daemon under test as a child process, in a directory of its own.

use crate::http::{Answer, Http};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
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
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > DEADLINE {
                child.kill().unwrap();
                panic!("it was not refused: {:?}", child.wait_with_output().unwrap());
            }
            #[allow(clippy::disallowed_methods, reason = "as below")]
            std::thread::sleep(LOOK_EVERY);
        }
        child.wait_with_output().unwrap()
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
    pub(crate) fn start_with(self, command: Command) -> Queued {
        let running = Running::start(command);
        Queued { setup: self, running }
    }
}

struct Running {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
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
        let mut running = Running { child, log, reader: Some(reader) };
        wait_until("the daemon is ready", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?} at the start: {:#?}", running.log.lock().unwrap());
            running.event("ready").is_some()
        });
        running
    }

    fn event(&self, message: &str) -> Option<Value> {
        self.log.lock().unwrap().iter().find(|event| event["message"] == message).cloned()
    }

    fn address(&self, message: &str) -> SocketAddr {
        self.event(message).unwrap()["address"].as_str().unwrap().parse().unwrap()
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
pub(crate) struct Queued {
    pub(crate) setup: Setup,
    running: Running,
}

impl Queued {
    pub(crate) fn start(arguments: &[&str]) -> Queued {
        Setup::new(arguments).start()
    }

    /// The same once more, on the same files.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.child.try_wait().unwrap().is_some(), "still running");
        self.running = Running::start(self.setup.command());
    }

    pub(crate) fn http_address(&self) -> SocketAddr {
        self.running.address("serving HTTP")
    }

    pub(crate) fn line_address(&self) -> SocketAddr {
        self.running.address("serving lines")
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

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.running.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// SIGSTOP, and that no thread runs any more: the signal reaches them one after the other.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.pid());
        wait_until("all threads are stopped", || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                stat.rsplit_once(") ").unwrap().1.starts_with('T')
            })
        });
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.running.join()
    }

    pub(crate) fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.running.join();
    }

    pub(crate) fn event(&self, message: &str) -> Option<Value> {
        self.running.event(message)
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        self.running.log.lock().unwrap().iter().map(|event| format!("{event}\n")).collect()
    }

    /// A metric's value by name and labels as on the page, without the agent's prefix; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").expect(200);
        let mut samples =
            page.text().lines().filter_map(|line| line.strip_prefix("queued_")?.rsplit_once(' '));
        samples.find(|(sample, _)| *sample == name).map_or(0.0, |(_, value)| value.parse().unwrap())
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

    /// What the process has taken from the system, now and at most, in bytes.
    pub(crate) fn resident(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        (bytes("VmRSS:"), bytes("VmHWM:"))
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
        #[allow(clippy::disallowed_methods, reason = "the one place that polls, for all others")]
        std::thread::sleep(LOOK_EVERY);
    }
}
