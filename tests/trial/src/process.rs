//! An agent as a process: its log on stderr, its state in /proc, and its end.

use crate::wait::{DEADLINE, comes_true, wait_until};
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

#[derive(Default)]
struct Said {
    /// The events so far. A line that is not JSON is kept as a string.
    events: Vec<Value>,
    is_over: bool,
}

/// A running agent, killed on drop.
pub struct Process {
    pid: Pid,
    child: Mutex<Child>,
    said: Arc<(Mutex<Said>, Condvar)>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Process {
    /// Starts the agent, which should log JSON.
    pub fn start(command: &mut Command) -> Process {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<(Mutex<Said>, Condvar)>::default();
        let stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn({
            let said = said.clone();
            move || follow(stderr, &said)
        });
        Process { pid: pid(&child), child: Mutex::new(child), said, reader: Mutex::new(Some(reader)) }
    }

    /// Starts the agent and waits until it is ready, which must succeed.
    pub fn start_ready(command: &mut Command) -> Process {
        let process = Process::start(command);
        process.wait_for("ready");
        process
    }

    /// Waits for this event; `None` if the agent ended first.
    pub fn event_or_end(&self, name: &str) -> Option<Value> {
        self.match_or_end(name, |event| event["event"] == name)
    }

    fn match_or_end(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Option<Value> {
        let (said, more) = &*self.said;
        let find = |said: &Said| said.events.iter().find(|event| matches(event)).cloned();
        let waiting = |said: &mut Said| !said.is_over && find(said).is_none();
        let (said, timeout) = more.wait_timeout_while(said.lock().unwrap(), DEADLINE, waiting).unwrap();
        let found = find(&said);
        assert!(found.is_some() || !timeout.timed_out(), "in vain: {what} in {:#?}", said.events);
        found
    }

    pub fn wait_for(&self, name: &str) -> Value {
        self.event_or_end(name).unwrap_or_else(|| self.ended_without(name))
    }

    fn ended_without(&self, what: &str) -> ! {
        panic!("it ended without {what}: {:#?}", self.last_events())
    }

    /// Waits until the agent is ready; false if it ended first.
    pub fn becomes_ready(&self) -> bool {
        self.event_or_end("ready").is_some()
    }

    /// Waits for something that the agent does not log, while it should be alive. A failure shows the agent's
    /// last events, which tell the reason.
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(comes_true(condition), "in vain: {what}: {:#?}", self.last_events());
    }

    /// Returns the events of this name that were logged so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let said = self.said.0.lock().unwrap();
        said.events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// True if it has logged this event.
    pub fn says(&self, name: &str) -> bool {
        !self.events(name).is_empty()
    }

    /// Returns everything logged so far.
    pub fn log(&self) -> String {
        self.said.0.lock().unwrap().events.iter().map(|event| format!("{event}\n")).collect()
    }

    /// Returns the last 20 events, enough to see what went wrong.
    pub fn last_events(&self) -> Vec<Value> {
        let events = &self.said.0.lock().unwrap().events;
        events[events.len().saturating_sub(20)..].to_vec()
    }

    /// Waits until the agent listens at this door (`admin`, `http`, `lines`) and returns its first address.
    pub fn address(&self, door: &str) -> SocketAddr {
        let listens = |event: &Value| event["event"] == "listening" && event["door"] == door;
        let event = self.match_or_end(door, listens);
        event.unwrap_or_else(|| self.ended_without(door))["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn signal(&self, what: Signal) {
        nix::sys::signal::kill(self.pid, what).unwrap();
    }

    /// Sends SIGSTOP and waits until every thread has stopped: the signal reaches them one after the other.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.pid());
        wait_until("all threads are stopped", || {
            // A thread may end while the list is read.
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat")));
                stat.is_ok_and(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
            })
        });
    }

    pub fn terminate(&self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.join()
    }

    pub fn kill9(&self) {
        self.child.lock().unwrap().kill().unwrap();
        self.join();
    }

    /// Waits until the process has ended and its log was read to the end.
    pub fn join(&self) -> ExitStatus {
        let mut status = None;
        wait_until("its end", || {
            status = self.child.lock().unwrap().try_wait().unwrap();
            status.is_some()
        });
        let reader = self.reader.lock().unwrap().take();
        if let Some(reader) = reader {
            reader.join().unwrap();
        }
        status.unwrap()
    }

    /// True if the process has ended or is about to.
    pub fn is_over(&self) -> bool {
        self.said.0.lock().unwrap().is_over
    }

    /// Returns a field of /proc/PID/status in bytes, such as `VmRSS`.
    pub fn memory_bytes(&self, what: &str) -> u64 {
        self.status("", what) * 1024
    }

    /// Returns a field of /proc/PID/status, or of a single thread's if `of` is `task/TID/`.
    pub fn status(&self, of: &str, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/{of}status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Returns the processor time used so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        ticks / 100.0
    }

    /// Sets a soft limit of the running process.
    pub fn limit(&self, resource: Resource, soft: u64) {
        set_limit(self.pid(), resource, soft);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn follow(stderr: ChildStderr, said: &(Mutex<Said>, Condvar)) {
    let (said, more) = said;
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
        said.lock().unwrap().events.push(event);
        more.notify_all();
    }
    said.lock().unwrap().is_over = true;
    more.notify_all();
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Sets a soft limit of the running child.
pub fn limit(child: &Child, resource: Resource, soft: u64) {
    set_limit(pid(child), resource, soft);
}

fn set_limit(pid: Pid, resource: Resource, soft: u64) {
    let (pid, resource) = (pid.as_raw(), resource as _);
    let mut limit = nix::libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[allow(unsafe_code, reason = "nix has these for this process only")]
    // SAFETY: both structures are valid for the call, and the unused one is null.
    let result = unsafe {
        nix::libc::prlimit(pid, resource, std::ptr::null(), &raw mut limit);
        limit.rlim_cur = soft.min(limit.rlim_max);
        nix::libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut())
    };
    nix::errno::Errno::result(result).unwrap();
}

pub fn signal(child: &Child, signal: Signal) {
    nix::sys::signal::kill(pid(child), signal).unwrap();
}

/// True if a process has ended, whether or not its parent has collected it.
pub fn is_gone(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

/// Returns the processes with this working directory.
pub fn processes_in(directory: &Path) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let is_there = |path: &Path| std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == directory);
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter(|entry| is_there(&entry.path())).filter_map(pid).map(Pid::from_raw).collect()
}

/// Describes a lock holder on this host as the agents do.
pub fn holder(pid: u32) -> String {
    format!("(process {pid} on {})", nix::sys::utsname::uname().unwrap().nodename().to_string_lossy())
}

/// Runs a command that must refuse to start; the test fails if it keeps running.
pub fn run_to_end(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let over = comes_true(|| child.try_wait().unwrap().is_some());
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    assert!(over, "it goes on: {output:?}");
    output
}

/// Writes the whole input to stdin and waits for the process to end.
pub fn with_input(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}
