//! The queue and its workers as separate processes, while the server and some of the workers are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use trial::wait_until;

const WORKERS: usize = 30;
const ITEMS: usize = 600;
const ITEMS_A_PUSH: usize = 40;
const KILLS: usize = 4;

fn nodecrew(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodecrew"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A process that is killed when a test fails.
struct Process(Child);

impl Process {
    fn start(mut command: Command) -> Process {
        Process(command.spawn().unwrap())
    }

    /// Sends SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn exit_code(&mut self) -> Option<Option<i32>> {
        self.0.try_wait().unwrap().map(|status| status.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server's directory and address. The port stays reserved while the server is down.
struct Queue {
    directory: TempDir,
    address: SocketAddr,
    _port: TcpSocket,
}

impl Queue {
    fn new() -> Queue {
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = port.local_addr().unwrap();
        Queue { directory: tempfile::tempdir().unwrap(), address, _port: port }
    }

    fn serve(&self) -> Process {
        let mut command = nodecrew(&["queued", "--line", "none", "--http"]);
        command.arg(self.address.to_string()).arg("--data").arg(self.directory.path().join("data"));
        Process::start(command)
    }

    fn queuectl(&self, arguments: &[&str]) -> Command {
        let mut command = nodecrew(&["queuectl"]);
        command.args(arguments).args(["-q", "q"]).env("QUEUE_URL", format!("http://{}", self.address));
        command
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let output = self
            .queuectl(arguments)
            .args(["--give-up", "60s"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }

    fn done_file(&self) -> PathBuf {
        self.directory.path().join("done")
    }

    /// Starts a worker. Its command appends the item to a file just before it ends.
    fn worker(&self) -> Process {
        let mut command = self.queuectl(&["run"]);
        command.args(["--", "sh", "-c", "echo \"$ITEM\" >> \"$0\""]).arg(self.done_file());
        Process::start(command)
    }

    /// The finished items, each as often as it was finished.
    fn done(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.done_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn kills_lose_no_item() {
    let queue = Queue::new();
    let mut server = queue.serve();
    let quickly = ["--lease", "1s", "--backoff", "0s", "--max-attempts", "0"];
    queue.ask(&[&["create"], &quickly[..]].concat());
    // Seal and unseal once. From now on the queue counts as drained only after the producer's own seal, not
    // whenever it is empty.
    queue.ask(&["seal"]);
    queue.ask(&["unseal"]);
    let mut workers: Vec<Process> = (0..WORKERS).map(|_| queue.worker()).collect();

    let items: Vec<String> = (0..ITEMS).map(|n| format!("item-{n}")).collect();
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            for some in items.chunks(ITEMS_A_PUSH) {
                let words: Vec<&str> = ["push"].into_iter().chain(some.iter().map(String::as_str)).collect();
                queue.ask(&words);
            }
        });
        for kill in 1..=KILLS {
            let enough = kill * ITEMS / (KILLS + 2);
            wait_until("some more are done", || queue.done().len() >= enough);
            server.kill();
            workers.pop().unwrap().kill();
            server = queue.serve();
            workers.pop().unwrap().kill();
        }
        producer.join().unwrap();
        assert!(
            workers.iter_mut().all(|worker| worker.exit_code().is_none()),
            "somebody ended before the seal"
        );
        queue.ask(&["seal"]);
    });

    let all: BTreeSet<String> = items.into_iter().collect();
    let mut codes = Vec::new();
    wait_until("all workers have ended", || {
        workers.retain_mut(|worker| match worker.exit_code() {
            None => true,
            Some(code) => {
                if codes.is_empty() {
                    assert_eq!(queue.done().into_iter().collect::<BTreeSet<_>>(), all, "one ended too early");
                }
                codes.push(code);
                false
            }
        });
        workers.is_empty()
    });
    assert_eq!(codes, [Some(0); WORKERS - 2 * KILLS]);
    let stats: String = String::from_utf8(queue.ask(&["stats", "--json"]).stdout).unwrap();
    for figure in ["\"verdict\":\"drained\"", "\"backlog\":0", "\"dead\":0", &format!("\"pushed\":{ITEMS}")] {
        assert!(stats.contains(figure), "{figure} is not in {stats}");
    }
}
