//! A Debian with systemd as process 1, removed on drop.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Deadline that is long enough for a busy machine; no test result depends on its length.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Host {
    id: String,
}

fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `just test-package`"))
}

pub fn package() -> String {
    from_environment("PACKAGE")
}

pub fn next_package() -> String {
    from_environment("NEXT_PACKAGE")
}

fn podman(words: &[&str]) -> Output {
    Command::new("podman").args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

impl Host {
    pub fn new() -> Host {
        let image = from_environment("HOST_IMAGE");
        let started = podman(&[
            "run",
            "--detach",
            "--systemd=always",
            "--privileged",
            "--network=none",
            &image,
            "/sbin/init",
        ]);
        assert!(started.status.success(), "{}", text(&started.stderr));
        let host = Host { id: text(&started.stdout) };
        host.until("systemctl is-system-running");
        host
    }

    pub fn with_package() -> Host {
        let host = Host::new();
        host.install(&package());
        // The host shares this machine's disk, which may be nearly full without harm to the promises.
        host.replace_line("/etc/nodecrew/logcd.toml", "min-free = \"16%\".*", "min-free = \"1%\"");
        host
    }

    /// Replaces a line of a file, which must be there.
    #[track_caller]
    fn replace_line(&self, file: &str, old: &str, new: &str) {
        self.says(&format!("grep -qx '{old}' {file} && sed -i 's/^{old}$/{new}/' {file}"));
    }

    pub fn install(&self, package: &str) {
        self.bring(package, "/tmp/nodecrew.deb");
        self.says("DEBIAN_FRONTEND=noninteractive dpkg --install /tmp/nodecrew.deb && rm /tmp/nodecrew.deb");
    }

    /// Copies a file of this machine to a path of the host.
    #[track_caller]
    pub fn bring(&self, file: &str, to: &str) {
        let copied = podman(&["cp", file, &format!("{}:{to}", self.id)]);
        assert!(copied.status.success(), "{}", text(&copied.stderr));
    }

    /// Copies a file of the host to this machine.
    #[track_caller]
    pub fn take(&self, file: &str, to: &str) {
        let copied = podman(&["cp", &format!("{}:{file}", self.id), to]);
        assert!(copied.status.success(), "{}", text(&copied.stderr));
    }

    fn run(&self, script: &str) -> Output {
        podman(&["exec", &self.id, "bash", "-c", script])
    }

    /// Runs a script that must succeed, and returns its stdout.
    #[track_caller]
    pub fn says(&self, script: &str) -> String {
        let output = self.run(script);
        let (said, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}: {said}\n{stderr}\n{}", self.journal());
        said
    }

    /// Runs a script that may fail, and returns its output.
    pub fn answer(&self, script: &str) -> String {
        let output = self.run(script);
        text(&[output.stdout, output.stderr].concat())
    }

    /// Runs a script again and again until it succeeds.
    #[track_caller]
    pub fn until(&self, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.run(script).status.success() {
            assert!(Instant::now() < deadline, "{script} never succeeds\n{}", self.journal());
            std::thread::yield_now();
        }
    }

    fn journal(&self) -> String {
        text(&self.run("journalctl --no-pager -n 12").stdout)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        podman(&["rm", "--force", "--time=0", "--volumes", &self.id]);
    }
}
