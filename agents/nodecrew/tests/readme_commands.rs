//! Every command of the project's README is run by a test: here, word for word as it is written there, where a
//! host is enough; else by the test that is named. A command that is new or changed has no place and is told.
//!
//! Here means as root, in a network and over directories that are this test's own, since the README uses
//! well-known ports and /var/log.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

const README: &str = include_str!("../../../README.md");

/// Who runs a command.
enum By {
    /// This test: with this exit code, and an output that holds this.
    Here(i32, &'static str),
    /// This test, until its agent is started anew or the section ends, well: SIGTERM is answered with 0.
    Serving(Sign),
    /// Another one: a file, and in it what runs the command.
    There(&'static str, &'static [&'static str]),
}

/// How to tell that what goes on is at work.
enum Sign {
    /// `/ready` is answered with 200 on this port.
    Ready(u16),
    /// A file of the section's directory holds this.
    Holds(&'static str, &'static str),
    /// It prints what to try, and all of that works.
    Tries,
}

use By::{Here, Serving, There};
use Sign::{Holds, Ready, Tries};

const PACKAGE: &str = "tests/containers/package/main.rs";

/// In the order of the README, without its remarks.
const COMMANDS: [(&str, By); 24] = [
    ("cargo run --release -p nodecrew -- up", Serving(Tries)),
    ("cargo test --workspace", There(".ci/run", &["\njust test\n"])),
    // What the cluster has are the same images, through a registry: there is no kind here.
    ("just images && just load kind", There("tests/containers/it/container.rs", &["localhost/nodecrew"])),
    ("kubectl apply -k k8s/", There("tests/cluster/it/crew.rs", &[r#"Crew::apply(rendered("crew"))"#])),
    (
        "kubectl exec -n nodecrew daemonset/logd -- cat /var/node_log",
        There("tests/cluster/it/lines.rs", &["/var/node_log"]),
    ),
    ("just deb && sudo apt install ./target/deb/nodecrew_*.deb", There("packaging/test", &["packaging/deb"])),
    (
        "sudo systemctl enable --now logd.socket logcd queued",
        There(PACKAGE, &["systemctl enable --now logd.socket logcd queued"]),
    ),
    (
        "echo hello | logsend && cat /var/log/logd/node.log",
        There(PACKAGE, &["echo hello | logsend && cat /var/log/logd/node.log"]),
    ),
    (
        "cargo install --path agents/logd",
        There("packaging/test", &["cargo install --quiet --locked --path agents/logd "]),
    ),
    ("logd &", Serving(Ready(7667))),
    ("echo hello | nc -N 127.0.0.1 6666 && cat node_log", Here(0, "hello\n")),
    ("logd --listen '[::]:6666' --file node_log", Serving(Ready(7667))),
    ("echo hello | nc -N 127.0.0.1 6666", Here(0, "")),
    ("cat node_log", Here(0, "hello\n")),
    ("my-program 2>&1 | logsend --host 10.0.0.5", Here(0, "")),
    ("logsend --spool /var/spool/logsend -- my-program", Here(MY_PROGRAM_CODE, "")),
    ("logsend --greet 15s", Serving(Holds("node_log", " - Greetings from "))),
    ("logcd --dir /var/log", Serving(Ready(7668))),
    ("logcd --dir /var/log --once", Here(0, "")),
    ("tar -tzf /var/log/all-logs-*.tar.gz", Here(0, "var/log/my-program.log\n")),
    ("queued --data queued-data", Serving(Ready(8080))),
    ("curl -d work-item-0 localhost:8080/v1/queues/keygen/items", Here(0, r#""duplicate":false"#)),
    ("seq 99 | queuectl push -q keygen --seal", Here(0, "pushed 99 items, sealed\n")),
    (r#"queuectl run -q keygen -- sh -c 'echo "done: $ITEM"'"#, Here(0, "done: work-item-0\ndone: 1\n")),
];

/// What `my-program` of the README ends with here.
const MY_PROGRAM_CODE: i32 = 3;

/// The commands under each heading of the second level, the first ones under none.
fn sections() -> Vec<Vec<&'static str>> {
    let command = |line: &'static str| Some(line.strip_prefix("    ")?.split("  #").next()?.trim_end());
    README.split("\n## ").map(|section| section.lines().filter_map(command).collect()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_command_of_the_readme_is_run_by_a_test() {
    let written: Vec<_> = sections().concat();
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
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use tempfile::TempDir;
    use trial::wait_until;

    const NODECREW: &str = env!("CARGO_BIN_EXE_nodecrew");

    fn must(program: &str, words: &[&str]) {
        let status = Command::new(program).args(words).status();
        assert!(status.is_ok_and(|status| status.success()), "{program} {words:?} failed; are you root?");
    }

    /// This thread, and what it starts, on a host of its own as far as ports and logs are concerned.
    fn move_out() {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("are you root?");
        must("mount", &["--make-rprivate", "/"]);
        for directory in ["/var/log", "/var/spool"] {
            must("mount", &["-t", "tmpfs", "tmpfs", directory]);
        }
        must("ip", &["link", "set", "lo", "up"]);
        // Where the README's logsend finds a logd.
        must("ip", &["address", "add", "10.0.0.5/32", "dev", "lo"]);
        fs::write("/var/log/my-program.log", "a line\n").unwrap();
    }

    /// The programs under the names that an installation gives them.
    fn programs() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for agent in ["logd", "logsend", "logcd", "queued", "queuectl", "nodecrew"] {
            symlink(NODECREW, directory.path().join(agent)).unwrap();
        }
        let program = directory.path().join("my-program");
        fs::write(&program, format!("#!/bin/sh\necho from my-program\nexit {MY_PROGRAM_CODE}\n")).unwrap();
        fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        directory
    }

    /// Killed with all it started, if it is still there.
    struct Group(Child);

    impl Drop for Group {
        fn drop(&mut self) {
            let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }

    /// Someone at a shell, in a directory of their own.
    struct Person<'a> {
        programs: &'a Path,
        directory: TempDir,
        started: Vec<(&'static str, Child)>,
    }

    impl Person<'_> {
        fn shell(&self, script: &str) -> Command {
            let path = std::env::var("PATH").unwrap();
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).current_dir(self.directory.path()).stdin(Stdio::null());
            shell.env_clear().env("PATH", format!("{}:{path}", self.programs.display())).env("HOME", "/");
            shell
        }

        /// Exit code and output.
        fn run(&self, command: &str) -> (Option<i32>, String) {
            let output = self.directory.path().join("output");
            let mut shell = self.shell(command);
            // In a group of its own, so that a pipe that hangs goes as a whole.
            let child = shell.stdout(File::create(&output).unwrap()).process_group(0).spawn();
            let mut running = Group(child.unwrap());
            let mut status = None;
            wait_until(command, || {
                status = running.0.try_wait().unwrap();
                status.is_some()
            });
            (status.unwrap().code(), fs::read_to_string(output).unwrap())
        }

        fn start(&mut self, command: &'static str, sign: &Sign) {
            let agent = command.split(' ').next().unwrap();
            self.stop(|started| started == agent);
            // cargo has built it already.
            let program = command.replace("cargo run --release -p nodecrew -- ", "nodecrew ");
            let said = self.directory.path().join(format!("{agent}.out"));
            let mut shell = self.shell(&format!("exec {}", program.trim_end_matches('&')));
            let child = shell.stdout(File::create(&said).unwrap()).spawn().unwrap();
            self.started.push((agent, child));
            match sign {
                Ready(port) => wait_until(&format!("{command} is ready"), || is_ready(*port)),
                Holds(file, words) => wait_until(&format!("{words} of {command}"), || {
                    let text = fs::read_to_string(self.directory.path().join(file)).unwrap_or_default();
                    text.contains(words)
                }),
                Tries => {
                    wait_until("what to try", || fs::read_to_string(&said).unwrap().contains("Ctrl-C"));
                    self.try_what_it_says(&fs::read_to_string(&said).unwrap());
                }
            }
        }

        fn try_what_it_says(&self, said: &str) {
            let tries: Vec<_> = said.lines().filter_map(|line| line.rsplit_once("  ")).collect();
            let tries: Vec<_> = tries.iter().map(|(_, command)| command.trim()).collect();
            let (pages, commands): (Vec<_>, Vec<_>) =
                tries.into_iter().partition(|words| words.starts_with("http://"));
            // The last one asks three of them.
            let shown = ["hello\n", "hello\n", r#""duplicate":false"#, "one", "ready\nready\n# HELP "];
            assert_eq!((pages.len(), commands.len()), (3, shown.len()), "{said}");
            for (command, shown) in commands.into_iter().zip(shown) {
                // The archive has the line a moment later.
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

        fn stop(&mut self, which: impl Fn(&str) -> bool) {
            let (stopped, going): (Vec<_>, Vec<_>) =
                self.started.drain(..).partition(|(agent, _)| which(agent));
            self.started = going;
            for (agent, mut child) in stopped {
                kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
                assert_eq!(child.wait().unwrap().code(), Some(0), "{agent} ends well");
            }
        }
    }

    impl Drop for Person<'_> {
        fn drop(&mut self) {
            for (_, child) in &mut self.started {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    fn is_ready(port: u16) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
    }

    #[test]
    #[ignore = "needs root, nc of OpenBSD, curl, tar and ip: just test-root"]
    fn the_first_five_minutes_are_as_the_readme_says() {
        move_out();
        let programs = programs();
        let mut known = COMMANDS.iter();
        for section in sections() {
            let directory = tempfile::tempdir().unwrap();
            let mut person = Person { programs: programs.path(), directory, started: Vec::new() };
            for command in section {
                let (expected, by) = known.next().expect(command);
                assert_eq!(command, *expected, "see COMMANDS");
                match by {
                    There(..) => {}
                    Serving(sign) => person.start(command, sign),
                    Here(code, words) => {
                        // What takes turns with a daemon of the same name.
                        let agent = command.split(' ').next().unwrap();
                        person.stop(|started| started == agent);
                        let (ended, output) = person.run(command);
                        assert!(
                            ended == Some(*code) && output.contains(words),
                            "{command}: {ended:?} {output}"
                        );
                    }
                }
            }
            person.stop(|_| true);
        }
    }
}
