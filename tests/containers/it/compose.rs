//! images/compose.yaml and the `podman run` line of images/README.md, word for word, as on a machine of their
//! own. They run in a network namespace, since they publish well-known ports.

use crate::container::{podman, podman_says};
use std::process::{Child, Command, Output, Stdio};

const README: &str = include_str!("../../../images/README.md");

/// A network namespace with nothing but loopback, removed on drop.
struct Machine(Child);

impl Machine {
    fn new() -> Machine {
        let script = "ip link set lo up && echo up && exec sleep infinity";
        let mut child =
            Command::new("unshare").args(["-n", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert_eq!(line, "up\n", "are you root?");
        Machine(child)
    }

    /// Runs a script in the namespace, from the repository's root.
    fn run(&self, script: &str) -> Output {
        let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let target = self.0.id().to_string();
        let words = ["-t", &target, "-n", "sh", "-ec", script];
        Command::new("nsenter").args(words).current_dir(repository).output().unwrap()
    }

    #[track_caller]
    fn says(&self, script: &str) -> String {
        let output = self.run(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn ready(&self, port: u16) {
        let script = format!("curl -fsS localhost:{port}/ready");
        trial::wait_until(&script, || self.run(&script).status.success());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the README's command that starts with `beginning`, without its remark.
#[track_caller]
fn command(beginning: &str) -> String {
    let found = README.split_once(&format!("    {beginning}"));
    let (_, rest) = found.unwrap_or_else(|| panic!("images/README.md has no `{beginning}`"));
    let joined = rest.replace("\\\n", "");
    let words = joined.lines().next().unwrap().split("  #").next().unwrap().trim_end();
    format!("{beginning}{words}")
}

/// Runs `podman-compose up`, and `down` on drop.
struct Composed<'a> {
    machine: &'a Machine,
    project: String,
}

impl Composed<'_> {
    fn words(&self, words: &str) -> String {
        words.replace("podman-compose ", &format!("podman-compose -p {} ", self.project))
    }
}

impl Drop for Composed<'_> {
    fn drop(&mut self) {
        self.machine.run(&self.words("podman-compose -f images/compose.yaml down --volumes"));
    }
}

#[test]
fn compose_file_brings_up_the_crew() {
    let machine = Machine::new();
    let crew = Composed { machine: &machine, project: format!("nodecrew{}", std::process::id()) };
    machine.says(&crew.words(&command("podman-compose ")));
    for port in [7667, 7668, 7669] {
        machine.ready(port);
    }
    machine.says("echo hello | nc -N 127.0.0.1 6666");
    let logd = format!("{}_logd_1", crew.project);
    assert_eq!(podman_says(&["exec", &logd, "cat", "/var/node_log"]), "hello");
    machine.says("curl -fsS -d item localhost:8080/v1/queues/q/items");
    let logcd = format!("{}_logcd_1", crew.project);
    trial::wait_until("the line in an archive", || {
        let found = podman(&["exec", &logcd, "find", "/archives", "-name", "*.gz"]).stdout;
        let path = String::from_utf8(found).unwrap();
        !path.is_empty()
            && podman(&["exec", &logcd, "logcd", "cat", path.trim(), "node_log"]).stdout == b"hello\n"
    });
}

#[test]
fn run_line_starts_a_daemon_that_takes_lines() {
    let machine = Machine::new();
    let (name, volume) = (format!("logd-{}", std::process::id()), format!("lines-{}", std::process::id()));
    let run = command("podman run ").replace("--name logd", &format!("--name {name}"));
    machine.says(&run.replace("-v lines:", &format!("-v {volume}:")));
    trial::wait_until("a line taken", || machine.run("echo hello | nc -N 127.0.0.1 6666").status.success());
    let said = podman_says(&["exec", &name, "tail", "-n", "1", "/var/node_log"]);
    podman(&["rm", "--force", "--time=0", &name]);
    podman(&["volume", "rm", "--force", &volume]);
    assert_eq!(said, "hello");
}
