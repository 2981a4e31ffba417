//! Moves keys between real servers, also when the program is killed and while clients write.

use crate::kvctl::{command, fails, run, says};
use crate::server::Kvd;
use std::collections::BTreeMap;
use trial::wait_until;

const KEYS: usize = 260;

fn hosts(servers: &[Kvd]) -> String {
    servers.iter().map(Kvd::host).collect::<Vec<_>>().join(",")
}

/// The key with this number: ten for each letter.
fn key(number: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    format!("{letter}{}", number / 26)
}

fn server_of(key: &str, servers: usize) -> usize {
    usize::from(key.as_bytes()[0]) % servers
}

/// Puts every key on its own server of three.
fn fill(servers: &[Kvd]) {
    for (number, server) in servers.iter().enumerate() {
        let own = (0..KEYS).map(key).filter(|key| server_of(key, servers.len()) == number);
        let lines: Vec<String> =
            own.map(|key| format!("{{\"key\":\"{key}\",\"revision\":1,\"value\":\"of {key}\"}}\n")).collect();
        let text =
            format!("{{\"kvd_backup\":1,\"revision\":1}}\n{}{{\"keys\":{}}}\n", lines.concat(), lines.len());
        assert!(run(&server.url(), &["restore", "-"], text.as_bytes()).status.success());
    }
}

/// Every key is on its server of the first `count`, once, with its value; nothing else is anywhere.
#[track_caller]
fn all_are_at_home(servers: &[Kvd], count: usize) {
    let mut found = BTreeMap::new();
    for (number, server) in servers.iter().enumerate() {
        for line in says(&server.url(), &["list", "--values"]).lines() {
            let (key, value) = line.split_once('\t').unwrap();
            assert_eq!(server_of(key, count), number, "{key} of {count}");
            assert_eq!(value, format!("of {key}"));
            assert!(found.insert(key.to_owned(), number).is_none(), "{key} is there twice");
        }
    }
    assert_eq!(found.len(), KEYS);
}

#[test]
fn keys_move_from_three_to_five_to_two_to_three_servers() {
    let servers: Vec<Kvd> = (0..5).map(|_| Kvd::start()).collect();
    fill(&servers[..3]);
    let mut before = 3;
    for after in [5, 2, 3] {
        let (as_is, to_be) = (hosts(&servers[..before]), hosts(&servers[..after]));
        let said = says("http://unused.invalid", &["rebalance", &as_is, &to_be]);
        assert!(said.starts_with("moved ") && said.ends_with("conflicts 0\n"), "{said}");
        all_are_at_home(&servers, after);
        let again = says("http://unused.invalid", &["rebalance", &as_is, &to_be]);
        assert_eq!(again, format!("moved 0, stayed {KEYS}, conflicts 0\n"));
        before = after;
    }
}

#[test]
fn killed_rebalance_is_finished_by_the_next_one() {
    let servers: Vec<Kvd> = (0..5).map(|_| Kvd::start()).collect();
    fill(&servers[..3]);
    let all = hosts(&servers);
    let count = |server: &Kvd| says(&server.url(), &["list"]).lines().count();
    // Toward other numbers of servers each time, so that what was begun for one is finished for another.
    for round in 0..12 {
        let to_be = hosts(&servers[..[5, 2, 4][round % 3]]);
        let counts: Vec<usize> = servers.iter().map(count).collect();
        let mut child = command("http://unused.invalid", ["rebalance", &all, &to_be]).spawn().unwrap();
        wait_until("some keys to move", || {
            let moved = servers.iter().map(count).zip(&counts).any(|(now, before)| now > before + round);
            moved || child.try_wait().unwrap().is_some()
        });
        let _ = child.kill();
        child.wait().unwrap();
    }
    says("http://unused.invalid", &["rebalance", &all, &hosts(&servers[..3])]);
    all_are_at_home(&servers, 3);
}

#[test]
fn key_with_two_values_stays_until_somebody_decides() {
    let servers = [Kvd::start(), Kvd::start()];
    let both = hosts(&servers);
    // b is at home on the first of two servers.
    let put = |server: usize, value: &str| says(&servers[server].url(), &["put", "b", value]);
    let values = || [0, 1].map(|server: usize| run(&servers[server].url(), &["get", "b"], b"").stdout);
    put(0, "new");
    put(1, "old");
    let output = run("http://unused.invalid", &["rebalance", &both, &both], b"");
    assert_eq!(output.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as \"b\": --keep"), "{output:?}");
    assert_eq!(values(), [b"new".to_vec(), b"old".to_vec()]);
    says("http://unused.invalid", &["rebalance", &both, &both, "--keep", "target"]);
    assert_eq!(values(), [b"new".to_vec(), Vec::new()]);
    put(1, "other");
    says("http://unused.invalid", &["rebalance", &both, &both, "--keep", "source"]);
    assert_eq!(values(), [b"other".to_vec(), Vec::new()]);
    assert_eq!(says(&servers[0].url(), &["list"]) + &says(&servers[1].url(), &["list"]), "b\n");
}

#[test]
fn time_to_live_moves_with_the_key() {
    let servers = [Kvd::start(), Kvd::start()];
    says(&servers[0].url(), &["put", "a", "x", "--ttl", "1h"]);
    says("http://unused.invalid", &["rebalance", &hosts(&servers), &hosts(&servers)]);
    let moved = says(&servers[1].url(), &["get", "a", "--json"]);
    assert!(moved.contains("\"expires\""), "{moved}");
}

#[test]
fn absent_server_is_named() {
    let mut servers = [Kvd::start(), Kvd::start()];
    servers[1].go_away();
    let (code, said) = fails("http://unused.invalid", &["rebalance", &hosts(&servers), &servers[0].host()]);
    assert!(code == 75 && said.contains(&servers[1].host()), "{said}");
}
