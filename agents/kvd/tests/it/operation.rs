//! Tests flags, environment variables, probes, TLS and changed settings.

use crate::daemon::{Kvd, Setup};
use std::io::{ErrorKind, Read, Write};
use trial::{ask, connect_from};

#[test]
fn wrong_settings_are_refused_by_name() {
    let refused = |setup: Setup, code: i32, named: &str| {
        let output = setup.run();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        let reason = said.lines().find(|line| line.starts_with("kvd: "));
        assert!(reason.is_some_and(|reason| reason.contains(named)), "{said}");
    };
    refused(Setup::new(&["--http", "8002x"]), 64, "--http");
    refused(Setup::new(&["--max-value-bytes", "9MiB"]), 64, "raise --max-request-bytes");
    refused(Setup::new(&["--linger", "25s"]), 64, "raise --drain-timeout");
    refused(Setup::new(&["--tokens", "missing"]), 78, "missing");
    refused(Setup::new(&[]).environment("KVD_MAX_BYTES", "much"), 78, "KVD_MAX_BYTES");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    refused(Setup::new(&["--http", &taken]), 1, &taken);
    let setup = Setup::new(&["--data", "file/data"]);
    setup.write("file", "");
    refused(setup, 1, "file/data (--data)");
}

#[test]
fn second_server_on_the_same_directory_is_told_of_the_first() {
    let kvd = Kvd::start(&[]);
    let output = kvd.run_other(&["--data", "data", "--http", "127.0.0.1:0"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains(&format!("another kvd (process {} on ", kvd.pid())), "{said}");
}

#[test]
fn start_beside_a_locked_database_is_to_be_repeated() {
    let setup = Setup::new(&[]);
    std::fs::create_dir(setup.path("data")).unwrap();
    let other = rusqlite::Connection::open(setup.path("data/kvd.sqlite")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE; CREATE TABLE entries (key TEXT)").unwrap();
    let output = setup.run();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(75) && said.contains("kvd.sqlite: database is locked"), "{said}");
}

#[test]
fn invalid_keys_of_other_programs_are_skipped() {
    let mut kvd = Kvd::start(&[]);
    kvd.put("/v1/keys/a", "x").expect(201);
    assert_eq!(kvd.terminate().code(), Some(0));
    let other = rusqlite::Connection::open(kvd.setup.path("data/kvd.sqlite")).unwrap();
    let rows = "('a' || char(10), x'61', 1, 1), ('b' || char(10), x'61', 2, NULL), ('c', x'61', 3, NULL)";
    other.execute_batch(&format!("INSERT INTO entries VALUES {rows}")).unwrap();
    drop(other);
    kvd.kill_and_restart();
    kvd.wait_for("foreign_key_expired");
    assert_eq!(kvd.get("/allKeys").text(), "a,c");
    assert_eq!(kvd.get_whole("/v1/backup").text().lines().count(), 4);
    kvd.put("/v1/keys/d", "x").expect(201);
}

#[test]
fn probes_and_metrics_are_at_the_admin_address_if_there_is_one() {
    let alone = Kvd::in_memory(&[]);
    for path in ["/ready", "/live", "/healthz", "/metrics"] {
        assert_eq!(alone.get(path).status, 200, "{path}");
    }
    let apart = Kvd::in_memory(&["--admin", "127.0.0.1:0"]);
    for path in ["/ready", "/live", "/metrics"] {
        assert_eq!(ask(apart.address("admin"), "GET", path).status, 200, "{path}");
    }
    assert_eq!(apart.get("/ready").status, 200);
    assert_eq!(apart.get("/metrics").status, 404);
}

#[test]
fn strangers_are_refused_until_the_settings_change() {
    let setup = Setup::new(&["--data", "memory", "--config", "kvd.toml"]);
    setup.write("kvd.toml", "allow = \"127.0.0.1/32\"\n");
    let kvd = Kvd::of(setup);
    let serves = || {
        let mut stranger = connect_from("127.0.0.2", kvd.http());
        let _ = stranger.write_all(b"GET /load/a HTTP/1.1\r\nHost: x\r\n\r\n");
        match stranger.read(&mut [0; 64]) {
            Ok(0) => false,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => false,
            Ok(_) => true,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(!serves());
    kvd.setup.write("kvd.toml", "allow = \"127.0.0.0/8\"\n");
    kvd.wait_until("the stranger to be served", serves);
}

#[test]
fn keys_of_other_sites_pages_are_refused() {
    let kvd = Kvd::in_memory(&[]);
    for header in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        assert_eq!(kvd.ask("PUT", "/v1/keys/a", &[header], b"x").status, 403);
        assert_eq!(kvd.ask("POST", "/v1/batch", &[header], b"{\"operations\":[]}").status, 403);
    }
    assert_eq!(kvd.get("/v1/keys/a").status, 404);
}

/// The listing and the figures are the same after a restart.
#[test]
fn keys_survive_a_restart_in_order() {
    let mut kvd = Kvd::start(&[]);
    kvd.put("/v1/keys/a?ttl=1h", b"\xff").expect(201);
    let before = (kvd.get("/v1/keys?values=true").json(), kvd.get("/v1/stats").json());
    assert_eq!(kvd.terminate().code(), Some(0));
    kvd.kill_and_restart();
    assert_eq!((kvd.get("/v1/keys?values=true").json(), kvd.get("/v1/stats").json()), before);
    assert_eq!(before.1["engine"], "disk");
}
