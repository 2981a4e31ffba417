//! Clients of kvd that keep a ledger of its answers, and a check of the keys against the ledger.

use crate::http::Http;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The number of keys of each writer, so that most puts replace a value.
const KEYS_OF_A_WRITER: u64 = 5;

const COUNTER: &str = "counter";

/// Builds the command of kvd on a directory.
pub fn command(data: &Path) -> Command {
    let mut command = Command::new(crate::binaries::binary("kvd"));
    configure(&mut command, data);
    command
}

/// Adds the same flags to a command that ends in the binary's name, such as strace's.
pub fn configure(command: &mut Command, data: &Path) {
    command.args(["--http", "127.0.0.1:0", "--log-format", "json", "--linger", "0s", "--data"]).arg(data);
}

/// The last answered number of a key, and the last one that was sent. Numbers only increase.
#[derive(Debug, Default)]
struct Numbers {
    answered: u64,
    sent: u64,
}

#[derive(Default)]
struct Ledger {
    puts: BTreeMap<String, Numbers>,
    /// The values of the counter from which an increment was sent, and those from which one was answered.
    increments_sent: BTreeSet<u64>,
    increments_answered: BTreeSet<u64>,
}

/// Sends requests to one kvd, and records its answers.
#[derive(Default)]
pub struct Keys {
    ledger: Mutex<Ledger>,
    next: AtomicU64,
    /// The number of answered writes.
    pub answers: AtomicU64,
    /// While set, answers do not count.
    pub blackout: AtomicBool,
}

/// Builds a value of up to several pages, each byte of which depends on the key and the number.
fn value_of(key: &str, number: u64) -> String {
    let words = 1 + number * 7919 % 900;
    format!("{key}={number} ").repeat(usize::try_from(words).unwrap())
}

fn path_of(key: &str) -> String {
    format!("/v1/keys/{key}")
}

/// Returns the number in a value, which must be whole.
#[track_caller]
fn number_in(key: &str, value: &str) -> u64 {
    let number = value.split(['=', ' ']).nth(1).and_then(|number| number.parse().ok()).unwrap_or_default();
    assert_eq!(value, value_of(key, number), "{key} is torn");
    number
}

impl Keys {
    /// Creates the counter if it is missing.
    pub fn make(&self, http: &mut Http) -> std::io::Result<()> {
        let put = json!({"op": "put", "key": COUNTER, "value": "0", "if_none_match": "*"});
        let (status, answer) = http.post("/v1/batch", &json!({ "operations": [put] }))?;
        assert!(matches!(status, 200 | 412 | 503 | 507), "{status} {answer}");
        Ok(())
    }

    /// True if the answer counts. Refusals, and answers given after the power was cut, do not count.
    fn counts(&self, status: u16) -> bool {
        let counts = !matches!(status, 503 | 507) && !self.blackout.load(Ordering::SeqCst);
        self.answers.fetch_add(u64::from(counts), Ordering::Relaxed);
        counts
    }

    /// Sets one of the writer's keys to the next number. Returns true if the server confirmed the write.
    pub fn put(&self, http: &mut Http, writer: usize) -> std::io::Result<bool> {
        let number = 1 + self.next.fetch_add(1, Ordering::Relaxed);
        let key = format!("{writer}/{}", number % KEYS_OF_A_WRITER);
        self.ledger.lock().unwrap().puts.entry(key.clone()).or_default().sent = number;
        let (status, answer) = http.call("PUT", &path_of(&key), &value_of(&key, number))?;
        if !self.counts(status) {
            return Ok(false);
        }
        assert!(matches!(status, 200 | 201), "{status} {answer}");
        self.ledger.lock().unwrap().puts.entry(key).or_default().answered = number;
        Ok(true)
    }

    /// Increments the counter by compare-and-set. Does nothing if it is missing or another client is faster.
    pub fn increment(&self, http: &mut Http) -> std::io::Result<()> {
        let (status, page) = http.call("GET", &format!("/v1/keys?prefix={COUNTER}&values=true"), "")?;
        if status == 503 || self.blackout.load(Ordering::SeqCst) {
            return Ok(());
        }
        assert_eq!(status, 200, "{page}");
        let page: Value = serde_json::from_str(&page)?;
        let Some(counter) = page["keys"].get(0) else { return Ok(()) };
        let from: u64 = counter["value"].as_str().unwrap().parse().unwrap();
        self.ledger.lock().unwrap().increments_sent.insert(from);
        let next = (from + 1).to_string();
        let put = json!({"op": "put", "key": COUNTER, "value": next, "if_match": counter["revision"]});
        let (status, answer) = http.post("/v1/batch", &json!({ "operations": [put] }))?;
        if status == 412 || !self.counts(status) {
            return Ok(());
        }
        assert_eq!(status, 200, "{answer}");
        let is_first = self.ledger.lock().unwrap().increments_answered.insert(from);
        assert!(is_first, "two increments of {from} were answered");
        Ok(())
    }

    /// Writes until the server is gone. Even writers set their own keys, and odd ones increment the counter.
    pub fn write(&self, address: SocketAddr, writer: usize) {
        let Ok(mut http) = Http::connect(address) else { return };
        let mut step = || match writer % 2 {
            0 => self.put(&mut http, writer).map(drop),
            _ => self.increment(&mut http),
        };
        while step().is_ok() {}
    }

    /// Compares the keys with the ledger. Present values must stay from now on.
    pub fn check(&self, http: &mut Http) {
        let ledger = &mut *self.ledger.lock().unwrap();
        let mut get = |key: &str| match http.call("GET", &path_of(key), "").unwrap() {
            (404, _) => None,
            (200, value) => Some(value),
            (status, why) => panic!("{key}: {status} {why}"),
        };
        for (key, numbers) in &mut ledger.puts {
            let found = get(key).map_or(0, |value| number_in(key, &value));
            assert!((numbers.answered..=numbers.sent).contains(&found), "{key}: {found} of {numbers:?}");
            *numbers = Numbers { answered: found, sent: found };
        }
        let counter: u64 = get(COUNTER).map_or(0, |value| value.parse().unwrap());
        let lost = ledger.increments_answered.range(counter..).next();
        assert_eq!(lost, None, "an answered increment is lost, the counter is {counter}");
        let made_up = (0..counter).find(|value| !ledger.increments_sent.contains(value));
        assert_eq!(made_up, None, "nobody incremented this value, the counter is {counter}");
    }
}
