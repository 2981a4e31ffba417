//! TLS: only a verified server gets lines, and a receipt counts only if a close_notify follows it.

use crate::logsend::{command, run, stderr, terminate, wait_for_log};
use crate::receiver::{payload, receipt};
use kit::net::tls::ServerFiles;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use trial::self_signed;

/// Makes a self-signed certificate, in `NAME.crt` and `NAME.key`.
fn certificate(directory: &Path, name: &str) -> [PathBuf; 2] {
    self_signed(directory, name, name, SystemTime::now() + Duration::from_hours(24 * 365))
}

fn server_config(directory: &Path, client_ca: Option<PathBuf>) -> Arc<ServerConfig> {
    let [cert, key] = certificate(directory, "logd.test");
    let files = ServerFiles { tls_cert: Some(cert), tls_key: Some(key), tls_client_ca: client_ca };
    files.load().unwrap().unwrap()
}

/// The way in which the server ends a connection.
#[derive(Clone, Copy)]
enum End {
    /// Sends the receipt, then close_notify.
    CloseNotify,
    /// Sends the receipt, then ends the TCP connection alone, as a man in the middle could.
    BareTcp,
    /// Sends only close_notify.
    NoReceipt,
}

/// Serves one connection for each of `ends`, one after the other, and returns the payloads.
fn serve(config: Arc<ServerConfig>, ends: &'static [End]) -> (u16, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        let take = |end: &End| {
            let (tcp, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, tcp);
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let (_, payload) = payload(&bytes);
            if !matches!(end, End::NoReceipt) {
                let _ = stream.write_all(receipt(payload.len()).as_bytes());
            }
            if !matches!(end, End::BareTcp) {
                stream.conn.send_close_notify();
            }
            let _ = stream.flush();
            payload.to_vec()
        };
        ends.iter().map(take).collect()
    });
    (port, serving)
}

/// Sends a line, waits for `failure` in the log, and stops logsend, which must exit with 75.
fn stopped_after_a_failure(port: u16, arguments: &[&str], failure: &str) {
    let arguments = [arguments, &["--drain-timeout", "50ms"]].concat();
    let mut child = command(port, arguments).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"secret\n").unwrap();
    wait_for_log(&mut child, failure);
    terminate(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn lines_arrive_at_a_server_that_proves_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let (port, serving) = serve(server_config(directory.path(), None), &[End::CloseNotify]);
    let ca = directory.path().join("logd.test.crt");
    let output = run(port, &["--tls-ca", path(&ca), "--tls-name", "logd.test"], b"one\ntwo\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(serving.join().unwrap(), [b"one\ntwo\n"]);
}

#[test]
fn an_end_without_close_notify_is_not_a_receipt() {
    let directory = tempfile::tempdir().unwrap();
    let (port, serving) = serve(server_config(directory.path(), None), &[End::BareTcp, End::CloseNotify]);
    let ca = directory.path().join("logd.test.crt");
    let output = run(port, &["--tls-ca", path(&ca), "--tls-name", "logd.test"], b"one\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(serving.join().unwrap(), [b"one\n", b"one\n"]);
    assert!(stderr(&output).contains("retries=1"), "{}", stderr(&output));
}

#[test]
fn orderly_close_without_an_answer_is_not_a_receipt_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (port, serving) = serve(server_config(directory.path(), None), &[End::NoReceipt, End::CloseNotify]);
    let ca = directory.path().join("logd.test.crt");
    let output = run(port, &["--tls-ca", path(&ca), "--tls-name", "logd.test"], b"one\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(serving.join().unwrap(), [b"one\n", b"one\n"]);
    assert!(stderr(&output).contains("closed without a receipt"), "{}", stderr(&output));
}

#[test]
fn servers_with_another_name_or_authority_get_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [stranger, _] = certificate(directory.path(), "stranger.test");
    let config = server_config(directory.path(), None);
    let right = directory.path().join("logd.test.crt");
    for (ca, name) in [(&right, "other.test"), (&stranger, "logd.test")] {
        let (port, serving) = serve(config.clone(), &[End::CloseNotify]);
        stopped_after_a_failure(port, &["--tls-ca", path(ca), "--tls-name", name], "TLS handshake failed");
        assert_eq!(serving.join().unwrap(), [b""]);
    }
}

#[test]
fn an_expired_certificate_is_called_expired() {
    let directory = tempfile::tempdir().unwrap();
    let in_2021 = UNIX_EPOCH + Duration::from_secs(1_609_459_200);
    let [cert, key] = self_signed(directory.path(), "expired", "logd.test", in_2021);
    let files = ServerFiles { tls_cert: Some(cert.clone()), tls_key: Some(key), tls_client_ca: None };
    let (port, serving) = serve(files.load().unwrap().unwrap(), &[End::CloseNotify]);
    stopped_after_a_failure(
        port,
        &["--tls-ca", path(&cert), "--tls-name", "logd.test"],
        "certificate expired",
    );
    assert_eq!(serving.join().unwrap(), [b""]);
}

#[test]
fn client_certificates_are_shown_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(directory.path(), "client.test");
    let config = server_config(directory.path(), Some(cert.clone()));
    let ca = directory.path().join("logd.test.crt");
    let tls = ["--tls-ca", path(&ca), "--tls-name", "logd.test"];
    let (port, serving) = serve(config.clone(), &[End::CloseNotify]);
    let shown = [&tls[..], &["--tls-cert", path(&cert), "--tls-key", path(&key)]].concat();
    let output = run(port, &shown, b"one\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(serving.join().unwrap(), [b"one\n"]);

    let (port, serving) = serve(config, &[End::CloseNotify]);
    stopped_after_a_failure(port, &tls, "event=server_lost");
    assert_eq!(serving.join().unwrap(), [b""]);
}

#[test]
fn unusable_certificate_files_are_named() {
    let output = run(1, &["--tls-ca", "/does/not/exist.crt"], b"");
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("/does/not/exist.crt holds no usable certificate"),
        "{}",
        stderr(&output)
    );
}
