//! Pushes and cycles per second beside Redis and beanstalkd, in one run, with figures of restart and memory.
//!
//! `cargo run --release -p queued --example bench -- [--seconds N] [--items N]`. Peers that are not installed are left
//! out. One thread holds all connections of the client, so that the client costs every server the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench may end in a panic, and prints"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const BODY: [u8; 100] = [b'x'; 100];
const CLIENTS: [usize; 3] = [1, 16, 64];

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Queued,
    Redis,
    Beanstalkd,
}

struct Server {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn program(peer: Peer) -> std::path::PathBuf {
    match peer {
        Peer::Queued => {
            let example = std::env::current_exe().unwrap();
            example.parent().unwrap().parent().unwrap().join("queued")
        }
        Peer::Redis => "redis-server".into(),
        Peer::Beanstalkd => "beanstalkd".into(),
    }
}

fn start(peer: Peer, always: bool, port: u16, dir: &Path) -> Child {
    let mut command = Command::new(program(peer));
    command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    let port_text = port.to_string();
    match peer {
        Peer::Queued => {
            command.args(["--http", &format!("127.0.0.1:{port}"), "--line", "none", "--max-memory", "2GiB"]);
            command.args(["--data", if always { "data" } else { "memory" }]);
        }
        Peer::Redis => {
            command.args([
                "--port",
                &port_text,
                "--save",
                "",
                "--appendonly",
                if always { "yes" } else { "no" },
            ]);
            command.args(["--appendfsync", "always"]);
        }
        Peer::Beanstalkd => {
            command.args(["-l", "127.0.0.1", "-p", &port_text]);
            if always {
                command.args(["-b", ".", "-f0"]);
            }
        }
    }
    let child = command.spawn().unwrap();
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the server does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

struct Client {
    peer: Peer,
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    body: Vec<u8>,
    /// The lease that is still to be acked.
    ack: String,
}

impl Client {
    async fn connect(peer: Peer, port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            peer,
            stream: BufReader::new(stream),
            line: Vec::new(),
            body: Vec::new(),
            ack: String::new(),
        }
    }

    async fn send(&mut self, parts: &[&[u8]]) {
        self.stream.get_mut().write_all(&parts.concat()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).await.unwrap();
        String::from_utf8_lossy(&self.line).trim_end().to_owned()
    }

    async fn bytes(&mut self, count: usize) {
        self.body.resize(count, 0);
        self.stream.read_exact(&mut self.body).await.unwrap();
    }

    async fn http(&mut self, path: &str, body: &[u8]) {
        let head =
            format!("POST /v1/queues/q/{path} HTTP/1.1\r\nHost: q\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body]).await;
        let mut length = 0;
        let status = self.line().await;
        assert!(status.starts_with("HTTP/1.1 20"), "{status}");
        loop {
            let line = self.line().await;
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        self.bytes(length).await;
    }

    async fn redis_bulk(&mut self) -> bool {
        let line = self.line().await;
        let length: i64 = line[1..].parse().unwrap();
        if length >= 0 {
            self.bytes(usize::try_from(length).unwrap() + 2).await;
        }
        length >= 0
    }

    async fn push(&mut self) {
        match self.peer {
            Peer::Queued => self.http("items", &BODY).await,
            Peer::Redis => {
                self.send(&[b"*3\r\n$5\r\nLPUSH\r\n$1\r\nq\r\n$100\r\n", &BODY, b"\r\n"]).await;
                self.line().await;
            }
            Peer::Beanstalkd => {
                self.send(&[b"put 0 0 60 100\r\n", &BODY, b"\r\n"]).await;
                self.line().await;
            }
        }
    }

    /// Takes an item and says that it is done; false when there is none left.
    async fn cycle(&mut self) -> bool {
        match self.peer {
            Peer::Queued => {
                let wish = format!("{{\"ack\":[{}]}}", self.ack);
                self.http("lease", wish.as_bytes()).await;
                let answer = std::str::from_utf8(&self.body).unwrap();
                let field = |name: &str| answer.split(name).nth(1).and_then(|rest| rest.split('"').next());
                let Some((id, token)) = field("\"id\":\"").zip(field("\"token\":\"")) else { return false };
                self.ack = format!("{{\"id\":\"{id}\",\"token\":\"{token}\"}}");
                true
            }
            Peer::Redis => {
                self.send(&[b"*3\r\n$9\r\nRPOPLPUSH\r\n$1\r\nq\r\n$1\r\np\r\n"]).await;
                if !self.redis_bulk().await {
                    return false;
                }
                self.send(&[b"*4\r\n$4\r\nLREM\r\n$1\r\np\r\n$1\r\n1\r\n$100\r\n", &BODY, b"\r\n"]).await;
                self.line().await;
                true
            }
            Peer::Beanstalkd => {
                self.send(&[b"reserve-with-timeout 0\r\n"]).await;
                let line = self.line().await;
                let Some(job) = line.strip_prefix("RESERVED ") else { return false };
                let id = job.split(' ').next().unwrap().to_owned();
                self.bytes(102).await;
                self.send(&[b"delete ", id.as_bytes(), b"\r\n"]).await;
                self.line().await;
                true
            }
        }
    }
}

/// Operations per second.
fn measure(peer: Peer, port: u16, clients: usize, seconds: f64, push: bool) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let until = began + Duration::from_secs_f64(seconds);
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                tokio::spawn(async move {
                    let mut client = Client::connect(peer, port).await;
                    let mut done = 0u64;
                    while Instant::now() < until {
                        if push {
                            client.push().await;
                        } else if !client.cycle().await {
                            break;
                        }
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut total = 0;
        for task in tasks {
            total += task.await.unwrap();
        }
        total as f64 / began.elapsed().as_secs_f64()
    })
}

fn memory_mib(child: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// A million items: memory, and how long a restart after SIGKILL takes until the first answer.
fn million(items: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(Peer::Queued, true, free_port(), dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let port = free_port();
    let mut server =
        Server { child: start(Peer::Queued, true, port, dir.path()), _dir: tempfile::tempdir().unwrap() };
    let empty = memory_mib(&server.child);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lines = [BODY.as_slice(), b"\n"].concat().repeat(10_000);
    runtime.block_on(async {
        let mut client = Client::connect(Peer::Queued, port).await;
        for _ in 0..items / 10_000 {
            client.http("batch", &lines).await;
        }
    });
    let full = memory_mib(&server.child);
    let disk: u64 = std::fs::read_dir(dir.path().join("data"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let began = Instant::now();
    let port = free_port();
    server.child = start(Peer::Queued, true, port, dir.path());
    let restart = began.elapsed();
    let again = memory_mib(&server.child);
    let each = |mib: f64| (mib - empty) * 1024.0 * 1024.0 / items as f64 - 100.0;
    println!(
        "{items} items of 100 bytes: {full:.0} MiB ({:.0} bytes an item beyond its body), {again:.0} MiB after the restart ({:.0})",
        each(full),
        each(again)
    );
    println!(
        "restart after SIGKILL until it answers: {} ms; {} MiB on the disk",
        restart.as_millis(),
        disk >> 20
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<f64>().ok()
    };
    let seconds = flag("--seconds").unwrap_or(2.0);
    for always in [true, false] {
        println!("{}", if always { "durable: an answer survives power loss" } else { "memory" });
        println!("{:>12} {:>8} {:>10} {:>10}", "", "clients", "pushes/s", "cycles/s");
        for clients in CLIENTS {
            let mut best = [0.0f64; 2];
            for peer in [Peer::Redis, Peer::Beanstalkd, Peer::Queued] {
                let is_there = peer == Peer::Queued || Command::new(program(peer)).arg("-v").output().is_ok();
                if !is_there {
                    continue;
                }
                let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
                let server = Server { child: start(peer, always, port, dir.path()), _dir: dir };
                let push = measure(peer, port, clients, seconds, true);
                let cycle = measure(peer, port, clients, seconds, false);
                drop(server);
                let name = match peer {
                    Peer::Queued => "queued",
                    Peer::Redis => "Redis",
                    Peer::Beanstalkd => "beanstalkd",
                };
                print!("{name:>12} {clients:>8} {push:>10.0} {cycle:>10.0}");
                if peer == Peer::Queued {
                    print!("   {:.2} and {:.2} times the best peer", push / best[0], cycle / best[1]);
                }
                println!();
                best = [best[0].max(push), best[1].max(cycle)];
            }
        }
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count typed by a person")]
    million(flag("--items").unwrap_or(1_000_000.0) as usize);
}
