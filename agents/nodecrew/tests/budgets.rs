//! The idle cost of the agents, and their start-up time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use trial::Process;

const MIB: u64 = 1 << 20;
/// The time for which an idle agent is watched. Its wake-ups in that time are counted, not timed.
const WATCHED: Duration = Duration::from_secs(4);

struct Agent {
    name: &'static str,
    process: Process,
    _directory: tempfile::TempDir,
}

fn command(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodecrew"));
    command.arg(name).env_clear().current_dir(directory).stdin(Stdio::null());
    command
}

impl Agent {
    /// Starts the agent and returns when it is ready.
    fn start(name: &'static str) -> Agent {
        let directory = tempfile::tempdir().unwrap();
        let flags: &[&str] = match name {
            "logd" => &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
            "logcd" => &["--dir", ".", "--admin", "127.0.0.1:0"],
            _ => &["--http", "127.0.0.1:0", "--line", "127.0.0.1:0"],
        };
        std::fs::write(directory.path().join("some.log"), "a line\n").unwrap();
        let mut command = command(name, directory.path());
        let process = Process::start_ready(command.args(flags).args(["--log-format", "json"]));
        Agent { name, process, _directory: directory }
    }

    /// Counts the voluntary context switches of all threads, of which there is one for each wake-up.
    fn wakes(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap();
        let tasks = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
        tasks.map(|task| self.process.status(&format!("task/{task}/"), "voluntary_ctxt_switches")).sum()
    }
}

#[test]
fn idle_agent_is_small_and_sleeps() {
    let agents = ["logd", "logcd", "queued"].map(Agent::start);
    // The first watch lets the work of the start finish; wake-ups are counted in the second.
    let (_never, pause) = mpsc::channel::<()>();
    let watch = |time| {
        let before = agents.each_ref().map(Agent::wakes);
        let _ = pause.recv_timeout(time);
        let after = agents.each_ref().map(Agent::wakes);
        [0, 1, 2].map(|agent| after[agent].saturating_sub(before[agent]))
    };
    watch(Duration::from_secs(2));
    let mut wakes = watch(WATCHED);
    for _ in 0..5 {
        // The work of the start takes longer on a busy machine. An agent that polls wakes up in each watch.
        if wakes.iter().all(|wakes| *wakes < WATCHED.as_secs()) {
            break;
        }
        wakes = watch(WATCHED);
    }
    for (agent, wakes) in agents.iter().zip(wakes) {
        let (memory, threads) = (agent.process.memory_bytes("RssAnon"), agent.process.status("", "Threads"));
        println!(
            "{}: {memory} bytes of its own, {threads} threads, woken {wakes} times in {} s",
            agent.name,
            WATCHED.as_secs()
        );
        assert!(memory < 6 * MIB, "{} has {memory} bytes", agent.name);
        assert!(threads <= 5, "{} has {threads} threads", agent.name);
        assert!(wakes < WATCHED.as_secs(), "{} polls: woken {wakes} times in {WATCHED:?}", agent.name);
    }
}

#[test]
fn agent_starts_about_as_fast_as_true() {
    let directory = tempfile::tempdir().unwrap();
    // Take the quickest of many: other processes slow some of them down, never all.
    let quickest = |make: &dyn Fn() -> Command| {
        let run = || {
            let mut command = make();
            command.stdout(Stdio::null());
            let began = Instant::now();
            assert!(command.status().unwrap().success());
            began.elapsed()
        };
        (0..30).map(|_| run()).min().unwrap()
    };
    let nothing = quickest(&|| Command::new("true"));
    for name in ["logd", "logcd", "queued"] {
        let agent = quickest(&|| {
            let mut command = command(name, directory.path());
            command.arg("--version");
            command
        });
        let ratio = agent.as_secs_f64() / nothing.as_secs_f64();
        println!("{name}: {ratio:.1} times as long as true ({nothing:?})");
        assert!(ratio < 30.0, "{name} takes {agent:?} to say its version, `true` {nothing:?}");
    }
}
