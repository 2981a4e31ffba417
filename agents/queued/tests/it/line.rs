//! The line door: an item counts as taken only if the client read it and closed in order.

use crate::daemon::Queued;
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use trial::wait_until;

fn pushed(arguments: &[&str], items: &[&str]) -> Queued {
    let daemon = Queued::start(arguments);
    for item in items {
        daemon.post("/v1/queues/line/items", item).expect(201);
    }
    daemon
}

fn returned(daemon: &Queued) -> u64 {
    let page = daemon.get("/metrics");
    let line = page
        .text()
        .lines()
        .find_map(|l| l.strip_prefix("queued_line_connections_total{outcome=\"returned\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn items_come_in_order_without_newline() {
    let daemon = pushed(&["--data", "memory"], &["one", "two\nlines"]);
    assert_eq!(
        (daemon.line(), daemon.line(), daemon.line()),
        ("one".into(), "two\nlines".into(), String::new())
    );
    // An item is acked when the server sees that its client has closed.
    wait_until("both are acked", || daemon.get("/v1/queues/line").json()["acked"] == 2);
    assert_eq!(daemon.get("/v1/queues/line").json()["backlog"], 0);
}

#[test]
fn binary_items_arrive_unchanged() {
    let daemon = Queued::start(&["--data", "memory", "--line-queue", "raw"]);
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    daemon.post("/v1/queues/raw/items", &body).expect(201);
    let mut got = Vec::new();
    TcpStream::connect(daemon.line_address()).unwrap().read_to_end(&mut got).unwrap();
    assert_eq!(got, body);
}

#[test]
fn client_gone_before_reading_leaves_item() {
    let daemon = pushed(&["--data", "memory"], &["one", "two"]);
    // A TCP probe: connects and closes.
    drop(TcpStream::connect(daemon.line_address()).unwrap());
    wait_until("the item is back", || returned(&daemon) == 1);
    // Half-closes and disconnects, all before the server looks.
    daemon.freeze();
    let stream = TcpStream::connect(daemon.line_address()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(stream);
    daemon.signal(Signal::SIGCONT);
    wait_until("the item is back again", || returned(&daemon) == 2);
    // Receives, does not read, closes: TCP shows this by a reset.
    let stream = TcpStream::connect(daemon.line_address()).unwrap();
    let mut peeked = [0; 3];
    while stream.peek(&mut peeked).unwrap() < 3 {}
    drop(stream);
    wait_until("the item is back a third time", || returned(&daemon) == 3);
    assert_eq!((daemon.line(), daemon.line()), ("one".to_owned(), "two".to_owned()), "in the old order");
    wait_until("both are acked", || daemon.get("/v1/queues/line").json()["acked"] == 2);
    assert_eq!(daemon.get("/v1/queues/line").json()["died"], 0);
}

#[test]
fn lost_clients_never_make_dead_letters() {
    let daemon = pushed(&["--data", "memory"], &["one"]);
    for n in 1..=8 {
        drop(TcpStream::connect(daemon.line_address()).unwrap());
        wait_until("it is back", || returned(&daemon) == n);
    }
    let item = daemon.get("/v1/queues/line/items").json()["items"][0].clone();
    assert_eq!((item["state"].as_str(), item["attempts"].as_u64()), (Some("ready"), Some(0)));
}

#[test]
fn unread_item_returns_after_timeout() {
    let daemon = pushed(&["--data", "memory", "--line-timeout", "2s"], &["one"]);
    let mut slow = TcpStream::connect(daemon.line_address()).unwrap();
    let mut three = [0; 3];
    slow.read_exact(&mut three).unwrap();
    wait_until("the item is back", || returned(&daemon) == 1);
    assert_eq!(daemon.line(), "one");
}

#[test]
fn bytes_from_line_client_are_ignored() {
    let daemon = pushed(&["--data", "memory"], &["one"]);
    let mut stream = TcpStream::connect(daemon.line_address()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one");
    drop(stream);
    wait_until("it is taken", || daemon.get("/v1/queues/line").json()["acked"] == 1);
}

#[test]
fn untaken_items_return_after_sigkill() {
    let mut daemon = Queued::start(&["--count-from", "41"]);
    assert_eq!((daemon.line(), daemon.line()), ("41".to_owned(), "42".to_owned()));
    wait_until("both are acked", || daemon.get("/v1/queues/line").json()["acked"] == 2);
    let mut held = TcpStream::connect(daemon.line_address()).unwrap();
    let mut two = [0; 2];
    held.read_exact(&mut two).unwrap();
    assert_eq!(&two, b"43");
    // When this push is answered, all earlier changes are on the disk, including the lease of 43.
    daemon.post("/v1/queues/other/items", "x").expect(201);
    daemon.kill9();
    daemon.restart();
    assert_eq!((daemon.line(), daemon.line()), ("43".to_owned(), "44".to_owned()));
}
