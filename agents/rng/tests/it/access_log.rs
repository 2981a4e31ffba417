//! Tests the access log: one line on stdout for each request.

use crate::daemon::{Rng, Setup};
use std::io::{BufRead, BufReader};
use trial::{ask, metric, wait_until};

#[test]
fn every_request_has_one_line() {
    let rng = Rng::start(&[]);
    let asked = [
        ("GET", "/", "200 "),
        ("GET", "/32", "200 32"),
        ("GET", "/0", "200 -"),
        ("HEAD", "/32", "200 -"),
        ("GET", "/-1?x", "404 24"),
        ("GET", "/1048577", "400 22"),
        ("POST", "/32", "405 18"),
    ];
    for (method, path, _) in asked {
        rng.ask(method, path);
    }
    let lines = rng.access_lines(asked.len());
    assert_eq!(lines.len(), asked.len(), "{lines:?}");
    for ((method, path, end), line) in asked.into_iter().zip(&lines) {
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.contains(&format!(" +0000] \"{method} {path} HTTP/1.1\" {end}")), "{line}");
    }
}

#[test]
fn probes_and_broken_requests_have_none() {
    let rng = Rng::start(&[]);
    rng.get("/ready");
    rng.get("/metrics");
    rng.send("nonsense\r\n\r\n");
    rng.get("/last");
    let lines = rng.access_lines(1);
    assert!(lines.len() == 1 && lines[0].contains("GET /last "), "{lines:?}");
}

#[test]
fn hostile_request_is_one_escaped_line() {
    let rng = Rng::start(&[]);
    assert_eq!(rng.get("/\"\\é\u{202e}").status, 404);
    assert_eq!(rng.get(&format!("/{}", "a".repeat(5000))).status, 404);
    let lines = rng.access_lines(2);
    assert!(lines[0].contains(r#""GET /\"\\\u{e9}\u{202e} HTTP/1.1" 404"#), "{lines:?}");
    assert!(lines[1].ends_with("aaa\" 404 24\n") && lines[1].len() < 400, "{lines:?}");
}

#[test]
fn requests_are_answered_after_stdouts_reader_has_gone() {
    // The reader opens the pipe and exits. A pipeline would not do: its process is the shell, so killing it
    // would leave the daemon running.
    let rng = Setup::new().start_with(r#"mkfifo out; : <out & exec "$0" "$@" >out"#);
    let answered = (0..1000).find(|_| {
        assert_eq!(rng.get("/8").status, 200);
        rng.says("access_log_ended")
    });
    assert!(answered.is_some(), "{:?}", rng.last_events());
    assert_eq!(rng.get("/8").body.len(), 8);
}

/// More requests than can be answered without a reader: the pipe takes 64 KiB of lines, and twice 1,024 lines
/// wait.
const REQUESTS: usize = 3000;

/// The number of requests that are always answered before the others wait.
const ANSWERED: u64 = 1200;

#[test]
fn stalled_reader_of_stdout_holds_up_no_probe() {
    let setup = Setup::new().arguments(&["--admin", "127.0.0.1:0"]);
    let rng = setup.start_with(r#"mkfifo out; exec 3<>out; exec "$0" "$@" >out"#);
    let long = format!("/{}", "x".repeat(250));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| (0..REQUESTS).all(|_| rng.get(&long).status == 404));
        wait_until("more answers than a pipe has room for lines", || {
            let page = String::from_utf8(ask(rng.admin(), "GET", "/metrics").body).unwrap();
            metric::<u64>(&page, "rng_requests_total{status=\"404\"}") >= ANSWERED
        });
        assert!(!client.is_finished(), "no line was held up");
        let out = std::fs::File::open(rng.setup.path("out")).unwrap();
        let lines = BufReader::new(out).lines().take(REQUESTS);
        assert_eq!(lines.filter(|line| line.as_ref().unwrap().contains("404")).count(), REQUESTS);
        assert!(client.join().unwrap(), "every request was answered");
    });
}
