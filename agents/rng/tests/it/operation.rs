//! Tests flags, environment, probes, changed settings, and the end of the daemon.

use crate::daemon::{Answer, Rng, Setup};
use nix::sys::signal::Signal;
use std::io::Write;
use std::time::{Duration, Instant};
use trial::{ask, wait_until};

#[test]
fn address_comes_from_the_environment_unless_a_flag_gives_it() {
    // The setup adds --http where the arguments have none, so the flag wins here.
    let flag = Setup::new().environment("RNG_HTTP", "127.9.9.9:1").start();
    assert_eq!(flag.get("/").status, 200);

    let setup = Setup::new().environment("RNG_HTTP", "127.0.0.7:0");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rng"));
    command
        .env_clear()
        .current_dir(setup.directory())
        .env("RNG_HTTP", "127.0.0.7:0")
        .env("RNG_LOG_FORMAT", "json");
    let process = trial::Process::start_ready(&mut command);
    assert_eq!(process.address("http").ip().to_string(), "127.0.0.7");
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let refused = |setup: Setup, code: i32, named: &str| {
        let output = setup.run();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        let reason = said.lines().find(|line| line.starts_with("rng: "));
        assert!(reason.is_some_and(|reason| reason.contains(named)), "{said}");
    };
    refused(Setup::new().arguments(&["--http", "8001x"]), 64, "--http");
    refused(Setup::new().arguments(&["--delay", "5"]), 64, "--delay");
    refused(Setup::new().arguments(&["--linger", "25s"]), 64, "raise --drain-timeout");
    refused(Setup::new().arguments(&["--max-connections", "0"]), 64, "--max-connections");
    refused(Setup::new().environment("RNG_DELAY", "soon"), 78, "RNG_DELAY");
    refused(Setup::new().environment("NODE_NAME", "node\n1"), 78, "NODE_NAME");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    refused(Setup::new().arguments(&["--http", &taken]), 1, &taken);
}

#[test]
fn probes_and_metrics_are_at_the_admin_address_if_there_is_one() {
    let alone = Rng::start(&[]);
    for path in ["/ready", "/live", "/healthz", "/metrics"] {
        assert_eq!(alone.get(path).status, 200, "{path}");
    }
    let apart = Rng::start(&["--admin", "127.0.0.1:0"]);
    let admin = apart.admin();
    for path in ["/ready", "/live", "/metrics"] {
        assert_eq!(ask(admin, "GET", path).status, 200, "{path}");
    }
    assert_eq!(apart.get("/ready").status, 200);
    assert_eq!(apart.get("/metrics").status, 404);
}

/// Shows only that serial requests do not overlap. The next test shows that requests without `--serial` do.
#[test]
fn serial_requests_take_the_sum_of_their_delays() {
    let rng = Rng::start(&["--serial", "--delay", "100ms"]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| assert_eq!(rng.get("/32").body.len(), 32));
        }
    });
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn delay_holds_up_random_bytes_alone() {
    let rng = Rng::start(&["--delay", "1h"]);
    let mut waiting = rng.connect();
    waiting.write_all(b"GET /32 HTTP/1.1\r\nHost: rng\r\n\r\n").unwrap();
    for (path, status) in [("/", 200), ("/abc", 404), ("/9999999", 400), ("/ready", 200)] {
        assert_eq!(rng.get(path).status, status, "{path}");
    }
    waiting.set_nonblocking(true).unwrap();
    let error = waiting.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn changed_delay_is_applied_and_a_client_that_left_gives_up_its_place() {
    let setup = Setup::new().arguments(&["--serial", "--config", "rng.toml"]);
    setup.write("rng.toml", "delay = \"1h\"\n");
    let rng = setup.start();
    let idle = rng.descriptors();
    let mut waiting = rng.connect();
    waiting.write_all(b"GET /32 HTTP/1.1\r\nHost: rng\r\n\r\n").unwrap();
    rng.wait_until("the request to be accepted", || rng.descriptors() > idle);
    // The request that is being served does not delay probes.
    assert_eq!(rng.get("/live").status, 200);
    drop(waiting);
    rng.setup.write("rng.toml", "delay = \"0s\"\n");
    rng.wait_for("settings_reloaded");
    assert_eq!(rng.get("/32").body.len(), 32);
}

#[test]
fn requests_are_answered_for_a_while_after_sigterm() {
    let rng = Rng::start(&["--linger", "1h", "--drain-timeout", "2h", "--admin", "127.0.0.1:0"]);
    let admin = rng.admin();
    rng.signal(Signal::SIGTERM);
    wait_until("it is not ready", || ask(admin, "GET", "/ready").status == 503);
    assert_eq!(rng.get("/32").body.len(), 32);
    assert_eq!(ask(admin, "GET", "/live").status, 200);
    // The second signal ends it.
    assert_eq!(rng.terminate().code(), Some(0));
}

#[test]
fn request_that_was_begun_before_sigterm_is_answered() {
    let rng = Rng::start(&["--linger", "100ms"]);
    let idle = rng.descriptors();
    let mut begun = rng.connect();
    begun.write_all(b"GET /32 HTTP/1.1\r\n").unwrap();
    rng.wait_until("the connection to be accepted", || rng.descriptors() > idle);
    // The event loop reads the begun request before this one.
    assert_eq!(rng.get("/0").status, 200);
    rng.signal(Signal::SIGTERM);
    wait_until("the address to be closed", || std::net::TcpStream::connect(rng.address()).is_err());
    begun.write_all(b"Host: rng\r\n\r\n").unwrap();
    assert_eq!(Answer::read(begun).body.len(), 32);
    assert_eq!(rng.join().code(), Some(0));
    assert!(rng.access_lines(2)[1].contains("\"GET /32 HTTP/1.1\" 200 32"));
}
