//! Connections that a proxy passes on: the log names the original peer, and no other connection is accepted.

use crate::client::{self, send};
use crate::daemon::Logd;
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::Shutdown;
use trial::wait_until;

const PROXIED: &[&str] = &["--proxy-protocol", "--format", "stamped", "--log-level", "debug"];
const VERSION_1: &[u8] = b"PROXY TCP4 10.1.2.3 127.0.0.1 4000 6666\r\n";
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x10\0\x1a\x0a";

#[test]
fn proxied_peer_is_named() {
    let logd = Logd::start(PROXIED);
    for header in [VERSION_1, VERSION_2] {
        send(logd.address(), &[header, b"9 <13>frame"].concat()).unwrap();
        send(logd.address(), &[header, b"<13>message\0<14>next\0"].concat()).unwrap();
    }
    let text = String::from_utf8(logd.file()).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let of = |peer: &str| ["<13>frame", "<13>message", "<14>next"].map(|line| format!("{peer} {line}"));
    assert_eq!(lines, [of("10.1.2.3:4000"), of("[fd00::7]:4096")].concat());
    assert_eq!(logd.wait_for("connection_ended")["peer"], "10.1.2.3:4000");
}

#[test]
fn header_may_come_byte_by_byte() {
    let logd = Logd::start(PROXIED);
    let mut stream = client::connect(logd.address());
    for byte in [VERSION_2, b"line\n"].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    client::receipt(stream).unwrap();
    assert!(logd.file().ends_with(b" [fd00::7]:4096 line\n"));
}

#[test]
fn connection_without_a_header_is_reset() {
    let logd = Logd::start(PROXIED);
    for sent in [&b"<13>no header\n"[..], b"P", b"", b"PROXY TCP4 nowhere\r\nline\n"] {
        let mut stream = client::connect(logd.address());
        stream.write_all(sent).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        assert!(client::is_reset(&client::end(&mut stream).unwrap_err()));
    }
    logd.counts("resets_total{reason=\"proxy_header\"}", 4);
    assert_eq!(logd.file(), b"");
}

#[test]
fn silent_proxied_connection_ends_with_a_drain() {
    let logd = Logd::start(PROXIED);
    let mut stream = client::connect(logd.address());
    wait_until("it is served", || logd.metric("connections_open") == 1);
    logd.signal(Signal::SIGTERM);
    assert!(client::is_reset(&client::end(&mut stream).unwrap_err()));
    assert_eq!(logd.join().code(), Some(0));
    assert!(logd.log().contains(r#"Reset(\"draining\")"#), "{}", logd.log());
}

#[test]
fn header_is_a_line_without_the_flag() {
    let logd = Logd::start(&[]);
    send(logd.address(), VERSION_1).unwrap();
    assert_eq!(logd.file(), VERSION_1);
}
