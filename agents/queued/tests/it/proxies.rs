//! queued behind common proxies, configured as PROXIES.md says: events, requests that wait, clients that
//! disconnect.

use crate::daemon::Queued;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use trial::{DEADLINE, Process, wait_until};

const PAGE: &str = include_str!("../../PROXIES.md");

/// The page's block in this language, with our ports.
fn block(language: &str, daemon: &Queued, socket: &str) -> String {
    let block = PAGE.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains(":8080") && block.contains("80"), "{block}");
    let here = block.replace("127.0.0.1:8080", &daemon.http_address().to_string());
    here.replace("listen 80", &format!("listen {socket}")).replace("bind :80", &format!("bind {socket}"))
}

/// A proxy, and the socket on which it listens.
struct Proxy {
    socket: PathBuf,
    _process: Process,
}

impl Proxy {
    fn start(mut command: Command, socket: PathBuf) -> Proxy {
        let process = Process::start(&mut command);
        process.wait_until("the proxy listens", || UnixStream::connect(&socket).is_ok());
        Proxy { socket, _process: process }
    }

    fn nginx(daemon: &Queued, server: &str) -> Proxy {
        let dir = daemon.setup.path("nginx");
        std::fs::create_dir(&dir).unwrap();
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
            .concat();
        let all = format!(
            "daemon off; master_process off; pid {0}/pid; error_log stderr;\n\
             events {{}}\nhttp {{ access_log off;\n{paths}{server}}}\n",
            dir.display()
        );
        std::fs::write(dir.join("nginx.conf"), all).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf"));
        Proxy::start(command, dir.join("socket"))
    }

    fn haproxy(daemon: &Queued) -> Proxy {
        let dir = daemon.setup.path("haproxy");
        std::fs::create_dir(&dir).unwrap();
        let socket = dir.join("socket");
        let config = block("haproxy", daemon, &format!("unix@{}", socket.display()));
        std::fs::write(dir.join("haproxy.cfg"), config).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(dir.join("haproxy.cfg"));
        Proxy::start(command, socket)
    }

    fn ask(&self, request: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn lease(&self) -> UnixStream {
        let body = r#"{"wait_ms":300000}"#;
        let length = body.len();
        self.ask(&format!(
            "POST /v1/queues/q/lease HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }
}

fn socket_in(daemon: &Queued, directory: &str) -> String {
    format!("unix:{}", daemon.setup.path(directory).join("socket").display())
}

/// Reads until the wanted text arrives.
fn hear(stream: &mut UnixStream, wanted: &str) -> String {
    let mut heard = String::new();
    let mut piece = [0; 4096];
    while !heard.contains(wanted) {
        let length = stream.read(&mut piece).unwrap_or_else(|e| panic!("{e}, after {heard:?}"));
        assert!(length > 0, "it ended after {heard:?}");
        heard += std::str::from_utf8(&piece[..length]).unwrap();
    }
    heard
}

fn waiting(daemon: &Queued) -> u64 {
    daemon.get("/v1/queues/q").json()["waiting"].as_u64().unwrap()
}

fn passes_all(daemon: &Queued, proxy: &Proxy) {
    daemon.http().call("PUT", "/v1/queues/q", "");
    let mut events = proxy.ask("GET /v1/events HTTP/1.1\r\nHost: q\r\n\r\n");
    hear(&mut events, "\"pushed\":0");
    let mut worker = proxy.lease();
    wait_until("its request waits", || waiting(daemon) == 1);
    daemon.post("/v1/queues/q/items", "an item").expect(201);
    hear(&mut worker, "an item");
    hear(&mut events, "\"pushed\":1");
    let leaver = proxy.lease();
    wait_until("its request waits, too", || waiting(daemon) == 1);
    drop(leaver);
    wait_until("the request of a client that is gone has ended", || waiting(daemon) == 0);
    daemon.post("/v1/queues/q/items", "another").expect(201);
    let queue = daemon.get("/v1/queues/q").json();
    assert_eq!((&queue["ready"], &queue["leases"]), (&1.into(), &1.into()), "leased for nobody");
    let item = "x".repeat(1 << 20);
    let length = item.len();
    let mut push = proxy.ask(&format!(
        "POST /v1/queues/large/items HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n\r\n{item}"
    ));
    hear(&mut push, "201 Created");
}

#[test]
#[ignore = "needs nginx: just test-programs"]
fn nginx_passes_events_and_waiting_requests() {
    let daemon = Queued::start(&["--data", "memory"]);
    let server = block("nginx", &daemon, &socket_in(&daemon, "nginx"));
    passes_all(&daemon, &Proxy::nginx(&daemon, &server));
}

#[test]
#[ignore = "needs nginx: just test-programs"]
fn default_nginx_passes_events_at_once() {
    let daemon = Queued::start(&["--data", "memory"]);
    let (socket, upstream) = (socket_in(&daemon, "nginx"), daemon.http_address());
    let server = format!("server {{ listen {socket}; location / {{ proxy_pass http://{upstream}; }} }}\n");
    let proxy = Proxy::nginx(&daemon, &server);
    let mut events = proxy.ask("GET /v1/events HTTP/1.1\r\nHost: q\r\n\r\n");
    daemon.post("/v1/queues/q/items", "x").expect(201);
    hear(&mut events, "\"pushed\":1");
    daemon.post("/v1/queues/q/items", "y").expect(201);
    hear(&mut events, "\"pushed\":2");
}

#[test]
#[ignore = "needs haproxy: just test-programs"]
fn haproxy_passes_events_and_waiting_requests() {
    let daemon = Queued::start(&["--data", "memory"]);
    passes_all(&daemon, &Proxy::haproxy(&daemon));
}
