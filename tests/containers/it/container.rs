//! A container of one of our images with the minimum of rights that it is promised to work with; removed on
//! drop.

use crate::network::Network;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Deadline that is long enough for a busy machine; no test result depends on its length.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn podman(words: &[&str]) -> Output {
    Command::new("podman").args(words).output().unwrap()
}

/// Runs a podman command that must succeed, and returns its stdout.
#[track_caller]
pub fn podman_says(words: &[&str]) -> String {
    let output = podman(words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "podman {}: {stderr}", words.join(" "));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

pub fn image(name: &str) -> String {
    let prefix = std::env::var("IMAGE_PREFIX")
        .unwrap_or_else(|_| include_str!("../../../images/prefix").trim().to_owned());
    format!("{prefix}/{name}:latest")
}

/// Confinement of every container: only volumes are writable, and only what any user may do is allowed.
const CONFINED: [&str; 5] = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--pull=never",
];

/// Runs a container to its end, without a network.
pub fn run(name: &str, options: &[&str], arguments: &[&str]) -> Output {
    let image = image(name);
    let words = [&["run", "--rm", "--network=none"], &CONFINED[..], options, &[&image], arguments].concat();
    podman(&words)
}

pub struct Container {
    id: String,
    /// The container's address; `None` for a program that ended at once.
    address: Option<IpAddr>,
}

impl Container {
    /// Starts a container. `options` are podman's, `arguments` those of the image's program.
    #[track_caller]
    pub fn start(network: &Network, name: &str, options: &[&str], arguments: &[&str]) -> Container {
        let (image, network) = (image(name), network.option());
        let words = [&["run", "--detach", &network], &CONFINED[..], options, &[&image], arguments].concat();
        let id = podman_says(&words);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = podman_says(&["inspect", "--format", format, &id]).parse().ok();
        Container { id, address }
    }

    #[track_caller]
    pub fn address(&self) -> IpAddr {
        self.address.unwrap_or_else(|| panic!("it ended: {}", self.logs()))
    }

    #[track_caller]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(), port)
    }

    pub fn exec(&self, words: &[&str]) -> Output {
        podman(&[&["exec", &self.id], words].concat())
    }

    /// Runs a program of the image that must succeed, and returns its stdout.
    #[track_caller]
    pub fn exec_says(&self, words: &[&str]) -> String {
        podman_says(&[&["exec", &self.id], words].concat())
    }

    pub fn logs(&self) -> String {
        logs(&self.id)
    }

    /// Waits until the port is open, then returns the status and body of `GET path`.
    #[track_caller]
    pub fn get(&self, port: u16, path: &str) -> (u16, String) {
        let mut http = self.until("an open port", || trial::Http::connect(self.at(port)).ok());
        let answer = http.call("GET", path, "", b"").unwrap();
        (answer.status, answer.text().to_owned())
    }

    /// Waits until `look` finds something; a failure shows the container's log.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "{what} did not come; the container says:\n{}", self.logs());
            std::thread::yield_now();
        }
    }

    #[track_caller]
    pub fn ready(&self, port: u16) {
        self.until("readiness", || (self.get(port, "/ready").0 == 200).then_some(()));
    }

    pub fn signal(&self, signal: &str) {
        podman_says(&["kill", "--signal", signal, &self.id]);
    }

    /// Waits until the container has ended by itself, and returns the exit code.
    pub fn end(&self) -> i32 {
        podman_says(&["wait", &self.id]).parse().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        podman(&["rm", "--force", "--time=0", "--volumes", &self.id]);
    }
}

fn logs(id: &str) -> String {
    let output = podman(&["logs", id]);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Sends lines to a logd, half-closes and waits for the receipt.
pub fn send(address: SocketAddr, lines: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(lines.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "an orderly close is the receipt");
}

/// Returns the option that mounts a directory of this host into the container.
pub fn volume(directory: &Path, inside: &str) -> String {
    format!("--volume={}:{inside}", directory.display())
}
