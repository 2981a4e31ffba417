//! TLS: the same receipt, and no receipt for a stream that somebody cut short.

use crate::client::{self, is_reset};
use crate::daemon::{Logd, Setup};
use kit::net::tls::ClientFiles;
use nix::sys::signal::Signal;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::{ClientConnection, StreamOwned};
use trial::{metric, self_signed, wait_until};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Writes a certificate that is its own authority to `NAME.crt` and its key to `NAME.key`.
fn certificate(directory: &Path, name: &str) {
    expiring(directory, name, SystemTime::now() + Duration::from_hours(24 * 365));
}

fn expiring(directory: &Path, name: &str, expires: SystemTime) {
    self_signed(directory, name, "logd.test", expires);
}

fn setup() -> Setup {
    let setup = Setup::new().arguments(&["--tls-cert", "server.crt", "--tls-key", "server.key"]);
    certificate(&setup.path(""), "server");
    setup
}

/// Makes a TLS handshake, with the client certificate of that name if there is one.
fn connect(logd: &Logd, client: Option<&str>) -> io::Result<Stream> {
    let path = |name: &str, extension: &str| logd.path(&format!("{name}.{extension}"));
    let files = ClientFiles {
        tls_ca: Some(path("server", "crt")),
        tls_cert: client.map(|name| path(name, "crt")),
        tls_key: client.map(|name| path(name, "key")),
        tls_name: None,
    };
    let name = "logd.test".try_into().unwrap();
    let connection = ClientConnection::new(files.load().unwrap().unwrap(), name).unwrap();
    let mut stream = StreamOwned::new(connection, client::connect(logd.address()));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn receipt(mut stream: Stream) -> io::Result<()> {
    stream.conn.send_close_notify();
    stream.flush()?;
    client::end(&mut stream)?;
    // The connection below TLS must end in order, too.
    client::end(&mut stream.sock)
}

fn send(logd: &Logd, client: Option<&str>, bytes: &[u8]) -> io::Result<()> {
    let mut stream = connect(logd, client)?;
    stream.write_all(bytes)?;
    receipt(stream)
}

#[test]
fn close_notify_is_answered_with_the_receipt() {
    let logd = setup().start();
    let lines = b"a line that fills records\n".repeat(100_000);
    send(&logd, None, &lines).unwrap();
    assert!(logd.file() == lines);
    logd.counts("receipts_total", 1);
}

#[test]
fn explicit_receipt_precedes_the_close_notify() {
    let logd = setup().start();
    let mut stream = connect(&logd, None).unwrap();
    stream.write_all(b"LOGD-RECEIPT 1\nline\n").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "LOGD-RECEIPT 1 5\n");
    client::end(&mut stream.sock).unwrap();
    assert_eq!(logd.file(), b"line\n");
}

#[test]
fn stream_without_close_notify_gets_no_receipt() {
    for (sent, reason) in [(&b"line\nhalf"[..], "cut_short"), (b"line\n", "no_close_notify")] {
        let logd = setup().start();
        let mut stream = connect(&logd, None).unwrap();
        stream.write_all(sent).unwrap();
        stream.flush().unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        assert!(is_reset(&stream.sock.read_to_end(&mut rest).unwrap_err()));
        logd.counts(&format!("resets_total{{reason=\"{reason}\"}}"), 1);
        assert!(logd.file().starts_with(sent), "what came is kept all the same");
    }
}

#[test]
fn garbage_is_reset() {
    let logd = setup().start();
    let mut stream = connect(&logd, None).unwrap();
    for garbage in [&b"plain text\n"[..], &[0xff; 10_000], b"\x16\x03\x01\xff\xff", b"GET / HTTP/1.1\r\n\r\n"]
    {
        let mut plain = client::connect(logd.address());
        let _ = plain.write_all(garbage);
        let _ = plain.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        assert!(is_reset(&plain.read_to_end(&mut answer).unwrap_err()), "after {}", garbage.escape_ascii());
    }
    stream.write_all(b"line\n").unwrap();
    receipt(stream).unwrap();
    logd.counts("resets_total{reason=\"tls\"}", 4);
    assert_eq!(logd.file(), b"line\n");
}

