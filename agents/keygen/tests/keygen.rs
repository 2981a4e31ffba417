//! Tests the whole binary, and compares its fingerprints with those of the real ssh-keygen.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keygen"));
    command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn is_fingerprint(line: &str) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    line.strip_prefix("SHA256:").is_some_and(|hash| hash.len() == 43 && hash.chars().all(base64))
}

#[test]
fn each_key_has_its_own_fingerprint_line() {
    let output = run(&["--count", "3", "--bits", "512"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(output.status.code(), Some(0));
    assert!(lines.len() == 3 && lines.iter().all(|line| is_fingerprint(line)), "{text}");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 3, "{text}");
}

#[test]
fn exits_with_the_requested_code() {
    for (code, expected) in [("0", 0), ("1", 1), ("42", 42)] {
        assert_eq!(run(&["--bits", "512", "--exit-code", code]).status.code(), Some(expected));
    }
    for arguments in [&["--bits", "12"][..], &["--count", "x"], &["--time", "5"], &["--exit-code", "256"]] {
        assert_eq!(run(arguments).status.code(), Some(64), "{arguments:?}");
    }
}

#[test]
fn item_on_stdin_is_ignored() {
    let mut child = command(&["--bits", "512"]).stdin(Stdio::piped()).spawn().unwrap();
    // The input is larger than a pipe, so keygen must read it. The write may fail if keygen has ended before:
    // the result is not checked.
    let _ = child.stdin.take().unwrap().write_all(&vec![b'x'; 1 << 20]);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 51));
}

#[test]
fn signal_exits_with_75() {
    let mut child = command(&["--bits", "512", "--time", "1h"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(is_fingerprint(line.trim_end()), "{line}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
}

#[test]
fn closed_stdout_is_success() {
    let mut child = command(&["--bits", "512", "--time", "1h"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Compares with the output of `ssh-keygen -l` for a key that ssh-keygen made.
#[test]
fn known_fingerprint_matches_ssh_keygen() {
    let (line, expected) = (include_str!("known.pub").trim(), include_str!("known.fingerprint").trim());
    let key = public_key(line);
    assert_eq!(keygen::authorized_key(&key), line);
    assert_eq!(keygen::fingerprint(&key), expected);
}

fn public_key(line: &str) -> rsa::RsaPublicKey {
    use base64::Engine;
    let encoded = line.split(' ').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    let mut rest = bytes.as_slice();
    let mut string = || {
        let (length, more) = rest.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap());
        let (string, more) = more.split_at(usize::try_from(length).unwrap());
        rest = more;
        rsa::BigUint::from_bytes_be(string)
    };
    let [_, e, n] = [string(), string(), string()];
    rsa::RsaPublicKey::new(n, e).unwrap()
}

#[test]
#[ignore = "needs ssh-keygen: just test-programs"]
fn new_fingerprints_match_ssh_keygen() {
    for bits in [1024, 1031, 2048] {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap().to_public_key();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), keygen::authorized_key(&key)).unwrap();
        let output = Command::new("ssh-keygen").arg("-lf").arg(file.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let expected = format!("{bits} {} no comment (RSA)\n", keygen::fingerprint(&key));
        assert_eq!(text, expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}
