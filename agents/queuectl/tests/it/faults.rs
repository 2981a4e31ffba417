//! Faults: lost leases, lost answers, servers that are away or foreign, queues that are missing.

use crate::ending::wait_for_output;
use crate::queuectl::{command, run, stderr, stdout, work, worker};
use crate::server::Server;
use nix::sys::signal::Signal;
use serde_json::json;
use std::io::Write;
use trial::signal;

#[test]
fn lease_is_extended_while_its_command_runs() {
    let server = Server::with(&["a"]);
    server.queue().lease_ms = 300;
    let directory = tempfile::tempdir().unwrap();
    let end = directory.path().join("end");
    let script = "while [ ! -e $0 ]; do :; done";
    let child =
        command(&server.url(), ["run", "-q", "q", "--", "sh", "-c", script]).arg(&end).spawn().unwrap();
    server.wait_until("extended again and again", |queue| queue.extensions >= 5);
    std::fs::write(end, "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(server.queue().acked, ["a"]);
}

#[test]
fn lost_lease_stops_its_command() {
    let server = Server::with(&["a"]);
    server.queue().lease_ms = 300;
    let script =
        "[ $ITEM_ATTEMPT = 1 ] || exit 0; trap 'echo stopped; exit 0' TERM; echo begun; while :; do :; done";
    let mut child = worker(&server, &[], script);
    wait_for_output(&mut child, "begun");
    server.queue().take_leases_away = true;
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), "stopped\n"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("event=lease_lost"), "{}", stderr(&output));
    let queue = server.queue();
    assert_eq!((queue.acked.as_slice(), queue.nacked.len()), (&["a".to_owned()][..], 0));
}

#[test]
fn late_ack_is_logged_and_harmless() {
    let server = Server::with(&["a", "b"]);
    let directory = tempfile::tempdir().unwrap();
    let end = directory.path().join("end");
    let script = "while [ ! -e $0 ]; do :; done";
    let child =
        command(&server.url(), ["run", "-q", "q", "--", "sh", "-c", script]).arg(&end).spawn().unwrap();
    server.wait_until("it works", |queue| queue.leased.len() == 1);
    // The item is another worker's by now, and this worker has not noticed.
    server.queue().leased.clear();
    std::fs::write(end, "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("event=report_too_late"), "{}", stderr(&output));
    assert!(stderr(&output).contains("done=1 failed=0 released=0 lost=1"), "{}", stderr(&output));
    assert_eq!(server.queue().acked, ["b"]);
}

#[test]
fn lost_answers_lose_no_items() {
    let server = Server::with(&["a", "b", "c"]);
    // The first lost answer loses its leased items too; they come again when the lease expires.
    server.queue().lose_answers_to = vec!["lease"];
    let child = worker(&server, &[], "echo $ITEM");
    server.wait_until("the answer is lost", |queue| queue.lose_answers_to.is_empty());
    server.wait_until("the others are done", |queue| queue.acked.len() == 2);
    let (token, item) = server.queue().leased.pop_first().unwrap();
    assert!(!token.is_empty());
    server.put(item.body);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(server.queue().acked, ["b", "c", "a"]);
}

#[test]
fn missing_server_is_waited_for() {
    let mut server = Server::with(&["a"]);
    server.vanish();
    let child = worker(&server, &[], "echo $ITEM");
    server.come_back();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "a\n"), "{}", stderr(&output));
}

#[test]
fn restart_of_the_server_is_survived() {
    let mut server = Server::with(&["a", "b"]);
    server.queue().lease_ms = 600;
    let directory = tempfile::tempdir().unwrap();
    let end = directory.path().join("end");
    let script = "echo $ITEM; while [ ! -e $0 ]; do :; done";
    let child =
        command(&server.url(), ["run", "-q", "q", "--", "sh", "-c", script]).arg(&end).spawn().unwrap();
    server.wait_until("it works", |queue| queue.leased.len() == 1);
    server.vanish();
    server.come_back();
    let extensions = server.queue().extensions;
    server.wait_until("extended after the restart", |queue| queue.extensions > extensions);
    server.vanish();
    std::fs::write(end, "").unwrap();
    server.come_back();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "a\nb\n"), "{}", stderr(&output));
    assert_eq!(server.queue().acked, ["a", "b"]);
    assert!(server.queue().nacked.is_empty());
}

#[test]
fn server_errors_are_retried_and_refusals_are_not() {
    let server = Server::with(&["a"]);
    server.queue().refuse = Some(503);
    let child = worker(&server, &[], "echo $ITEM");
    server.wait_until("asked again", |queue| queue.requests.len() >= 3);
    server.queue().refuse = None;
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "a\n"), "{}", stderr(&output));

    for (status, code) in [(401, 78), (403, 78), (422, 1)] {
        server.queue().refuse = Some(status);
        let output = work(&server, &["-j", "3"], "exit 0");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("as told ({status} refused)")), "{}", stderr(&output));
    }
}

