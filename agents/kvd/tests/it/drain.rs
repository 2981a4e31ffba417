//! Tests draining: the marker, its commands, and SIGTERM.

use crate::daemon::{Kvd, Setup, read_to_end};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use trial::{DEADLINE, ask, run_to_end};

#[test]
fn drain_and_resume_set_and_clear_the_marker() {
    let kvd = Kvd::start(&["--admin", "127.0.0.1:0"]);
    kvd.put("/v1/keys/a", "x").expect(201);
    let run = |command: &str| {
        let output = kvd.run_other(&[command, "--data", "data"]);
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    };
    let ready = || ask(kvd.address("admin"), "GET", "/ready");
    // Hooks may run twice, so both commands may be repeated.
    for _ in 0..2 {
        run("drain");
        assert!(kvd.setup.marker().exists());
        assert_eq!(kvd.get("/load/a").text(), "_shutting_down_");
        for (method, path) in
            [("GET", "/v1/keys/a"), ("PUT", "/v1/keys/a"), ("GET", "/v1/keys"), ("POST", "/v1/batch")]
        {
            let refused = kvd.ask(method, path, &[], b"y").expect(503);
            assert_eq!(refused.error(), "shutting_down", "{method} {path}");
        }
        kvd.wait_until("the server to be unready", || ready().status == 503);
        assert!(ready().text().contains("kvd resume"), "{}", ready().text());
    }
    for _ in 0..2 {
        run("resume");
        assert_eq!(kvd.get("/v1/keys/a").expect(200).text(), "x");
        kvd.wait_until("the server to be ready", || ready().status == 200);
    }
}

#[test]
fn hooks_use_the_environment_of_the_server() {
    let setup = Setup::new(&[]);
    std::fs::create_dir(setup.path("data")).unwrap();
    let run = |command: &str, name: &str, value: &str| {
        let mut kvd = Command::new(env!("CARGO_BIN_EXE_kvd"));
        let output = run_to_end(kvd.arg(command).env_clear().env(name, value).current_dir(setup.directory()));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("drain", "KVD_DATA", "data"), (Some(0), String::new()));
    assert!(setup.marker().exists());
    assert_eq!(run("resume", "KVD_DATA", "data"), (Some(0), String::new()));
    assert!(!setup.marker().exists());
    let (code, said) = run("drain", "KVD_DATA", "memory");
    assert!(code == Some(64) && said.contains("--marker"), "{said}");
    let (code, said) = run("drain", "KVD_DATA", "nowhere");
    assert!(code == Some(1) && said.contains("nowhere/_shutting_down_"), "{said}");
}

#[test]
fn keys_in_memory_are_drained_by_a_marker_of_their_own() {
    let kvd = Kvd::in_memory(&["--marker", "down"]);
    kvd.put("/v1/keys/a", "x").expect(201);
    assert!(kvd.run_other(&["drain", "--data", "memory", "--marker", "down"]).status.success());
    assert_eq!(kvd.get("/load/a").status, 503);
    assert!(kvd.run_other(&["resume", "--data", "memory", "--marker", "down"]).status.success());
    assert_eq!(kvd.get("/load/a").text(), "x");
}

#[test]
fn server_that_starts_drained_says_so_and_refuses() {
    let setup = Setup::new(&["--admin", "127.0.0.1:0"]);
    std::fs::create_dir(setup.path("data")).unwrap();
    std::fs::write(setup.marker(), "").unwrap();
    let process = trial::Process::start(&mut setup.command());
    let http = process.address("http");
    assert_eq!(ask(http, "GET", "/load/a").text(), "_shutting_down_");
    assert!(ask(process.address("admin"), "GET", "/ready").text().contains("_shutting_down_"));
    assert!(setup.run_other(&["resume", "--data", "data"]).status.success());
    process.wait_for("ready");
    assert_eq!(ask(http, "GET", "/load/a").text(), "_key_not_found_");
}

#[test]
fn requests_after_sigterm_are_answered_until_the_linger_is_over() {
    let kvd = Kvd::start(&["--linger", "1h", "--drain-timeout", "2h"]);
    kvd.signal(Signal::SIGTERM);
    kvd.wait_until("it refuses", || kvd.get("/load/a").status == 503);
    assert_eq!(kvd.get("/load/a").text(), "_shutting_down_");
    assert_eq!(kvd.put("/v1/keys/a", "x").expect(503).error(), "shutting_down");
    // The second signal ends the server.
    assert_eq!(kvd.terminate().code(), Some(0));
}

#[test]
fn request_that_was_begun_before_sigterm_is_answered() {
    let kvd = Kvd::start(&["--linger", "100ms"]);
    let idle = kvd.descriptors();
    let mut begun = TcpStream::connect(kvd.http()).unwrap();
    begun.set_read_timeout(Some(DEADLINE)).unwrap();
    begun.write_all(b"GET /load/a HTTP/1.1\r\n").unwrap();
    kvd.wait_until("the connection to be accepted", || kvd.descriptors() > idle);
    // The answer shows that the event loop has read the earlier request, too.
    assert_eq!(kvd.get("/load/a").status, 200);
    kvd.signal(Signal::SIGTERM);
    kvd.wait_until("the address to be closed", || TcpStream::connect(kvd.http()).is_err());
    begun.write_all(b"Host: x\r\n\r\n").unwrap();
    let answer = read_to_end(begun);
    assert_eq!((answer.status, answer.text()), (503, "_shutting_down_"));
    assert_eq!(kvd.join().code(), Some(0));
}
