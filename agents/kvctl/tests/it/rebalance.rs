//! Tests moves of keys between real servers, while clients write and when the program is killed.

use crate::gate::{Requests, relay};
use crate::kvctl::{command, fails, run, says};
use crate::server::Kvd;
use std::collections::BTreeMap;
use std::sync::Arc;
use trial::wait_until;

const KEYS: usize = 260;

fn hosts(servers: &[Kvd]) -> String {
    servers.iter().map(Kvd::host).collect::<Vec<_>>().join(",")
}

/// Returns the key with this number. There are ten keys for each letter.
fn key(number: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    format!("{letter}{}", number / 26)
}

fn server_of(key: &str, servers: usize) -> usize {
    usize::from(key.as_bytes()[0]) % servers
}

/// Puts the first `keys` keys, each on its own server among these.
fn fill(servers: &[Kvd], keys: usize) {
    for (number, server) in servers.iter().enumerate() {
        let own = (0..keys).map(key).filter(|key| server_of(key, servers.len()) == number);
        let lines: Vec<String> =
            own.map(|key| format!("{{\"key\":\"{key}\",\"revision\":1,\"value\":\"of {key}\"}}\n")).collect();
        let text =
            format!("{{\"kvd_backup\":1,\"revision\":1}}\n{}{{\"keys\":{}}}\n", lines.concat(), lines.len());
        assert!(run(&server.url(), &["restore", "-"], text.as_bytes()).status.success());
    }
}

/// Checks that each of the first `keys` keys is on its own server among the first `count`, with its value.
/// The servers must have nothing else.
#[track_caller]
fn all_are_at_home(servers: &[Kvd], count: usize, keys: usize) {
    let mut found = BTreeMap::new();
    for (number, server) in servers.iter().enumerate() {
        for line in says(&server.url(), &["list", "--values"]).lines() {
            let (key, value) = line.split_once('\t').unwrap();
            assert_eq!(server_of(key, count), number, "{key} of {count}");
            assert_eq!(value, format!("of {key}"));
            assert!(found.insert(key.to_owned(), number).is_none(), "{key} is there twice");
        }
    }
    assert_eq!(found.len(), keys);
}

#[test]
fn keys_move_from_three_to_five_to_two_to_three_servers() {
    let servers: Vec<Kvd> = (0..5).map(|_| Kvd::start()).collect();
    fill(&servers[..3], KEYS);
    let mut before = 3;
    for after in [5, 2, 3] {
        let (as_is, to_be) = (hosts(&servers[..before]), hosts(&servers[..after]));
        let said = says("http://unused.invalid", &["rebalance", &as_is, &to_be]);
        assert!(said.starts_with("moved ") && said.ends_with("conflicts 0\n"), "{said}");
        all_are_at_home(&servers, after, KEYS);
        let again = says("http://unused.invalid", &["rebalance", &as_is, &to_be]);
        assert_eq!(again, format!("moved 0, stayed {KEYS}, conflicts 0\n"));
        before = after;
    }
}

#[test]
fn server_with_two_names_is_refused() {
    let server = [Kvd::start()];
    fill(&server, KEYS);
    let (one, other) = (server[0].host(), server[0].url() + "/");
    let (code, said) = fails("http://unused.invalid", &["rebalance", &one, &format!("{one},{other}")]);
    assert!(code == 64 && said.contains("are the same server"), "{code}: {said}");
    all_are_at_home(&server, 1, KEYS);
}

#[test]
fn killed_rebalance_is_finished_by_the_next_one() {
    let servers: Vec<Kvd> = (0..5).map(|_| Kvd::start()).collect();
    fill(&servers[..3], KEYS);
    let all = hosts(&servers);
    let count = |server: &Kvd| says(&server.url(), &["list"]).lines().count();
    // The number of servers changes each time, so that moves for one number are finished for another.
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
    all_are_at_home(&servers, 3, KEYS);
}

/// Moves keys to two servers, and is killed before each of its requests in turn. The next run continues to
/// two servers, or goes straight back to three.
#[test]
fn rebalance_killed_before_any_request_loses_and_doubles_nothing() {
    // One for each letter, so that every batch has several keys.
    const FEW: usize = 26;
    let servers: Vec<Kvd> = (0..3).map(|_| Kvd::start()).collect();
    fill(&servers, FEW);
    let requests = Arc::new(Requests::default());
    let relays: Vec<String> = servers.iter().map(|server| relay(server.address(), &requests)).collect();
    let (three, two) = (relays.join(","), relays[..2].join(","));
    let rebalance = |to_be: &str, count| {
        says("http://unused.invalid", &["rebalance", &three, to_be]);
        all_are_at_home(&servers, count, FEW);
    };
    let mut kills = 0;
    for number in 1.. {
        for goes_on in [true, false] {
            requests.hold(number);
            let mut child = command("http://unused.invalid", ["rebalance", &three, &two]).spawn().unwrap();
            wait_until("the request or the end", || {
                requests.one_is_held() || child.try_wait().unwrap().is_some()
            });
            kills += usize::from(requests.one_is_held());
            let _ = child.kill();
            child.wait().unwrap();
            requests.hold(0);
            if goes_on {
                rebalance(&two, 2);
            }
            rebalance(&three, 3);
        }
        if kills < 2 * number {
            break;
        }
    }
    assert!(kills > 60, "only {kills} kills: four routes have more requests");
}

#[test]
fn many_keys_share_requests() {
    const MANY: usize = 5200;
    let servers = [Kvd::start(), Kvd::start()];
    fill(&servers[..1], MANY);
    let requests = Arc::new(Requests::default());
    let relays = servers.each_ref().map(|server| relay(server.address(), &requests)).join(",");
    requests.hold(0);
    let said = says("http://unused.invalid", &["rebalance", &relays, &relays]);
    assert_eq!(said, format!("moved {}, stayed {}, conflicts 0\n", MANY / 2, MANY / 2));
    all_are_at_home(&servers, 2, MANY);
    assert!(requests.count() < MANY / 26, "{} requests", requests.count());
}

#[test]
fn keys_of_any_length_move() {
    let servers = [Kvd::start(), Kvd::start()];
    let keys = [990, 1001, 1015, 1016, 1024].map(|length| "a".repeat(length));
    for key in &keys {
        says(&servers[0].url(), &["put", key, "x"]);
    }
    // Each key is killed in the middle of its move once, so that the next run reads its note.
    let requests = Arc::new(Requests::default());
    let relays = servers.each_ref().map(|server| relay(server.address(), &requests)).join(",");
    for number in 1.. {
        requests.hold(number);
        let mut child = command("http://unused.invalid", ["rebalance", &relays, &relays]).spawn().unwrap();
        wait_until("the request or the end", || {
            requests.one_is_held() || child.try_wait().unwrap().is_some()
        });
        let _ = child.kill();
        child.wait().unwrap();
        if !requests.one_is_held() {
            break;
        }
    }
    let listed = keys.map(|key| format!("{key}\n")).concat();
    assert_eq!(
        (says(&servers[0].url(), &["list"]), says(&servers[1].url(), &["list"])),
        (String::new(), listed)
    );
}

#[test]
fn key_with_two_values_stays_until_somebody_decides() {
    let servers = [Kvd::start(), Kvd::start()];
    let both = hosts(&servers);
    // The home of b is the first of two servers.
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