#[test]
fn silent_tls_connection_ends_with_a_drain() {
    let logd = setup().arguments(&["--log-level", "debug"]).start();
    let mut silent = client::connect(logd.address());
    wait_until("it is served", || logd.metric("connections_open") == 1);
    logd.signal(Signal::SIGTERM);
    assert!(is_reset(&client::end(&mut silent).unwrap_err()));
    assert_eq!(logd.join().code(), Some(0));
    assert!(logd.log().contains(r#"Reset(\"draining\")"#), "{}", logd.log());
}

#[test]
fn only_holders_of_client_certificates_connect() {
    let setup = setup().arguments(&["--tls-client-ca", "client.crt"]);
    certificate(&setup.path(""), "client");
    certificate(&setup.path(""), "stranger");
    let logd = setup.start();
    send(&logd, Some("client"), b"friend\n").unwrap();
    send(&logd, None, b"nobody\n").unwrap_err();
    send(&logd, Some("stranger"), b"stranger\n").unwrap_err();
    assert_eq!(logd.file(), b"friend\n");
}

#[test]
fn renewed_certificate_needs_no_restart() {
    let logd = setup().start();
    let mut old = connect(&logd, None).unwrap();
    certificate(&logd.path(""), "server");
    // From now on only the new certificate is trusted.
    wait_until("the new certificate is shown", || send(&logd, None, b"new\n").is_ok());
    old.write_all(b"old\n").unwrap();
    receipt(old).unwrap();
    assert_eq!(logd.file(), b"new\nold\n");
}

#[test]
fn expired_certificate_is_named() {
    let setup = setup();
    expiring(&setup.path(""), "server", UNIX_EPOCH + Duration::from_secs(1_612_310_400));
    let logd = setup.start();
    assert_eq!(logd.events("certificate_expired")[0]["expired"], "2021-02-03T00:00:00Z");
    let expires = || {
        let page = logd.admin("GET", "/metrics").1;
        metric::<f64>(&page, "logd_certificate_expires_timestamp_seconds")
    };
    assert!(expires().total_cmp(&1_612_310_400.0).is_eq());
    expiring(&logd.path(""), "server", SystemTime::now() + Duration::from_hours(48));
    wait_until("it says that the next one is short", || logd.says("certificate_expires_soon"));
    let far = Duration::from_secs(4_767_984_000);
    expiring(&logd.path(""), "server", UNIX_EPOCH + far);
    wait_until("all is well", || expires().total_cmp(&far.as_secs_f64()).is_eq());
}

#[test]
fn unusable_renewal_keeps_the_old_certificate() {
    let logd = setup().start();
    let key = std::fs::read(logd.path("server.key")).unwrap();
    std::fs::write(logd.path("server.key"), "half a key").unwrap();
    wait_until("it is named", || !logd.events("files_rejected").is_empty());
    assert!(logd.events("files_rejected")[0]["error"].as_str().unwrap().contains("server.key"));
    send(&logd, None, b"line\n").unwrap();
    std::fs::write(logd.path("server.key"), key).unwrap();
    wait_until("it is mended", || logd.says("files_reloaded"));
}

#[test]
fn certificate_with_another_key_is_rejected() {
    let setup = Setup::new().arguments(&["--tls-cert", "server.crt", "--tls-key", "other.key"]);
    certificate(&setup.path(""), "server");
    certificate(&setup.path(""), "other");
    let output = setup.run();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{line}");
    assert!(line.contains("server.crt") && line.contains("other.key"), "{line}");
}

#[test]
fn certificate_without_a_key_is_rejected() {
    let output = Setup::new().arguments(&["--tls-cert", "server.crt"]).run();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{line}");
    assert!(line.contains("--tls-key"), "{line}");
}

/// Returns a client's ClientHello in this version of TLS (1.0 is 1, 1.2 is 3), with the offers of an honest
/// old client.
fn hello(minor: u8) -> Vec<u8> {
    let extensions = [
        // supported groups: x25519, secp256r1; point formats; signatures: ECDSA and RSA with SHA-256, and
        // with SHA-1
        &[0, 10, 0, 6, 0, 4, 0, 29, 0, 23][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 10, 0, 8, 4, 3, 4, 1, 2, 3, 2, 1],
        &[0, 23, 0, 0],
    ]
    .concat();
    // ECDHE with ECDSA and RSA: AES-GCM for 1.2, AES-CBC with SHA for the older ones.
    let suites = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x0a, 0xc0, 0x14];
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let body = [
        &[3, minor][..],
        &[7; 32],
        &[0],
        &length(suites.len()),
        &suites,
        &[1, 0],
        &length(extensions.len()),
        &extensions,
    ]
    .concat();
    let message = [&[1, 0][..], &length(body.len()), &body].concat();
    [&[22, 3, 1][..], &length(message.len()), &message].concat()
}

#[test]
fn tls_below_1_2_is_rejected() {
    let logd = setup().start();
    let first_byte = |minor| {
        let mut stream = client::connect(logd.address());
        stream.write_all(&hello(minor)).unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    assert_eq!(first_byte(3).unwrap()[0], 22, "1.2 goes on with the handshake");
    for minor in [0, 1, 2] {
        match first_byte(minor) {
            // The answer is a fatal alert: protocol version.
            Ok(answer) => assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "3.{minor}"),
            Err(error) => assert!(is_reset(&error), "3.{minor}: {error}"),
        }
    }
    logd.counts("resets_total{reason=\"tls\"}", 4);
}
