//! Tests rng with peers that misbehave.

use crate::daemon::Rng;
use std::io::{ErrorKind, Read, Write};
use trial::connect_from;

const MIB: u64 = 1 << 20;

#[test]
fn broken_requests_get_400_or_the_end_of_the_connection() {
    let rng = Rng::start(&[]);
    for request in [
        "GET\r\n\r\n",
        "GET /32\r\n\r\n",
        "GET /32 HTTP/9.9\r\n\r\n",
        "GET /3 2 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /32 HTTP/1.1\r\nHost x\r\n\r\n",
        "GET /32 HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET /32 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}",
        "\0\0\0\0\r\n\r\n",
    ] {
        assert_eq!(rng.send(request).status, 400, "{request:?}");
    }
    let endless_head = format!("GET /32 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = rng.connect();
    let _ = stream.write_all(endless_head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(rng.get("/32").body.len(), 32);
}

#[test]
fn one_connection_is_one_request() {
    let rng = Rng::start(&[]);
    let answer = rng.send("GET /8 HTTP/1.1\r\nHost: x\r\n\r\nGET /9 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.body.len(), 8);
    // One of the two lengths is wrong: a request that hides in the body of another is not answered.
    let lengths = "Content-Length: 3\r\nTransfer-Encoding: chunked";
    let hidden = format!("POST /32 HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\nGET /9 HTTP/1.1\r\n\r\n");
    let answer = rng.send(&hidden);
    assert!(answer.status == 405 && answer.text() == "only GET and HEAD\n", "{answer:?}");
    let lines = rng.access_lines(2);
    assert!(lines.len() == 2 && !lines.concat().contains("/9"), "{lines:?}");
}

#[test]
fn clients_that_read_nothing_take_no_memory() {
    let rng = Rng::start(&["--max-connections", "220"]);
    let before = rng.memory_bytes("RssAnon");
    let mut silent: Vec<_> = (0..200).map(|_| rng.connect()).collect();
    for stream in &mut silent {
        stream.write_all(b"GET /1048576 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    // Their access lines show that all of them were answered.
    rng.access_lines(200);
    assert_eq!(rng.get("/1048576").body.len(), 1 << 20);
    let grown = rng.memory_bytes("RssAnon").saturating_sub(before);
    assert!(grown < 24 * MIB, "{} KiB for 200 connections", grown >> 10);
}

#[test]
fn idle_crowd_gives_way_to_a_request() {
    let rng = Rng::start(&["--max-connections", "4"]);
    let _idle: Vec<_> = (0..20).map(|_| rng.connect()).collect();
    assert_eq!(rng.get("/32").body.len(), 32);
}

#[test]
fn strangers_are_refused() {
    let rng = Rng::start(&["--allow", "127.0.0.1/32"]);
    let mut stranger = connect_from("127.0.0.2", rng.address());
    let _ = stranger.write_all(b"GET /32 HTTP/1.1\r\nHost: x\r\n\r\n");
    match stranger.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("a stranger was served: {other:?}"),
    }
    assert_eq!(rng.get("/32").body.len(), 32);
    assert_eq!(rng.access_lines(1).len(), 1);
}
