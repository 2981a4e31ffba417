//! Pushing from arguments, files and stdin.

use crate::queuectl::{command, run, stderr, stdout};
use crate::server::Server;
use std::ffi::OsStr;
use std::process::Stdio;

fn bodies(server: &Server) -> Vec<String> {
    server.queue().ready.iter().map(|item| item.body["body"].as_str().unwrap_or("?").to_owned()).collect()
}

#[test]
fn arguments_files_and_lines_become_items() {
    let server = Server::start();
    let push = |arguments: &[&str], input: &[u8]| {
        let output = run(&server.url(), &[&["push", "-q", "q"], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (stdout(&output), std::mem::take(&mut server.queue().ready).len())
    };
    assert_eq!(push(&["a", "", "b c"], b"").0, "pushed 3 items\n");
    assert_eq!(push(&[], b"one\n\ntwo"), ("pushed 2 items\n".to_owned(), 2));
    assert_eq!(push(&["-0", "--seal"], b"a\nb\0c\0"), ("pushed 2 items, sealed\n".to_owned(), 2));
    assert!(server.queue().sealed);
    assert_eq!(push(&["--json"], b"x\n").0, "{\"duplicates\":0,\"pushed\":1,\"sealed\":false}\n");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("item");
    std::fs::write(&file, "whole\nfile\n").unwrap();
    let output = command(&server.url(), ["push", "-q", "q", "--ids", "--file"]).arg(&file).output().unwrap();
    assert_eq!(stdout(&output).trim().len(), 32, "{}", stderr(&output));
    assert_eq!(bodies(&server), ["whole\nfile\n"]);
    server.queue().ready.clear();
    let lines = [OsStr::new("push"), "-q".as_ref(), "q".as_ref(), "--lines".as_ref(), file.as_os_str()];
    let output = command(&server.url(), lines).stdin(Stdio::null()).output().unwrap();
    assert_eq!(stdout(&output), "pushed 2 items\n", "{}", stderr(&output));
    assert_eq!(bodies(&server), ["whole", "file"]);
}

#[test]
fn last_batch_carries_the_seal() {
    let server = Server::start();
    let input: String = (0..2500).map(|i| format!("{i}\n")).collect();
    let output = run(&server.url(), &["push", "-q", "q", "--seal"], input.as_bytes());
    assert_eq!(stdout(&output), "pushed 2500 items, sealed\n", "{}", stderr(&output));
    assert_eq!(server.queue().requests, ["batch"; 3]);
    assert_eq!(bodies(&server), (0..2500).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[test]
fn repeated_push_has_no_duplicates() {
    let server = Server::start();
    server.queue().lose_answers_to = vec!["batch"];
    let output = run(&server.url(), &["push", "-q", "q", "a", "b"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // The duplicates are this run's own retry, not items that another producer had pushed.
    assert_eq!(stdout(&output), "pushed 2 items\n");
    assert_eq!(server.queue().requests, ["batch"; 2]);
    assert_eq!(bodies(&server), ["a", "b"]);
}

#[test]
fn keys_make_a_push_repeatable() {
    let server = Server::start();
    for (arguments, said) in [
        (&["--key", "k", "a"][..], "pushed 1 item\n"),
        (&["--key", "k", "other"], "pushed 0 items, 1 was there already\n"),
        (&["--key-prefix", "p", "x", "y"], "pushed 2 items\n"),
        (&["--key-prefix", "p", "x", "y", "z"], "pushed 1 item, 2 were there already\n"),
    ] {
        let output = run(&server.url(), &[&["push", "-q", "q"], arguments].concat(), b"");
        assert_eq!(stdout(&output), said, "{}", stderr(&output));
    }
    assert_eq!(bodies(&server), ["a", "x", "y", "z"]);
    let output = run(&server.url(), &["push", "-q", "q", "--key", "k", "a", "b"], b"");
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn errors_are_one_line_and_an_exit_code() {
    let mut server = Server::start();
    let url = server.url();
    server.queue().refuse = Some(409);
    let code = |arguments: &[&str], code: i32, said: &str| {
        let output = run(&url, arguments, b"");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    };
    code(&["push", "-q", "q", "a"], 1, "cannot push to queue q");
    code(&["push", "-q", "../x", "a"], 64, "--queue");
    code(&["push", "a"], 64, "--queue");
    code(&["push", "-q", "q", "--file", "/does/not/exist"], 1, "cannot read /does/not/exist");
    code(&["push", "-q", "q", "--lines", "/does/not/exist"], 1, "cannot read /does/not/exist");
    code(&["push", "-q", "q", "--lines", "/"], 1, "cannot read /");
    code(&["push", "-q", "q", "--lines", "/dev/null", "a"], 64, "--lines");
    code(&["--server", "queue:8080", "push", "-q", "q", "a"], 64, "not a URL such as");
    code(&["run", "-q", "q"], 64, "COMMAND");
    code(&["--tls-ca", "/does/not/exist", "--server", "https://localhost", "queues"], 78, "/does/not/exist");
    server.vanish();
    code(&["push", "-q", "q", "--give-up", "0s", "a"], 75, "cannot push to queue q");
    code(&["queues"], 75, "failed: cannot connect");
}

#[test]
fn single_item_is_sent_raw() {
    let server = Server::start();
    server.queue().request_bytes_max = 1000;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("binary");
    // Base64 takes four thirds of the bytes, and JSON adds more.
    std::fs::write(&file, [0xff; 900]).unwrap();
    let path = file.to_str().unwrap();
    let arguments = ["push", "-q", "q", "--seal", "--key", "a/b&c", "-f", path];
    let output = run(&server.url(), &arguments, b"");
    assert_eq!(stdout(&output), "pushed 1 item, sealed\n", "{}", stderr(&output));
    let queue = server.queue();
    assert_eq!((queue.requests.as_slice(), queue.sealed), (&["items".to_owned()][..], true));
    assert_eq!(queue.ready[0].key.as_deref(), Some("a/b&c"));
    assert!(queue.ready[0].body["body_base64"].as_str().unwrap().starts_with("////"));
}

#[test]
fn batch_that_is_too_large_is_split() {
    let server = Server::start();
    server.queue().request_bytes_max = 3000;
    let input: String = (0..100).map(|i| format!("{i:0>100}\n")).collect();
    let output = run(&server.url(), &["push", "-q", "q", "--seal"], input.as_bytes());
    assert_eq!(stdout(&output), "pushed 100 items, sealed\n", "{}", stderr(&output));
    assert_eq!(bodies(&server), input.lines().collect::<Vec<_>>());
    assert!(server.queue().sealed);
}

#[test]
fn item_that_is_too_large_is_named() {
    let server = Server::start();
    server.queue().request_bytes_max = 1000;
    let long = "x".repeat(2000);
    let input = format!("short\n\n{long}\nnever pushed\n");
    let output = run(&server.url(), &["push", "-q", "q", "--seal"], input.as_bytes());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("cannot push line 3 of stdin (2000 bytes) to queue q"), "{said}");
    assert!(said.contains("; pushed 1 item before: at most a few bytes (413 too_large)"), "{said}");
    assert!(!server.queue().sealed);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large");
    std::fs::write(&file, &long).unwrap();
    let path = file.to_str().unwrap();
    let output = run(&server.url(), &["push", "-q", "q", "-f", path], b"");
    assert!(stderr(&output).contains(&format!("cannot push {path} (2000 bytes)")), "{}", stderr(&output));
}

/// Uses `script`, which gives the program a terminal.
#[test]
#[ignore = "needs script of util-linux: just test-programs"]
fn only_a_terminal_gets_a_progress_bar() {
    let server = Server::start();
    let script = format!("seq 5000 | {} push -q q", env!("CARGO_BIN_EXE_queuectl"));
    let mut terminal = std::process::Command::new("script");
    terminal.args(["-q", "-e", "-c", &script, "/dev/null"]).env("QUEUE_URL", server.url());
    let output = terminal.env("TERM", "xterm").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let seen = stdout(&output);
    assert!(seen.contains(" items, ") && seen.contains("/s, "), "{seen:?}");
    assert!(seen.contains("pushed 5000 items"), "{seen:?}");
    let output = run(&server.url(), &["push", "-q", "q"], b"a\nb\n");
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("pushed 2 items\n", ""));
}
