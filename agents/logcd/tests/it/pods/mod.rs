//! Tests of container logs, which are written and rotated as kubelet does it.

mod directory;
mod following;
mod hostile;
mod losses;
mod reading;

use crate::support::daemon::Daemon;
use std::path::PathBuf;
use std::process::Command;
use trial::kubelet::Kubelet;

/// A directory for logs and one for archives.
struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let root = tempfile::Builder::new().prefix("logcd-pods-").tempdir().unwrap();
        std::fs::create_dir(root.path().join("pods")).unwrap();
        Node { root }
    }

    fn with_kubelet() -> (Node, Kubelet) {
        let node = Node::new();
        let kubelet = Kubelet::new(&node.pods());
        (node, kubelet)
    }

    fn pods(&self) -> PathBuf {
        self.root.path().join("pods")
    }

    fn out(&self) -> PathBuf {
        self.root.path().join("out")
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
        command.args(["--dir=none", "--admin=127.0.0.1:0", "--utc", "--pods"]).arg(self.pods());
        command.arg("--pods-out").arg(self.out()).args(flags).env("LOGCD_MIN_FREE", "1");
        command
    }

    fn start(&self, flags: &[&str]) -> Daemon {
        let daemon = Daemon::run(self.command(flags));
        daemon.wait_until_ready();
        daemon
    }
}

/// Archives each line as soon as it is due, so that tests do not wait.
const QUICK: &[&str] = &["--publish-within=20ms"];
