//! Checks that a test runs every command of the project's README. `COMMANDS` lists them, and says for each
//! if this test or another one runs it. A new or changed command that is not in the list is a failure.
//!
//! This test runs its commands word for word and in the README's order, in one directory, as a user without
//! root. The test itself needs root for a network namespace, since the README uses the default ports.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

const README: &str = include_str!("../../../README.md");

/// The test that runs a command.
enum By {
    /// Run by this test. The exit code must be this one, and the output must contain this text.
    Here(i32, &'static str),
    /// Run by this test as a process that serves until the end and exits with 0 on SIGTERM.
    Serving(Sign),
    /// Run by this test before each later command, in the same shell: the command sets a variable.
    Sets,
    /// Run by another test: its file, and the texts in it that run the command.
    There(&'static str, &'static [&'static str]),
}

/// The sign that a process serves.
enum Sign {
    /// The process accepts connections on this port.
    Listens(u16),
    /// The process prints commands to try; the test runs all of them.
    Tries,
}

use By::{Here, Serving, Sets, There};
use Sign::{Listens, Tries};

const PACKAGE: &str = "tests/containers/package/main.rs";

/// The commands in the order of the README, without their comments.
const COMMANDS: [(&str, By); 35] = [
    ("cargo run --release -p nodecrew -- up", Serving(Tries)),
    ("cargo test --workspace", There(".ci/run", &["\njust test\n"])),
    (r#"export PATH="$PWD/target/release:$PATH""#, Sets),
    (
        "for a in logd logsend logcd queued queuectl kvd kvctl keygen rng; do ln -sf nodecrew target/release/$a; done",
        Here(0, ""),
    ),
    ("echo hello | nc -N 127.0.0.1 6666", Here(0, "")),
    ("cat nodecrew-data/logs/node.log", Here(0, "hello\n")),
    ("seq 3 | logsend", Here(0, "")),
    ("logsend --spool spool -- sh -c 'echo from a program; exit 3'", Here(3, "")),
    ("logd read --file nodecrew-data/logs/node.log --grep program", Here(0, "from a program\n")),
    ("tar -tzf nodecrew-data/logs/all-logs-*.tar.gz", Here(0, "node.log\n")),
    ("logcd cat nodecrew-data/logs/all-logs-*.tar.gz node.log", Here(0, "hello\n")),
    ("curl -d work-item-0 localhost:8080/v1/queues/keygen/items", Here(0, r#""duplicate":false"#)),
    ("seq 99 | queuectl push -q keygen --seal", Here(0, "pushed 99 items, sealed\n")),
    (r#"queuectl run -q keygen -- sh -c 'echo "done: $ITEM"'"#, Here(0, "done: work-item-0\ndone: 1\n")),
    ("queuectl stats -q keygen", Here(0, "drained")),
    ("queuectl unseal -q keygen", Here(0, "")),
    ("queuectl configure -q keygen --max-attempts 1", Here(0, "")),
    ("queuectl push -q keygen --seal bad", Here(0, "pushed 1 item, sealed\n")),
    ("queuectl run -q keygen -- false", Here(65, "")),
    ("queuectl dead list -q keygen", Here(0, "bad")),
    ("logd --listen 127.0.0.1:7777 --admin none --file my_log &", Serving(Listens(7777))),
    ("echo hello | logsend --port 7777 && cat my_log", Here(0, "hello\n")),
    (
        "logcd --dir nodecrew-data/logs --out archives --once && tar -tzf archives/all-logs-*.tar.gz",
        Here(0, "node.log\n"),
    ),
    ("queued --http 127.0.0.1:8081 --line none --data memory &", Serving(Listens(8081))),
    ("queuectl --server http://127.0.0.1:8081 push -q work one two", Here(0, "pushed 2 items\n")),
    // kind does not run here: the cluster test runs the same images, through a registry.
    ("just images && just load kind", There("tests/containers/it/container.rs", &["images/prefix"])),
    ("kubectl apply -k k8s/", There("tests/cluster/it/crew.rs", &[r#"Crew::apply(rendered("crew"))"#])),
    (
        "kubectl apply -f k8s/examples/logd/logDaemonClient.yaml",
        There("tests/cluster/it/log_daemon.rs", &["logDaemonClient.yaml"]),
    ),
    (
        "kubectl rollout status deployment/client",
        There("tests/cluster/it/log_daemon.rs", &["logDaemonClient.yaml"]),
    ),
    (
        "kubectl exec -n nodecrew daemonset/logd -- cat /var/node_log",
        There("tests/cluster/it/lines.rs", &["/var/node_log"]),
    ),
    (
        "cargo run --release -p nodecrew -- logs -n default --since 1h",
        There("tests/cluster/it/all_nodes.rs", &[r#"["nodecrew", "logs"]"#]),
    ),
    ("just deb && sudo apt install ./target/deb/nodecrew_*.deb", There("packaging/test", &["packaging/deb"])),
    (
        "sudo systemctl enable --now logd.socket logcd queued",
        There(PACKAGE, &["systemctl enable --now logd.socket logcd queued"]),
    ),
    (
        "echo hello | logsend && sudo cat /var/log/logd/node.log",
        // The package test runs everything as root.
        There(PACKAGE, &["echo hello | logsend && cat /var/log/logd/node.log"]),
    ),
    (
        "cargo install --path agents/logd",
        There("packaging/test", &["cargo install --quiet --locked --path agents/logd "]),
    ),
];

#[test]
fn tutorial_needs_no_root() {
    let (_, tutorial) = README.split_once("\n## Tutorial\n").unwrap();
    let tutorial = commands_of(tutorial.split("\n## ").next().unwrap());
    assert!(tutorial.len() > 20, "{tutorial:?}");
    for command in tutorial {
        let (_, by) = COMMANDS.iter().find(|(known, _)| *known == command).expect(command);
        assert!(!matches!(by, There(..)) && !command.contains("sudo"), "{command}");
    }
}

/// Returns the commands of a text, without their comments.
fn commands_of(text: &'static str) -> Vec<&'static str> {
    let command = |line: &'static str| Some(line.strip_prefix("    ")?.split("  #").next()?.trim_end());
    text.lines().filter_map(command).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_readme_command_is_tested() {
    let written = commands_of(README);
    let known: Vec<_> = COMMANDS.iter().map(|(command, _)| *command).collect();
    assert_eq!(written, known, "each command needs a line in COMMANDS: who runs it, and what is to be seen");
    for (command, by) in &COMMANDS {
        let There(file, words) = by else { continue };
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let missing: Vec<_> = words.iter().filter(|words| !text.contains(**words)).collect();
        assert!(missing.is_empty() && !words.is_empty(), "{file} does not run {command}: no {missing:?}");
    }
}

mod as_root {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::signal::{Signal, kill, killpg};
    use nix::unistd::Pid;
    use std::fs::{self, File};
    use std::net::TcpStream;
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use tempfile::TempDir;
    use trial::wait_until;

    const NODECREW: &str = env!("CARGO_BIN_EXE_nodecrew");

    /// The id of Debian's user `nobody` and group `nogroup`.
    const NOBODY: u32 = 65534;

    /// Moves this thread, and the processes that it starts, into a new network namespace.
    fn move_out() {
        unshare(CloneFlags::CLONE_NEWNET).expect("are you root?");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "ip failed; are you root?");
    }

    /// A process group that is killed on drop, if it still runs.
    struct Group(Child);

    impl Drop for Group {
        fn drop(&mut self) {
            let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }

    /// A user without root, at a shell in the directory in which cargo has built nodecrew.
    struct Person {
        directory: TempDir,
        settings: Vec<&'static str>,
        started: Vec<(&'static str, Child)>,
    }

    impl Person {
        fn new() -> Person {
            let directory = tempfile::tempdir().unwrap();
            let release = directory.path().join("target/release");
            fs::create_dir_all(&release).unwrap();
            fs::copy(NODECREW, release.join("nodecrew")).unwrap();
            for path in [directory.path(), &directory.path().join("target"), &release] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            Person { directory, settings: Vec::new(), started: Vec::new() }
        }

        fn shell(&self, script: &str) -> Command {
            let settings: String = self.settings.iter().map(|setting| format!("{setting}; ")).collect();
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{settings}{script}")]).current_dir(self.directory.path());
            shell.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", self.directory.path());
            // Use a process group, so that all commands of a pipe that hangs are killed.
            shell.stdin(Stdio::null()).uid(NOBODY).gid(NOBODY).process_group(0);
            shell
        }

        /// Runs a command. Returns its exit code and its stdout.
        fn run(&self, command: &str) -> (Option<i32>, String) {
            let output = tempfile::NamedTempFile::new().unwrap();
            let child = self.shell(command).stdout(output.reopen().unwrap()).spawn();
            let mut running = Group(child.unwrap());
            let mut status = None;
            wait_until(command, || {
                status = running.0.try_wait().unwrap();
                status.is_some()
            });
            (status.unwrap().code(), fs::read_to_string(output.path()).unwrap())
        }

        fn start(&mut self, command: &'static str, sign: &Sign) {
            // cargo has already built the program.
            let program = command.replace("cargo run --release -p nodecrew -- ", "target/release/nodecrew ");
            let said = tempfile::NamedTempFile::new().unwrap();
            let mut shell = self.shell(&format!("exec {}", program.trim_end_matches('&')));
            let child = shell.stdout(File::create(said.path()).unwrap()).spawn().unwrap();
            self.started.push((command, child));
            match sign {
                Listens(port) => {
                    wait_until(command, || TcpStream::connect(("127.0.0.1", *port)).is_ok());
                }
                Tries => {
                    wait_until("what to try", || fs::read_to_string(said.path()).unwrap().contains("Ctrl-C"));
                    self.try_what_it_says(&fs::read_to_string(said.path()).unwrap());
                }
            }
        }

        fn try_what_it_says(&self, said: &str) {
            let tries: Vec<_> = said.lines().filter_map(|line| line.rsplit_once("  ")).collect();
            let tries: Vec<_> = tries.iter().map(|(_, command)| command.trim()).collect();
            let (pages, commands): (Vec<_>, Vec<_>) =
                tries.into_iter().partition(|words| words.starts_with("http://"));
            // The last command asks three addresses.
            let shown = ["hello\n", "hello\n", r#""duplicate":false"#, "one", "ready\nready\n# HELP "];
            assert_eq!((pages.len(), commands.len()), (3, shown.len()), "{said}");
            for (command, shown) in commands.into_iter().zip(shown) {
                // Repeat it: a line reaches the archive a moment after the log.
                wait_until(command, || {
                    let (code, output) = self.run(command);
                    code == Some(0) && output.contains(shown)
                });
            }
            for page in pages {
                let (code, output) = self.run(&format!("curl -s {page}"));
                assert!(code == Some(0) && output.starts_with("<!doctype html>"), "{page}: {output}");
            }
        }

        fn stop_all(mut self) {
            for (command, mut child) in self.started.drain(..) {
                kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
                assert_eq!(child.wait().unwrap().code(), Some(0), "{command} ends well");
            }
        }
    }

    impl Drop for Person {
        fn drop(&mut self) {
            for (_, child) in &mut self.started {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    #[test]
    #[ignore = "needs root, nc of OpenBSD, curl, tar and ip: just test-root"]
    fn readme_runs_from_top_to_bottom_without_root() {
        move_out();
        let mut person = Person::new();
        for (command, by) in &COMMANDS {
            match by {
                There(..) => {}
                Sets => person.settings.push(command),
                Serving(sign) => person.start(command, sign),
                Here(code, words) => {
                    let (ended, output) = person.run(command);
                    assert!(ended == Some(*code) && output.contains(words), "{command}: {ended:?} {output}");
                }
            }
        }
        person.stop_all();
    }
}