#[test]
fn server_that_is_not_queued_is_an_error() {
    let server = Server::with(&["a"]);
    for (status, text) in
        [(404, "<!DOCTYPE html>\n<title>404"), (404, ""), (200, "<html>"), (501, ""), (302, "")]
    {
        server.queue().foreign_answer = Some((status, text));
        for arguments in [
            &["run", "-q", "q", "--", "true"][..],
            &["push", "-q", "q", "x"],
            &["push", "-q", "q", "x", "y"],
            &["queues"],
        ] {
            let output = run(&server.url(), arguments, b"");
            assert_eq!(output.status.code(), Some(1), "{status} {arguments:?}: {}", stderr(&output));
            let said = stderr(&output);
            assert!(
                said.contains(&format!("this server is not queued: it answered with {status}")),
                "{said}"
            );
        }
    }
}

#[test]
fn server_that_does_not_speak_http_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // The greeting may come before the request or after it, so the first connection may prove nothing.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let output = run(&url, &["run", "-q", "q", "--", "true"], b"");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("something other than HTTP"), "{}", stderr(&output));
}

#[test]
fn proxy_without_a_route_is_waited_out() {
    let server = Server::with(&["a", "b"]);
    let directory = tempfile::tempdir().unwrap();
    let end = directory.path().join("end");
    let script = "echo $ITEM; while [ ! -e $0 ]; do :; done";
    let child =
        command(&server.url(), ["run", "-q", "q", "--", "sh", "-c", script]).arg(&end).spawn().unwrap();
    server.wait_until("it works", |queue| queue.leased.len() == 1);
    server.queue().foreign_answer = Some((404, "default backend - 404"));
    std::fs::write(end, "").unwrap();
    server.wait_until("asked again", |queue| queue.requests.len() >= 3);
    server.queue().foreign_answer = None;
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "a\nb\n"), "{}", stderr(&output));
}

#[test]
fn outage_is_reported_once_for_all_jobs() {
    let server = Server::with(&["a"]);
    server.queue().refuse = Some(503);
    let child = worker(&server, &["-j", "8"], "exit 0");
    server.wait_until("all have asked again", |queue| queue.requests.len() >= 24);
    server.queue().refuse = None;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert_eq!(said.matches("event=server_lost").count(), 1, "{said}");
    assert_eq!(said.matches("event=server_returned").count(), 1, "{said}");
}

#[test]
fn missing_queue_is_reported_once_for_all_jobs() {
    let server = Server::start();
    server.queue().missing = Some(vec!["keygen", "qq"]);
    let child = worker(&server, &["-j", "3"], "exit 0");
    server.wait_until("asked again", |queue| queue.requests.len() >= 8);
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    let said = stderr(&output);
    let missing: Vec<&str> =
        said.lines().filter(|line| line.contains("event=queue_missing queue=q")).collect();
    assert!(missing.len() == 1 && missing[0].contains("did you mean qq? there are: keygen, qq"), "{said}");

    server.queue().missing = Some(vec!["keygen", "numbers"]);
    let output = run(&server.url(), &["stats", "-q", "nubmers"], b"");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("has no queue nubmers; did you mean numbers?"), "{}", stderr(&output));
}

#[test]
fn missing_queue_is_waited_for() {
    let server = Server::with(&["a"]);
    server.queue().missing = Some(vec![]);
    let child = worker(&server, &[], "exit 0");
    server.wait_until("asked again", |queue| queue.requests.len() >= 3);
    server.queue().missing = None;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("event=queue_missing queue=q") && said.contains("there are no queues yet"),
        "{said}"
    );
    assert!(said.contains("event=queue_created queue=q"), "{said}");
}

#[test]
fn token_is_read_for_each_request() {
    let server = Server::with(&["a"]);
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let token = token.to_str().unwrap();
    let script = format!("printf second > {token}");
    let arguments = ["run", "-q", "q", "--token-file", token, "--", "sh", "-c", &script];
    assert_eq!(run(&server.url(), &arguments, b"").status.code(), Some(0));
    assert_eq!(server.queue().authorization.as_deref(), Some("Bearer second"));

    let output = run(
        &server.url(),
        &["push", "-q", "q", "--token-file", "/does/not/exist", "--give-up", "0s", "x"],
        b"",
    );
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stderr(&output).contains("/does/not/exist"), "{}", stderr(&output));
    server.put(json!({"body": "b"}));
}
