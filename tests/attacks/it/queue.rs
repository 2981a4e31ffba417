//! Clients of queued that keep a ledger of its answers, and a check of the queue's content against it.

use crate::http::Http;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::Process;

/// Builds the command of queued on a directory, with a queue whose items never become dead.
pub fn command(data: &Path, durability: &str, segment_bytes: &str) -> Command {
    let mut command = Command::new(crate::binaries::binary("queued"));
    configure(&mut command, data, durability, segment_bytes);
    command
}

/// Adds the same flags to a command that ends in the binary's name, such as strace's.
pub fn configure(command: &mut Command, data: &Path, durability: &str, segment_bytes: &str) {
    command.args([
        "--http",
        "127.0.0.1:0",
        "--line",
        "none",
        "--log-format",
        "json",
        "--drain-timeout",
        "5s",
    ]);
    command.args(["--durability", durability, "--segment-bytes", segment_bytes, "--data"]).arg(data);
}

pub fn door(agent: &Process) -> SocketAddr {
    agent.address("http")
}

/// Requests and answers of one queue's clients.
#[derive(Default)]
pub struct Ledger {
    /// Keys of pushes that were sent, answered or not.
    sent: BTreeSet<String>,
    /// Answered pushes: key and id.
    kept: BTreeMap<String, String>,
    /// Ids whose ack was sent, answered or not.
    acking: BTreeSet<String>,
    /// Ids whose ack was answered.
    done: BTreeSet<String>,
}

#[derive(Default)]
pub struct Queue {
    name: String,
    ledger: Mutex<Ledger>,
    next: AtomicU64,
    /// Number of answered pushes and acks.
    pub answers: AtomicU64,
    /// While set, answers do not count.
    pub blackout: AtomicBool,
}

/// Builds a body of up to several pages, each byte of which depends on the key.
fn body_of(key: &str) -> String {
    let seed: usize = key.bytes().map(usize::from).sum();
    let words = 1 + seed * 7919 % 900;
    format!("{key} ").repeat(words)
}

impl Queue {
    pub fn new(name: &str) -> Queue {
        Queue { name: name.to_owned(), ..Queue::default() }
    }

    fn path(&self, what: &str) -> String {
        format!("/v1/queues/{}{what}", self.name)
    }

    pub fn make(&self, http: &mut Http) -> std::io::Result<()> {
        let settings = r#"{"max_attempts":0,"backoff_ms":0}"#;
        let (status, body) = http.call("PUT", &self.path(""), settings)?;
        assert!(status == 200 || status == 201, "{status} {body}");
        Ok(())
    }

    /// Pushes items; true if the server answered that they are kept.
    pub fn push(&self, http: &mut Http, count: usize) -> std::io::Result<bool> {
        let new = |_| format!("{}-{}", self.name, self.next.fetch_add(1, Ordering::Relaxed));
        let keys: Vec<String> = (0..count).map(new).collect();
        self.ledger.lock().unwrap().sent.extend(keys.iter().cloned());
        let items: Vec<Value> = keys.iter().map(|key| json!({"body": body_of(key), "key": key})).collect();
        let (status, answer) = http.post(&self.path("/batch"), &json!({ "items": items }))?;
        if status == 507 || status == 503 || self.blackout.load(Ordering::SeqCst) {
            return Ok(false);
        }
        assert_eq!(status, 201, "{answer}");
        let ids = answer["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap());
        self.ledger.lock().unwrap().kept.extend(keys.into_iter().zip(ids.map(str::to_owned)));
        self.answers.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Runs one cycle of a worker: acks its leased items and leases more.
    pub fn work(&self, http: &mut Http, held: &mut Vec<Value>, max: u64) -> std::io::Result<()> {
        let acks = std::mem::take(held);
        let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
        self.ledger.lock().unwrap().acking.extend(acks.iter().map(id));
        let done_before = self.ledger.lock().unwrap().done.clone();
        let wish = json!({"max": max, "lease_ms": 2000, "ack": acks});
        let (status, answer) = http.post(&self.path("/lease"), &wish)?;
        if status == 404 || status == 503 || self.blackout.load(Ordering::SeqCst) {
            return Ok(());
        }
        assert_eq!(status, 200, "{answer}");
        let results = answer["results"].as_array().unwrap();
        let ok: Vec<String> = results.iter().filter(|result| result["status"] == "ok").map(id).collect();
        self.answers.fetch_add(u64::from(!ok.is_empty()), Ordering::Relaxed);
        self.ledger.lock().unwrap().done.extend(ok);
        for item in answer["items"].as_array().unwrap() {
            assert!(!done_before.contains(&id(item)), "an acked item came back: {item}");
            // One in five is left until its lease expires.
            if fastrand::u8(0..5) > 0 {
                held.push(json!({"id": item["id"], "token": item["token"]}));
            }
        }
        Ok(())
    }

    /// Pushes until the server is gone.
    pub fn produce(&self, address: SocketAddr) {
        let Ok(mut http) = Http::connect(address) else { return };
        while self.push(&mut http, 2).is_ok() {}
    }

    /// Works until the server is gone.
    pub fn consume(&self, address: SocketAddr) {
        let Ok(mut http) = Http::connect(address) else { return };
        let mut held = Vec::new();
        while self.work(&mut http, &mut held, 4).is_ok() {}
    }

    /// Lists the id and key of every item in the queue; each body must match its key.
    fn there(&self, http: &mut Http) -> BTreeMap<String, String> {
        let mut there = BTreeMap::new();
        let mut keys = BTreeSet::new();
        let mut after = String::new();
        loop {
            let (status, body) =
                http.call("GET", &self.path(&format!("/items?limit=1000{after}")), "").unwrap();
            if status == 404 {
                return there;
            }
            assert_eq!(status, 200, "{body}");
            let answer: Value = serde_json::from_str(&body).unwrap();
            let items = answer["items"].as_array().unwrap();
            let Some(last) = items.last() else { return there };
            after = format!("&after={}", last["id"].as_str().unwrap());
            for item in items {
                let (id, key) = (item["id"].as_str().unwrap(), item["key"].as_str().unwrap());
                assert_eq!(item["body"], body_of(key), "item {key} is torn");
                assert!(keys.insert(key.to_owned()), "key {key} is there twice");
                there.insert(id.to_owned(), key.to_owned());
            }
        }
    }

    /// Compares the queue's content with all promises of the ledger.
    pub fn check(&self, http: &mut Http) {
        let there = self.there(http);
        let mut ledger = self.ledger.lock().unwrap();
        for (id, key) in &there {
            assert!(ledger.sent.contains(key), "item {key} was made up");
            assert!(!ledger.done.contains(id), "item {key} was acked and is back");
        }
        for (key, id) in &ledger.kept {
            let promised = !ledger.acking.contains(id);
            assert!(!promised || there.get(id) == Some(key), "item {key} was lost");
        }
        // Acked items need not be checked again.
        ledger.kept.retain(|_, id| there.contains_key(id));
        let Ledger { kept, acking, .. } = &mut *ledger;
        acking.retain(|id| there.contains_key(id));
        // An ack without an answer either was not carried out or has taken effect by now.
        acking.clear();
        // A push without an answer whose item is there must stay from now on.
        kept.extend(there.into_iter().map(|(id, key)| (key, id)));
    }

    /// Checks only that no item is torn or invented, where less is promised. From now on, the ledger holds
    /// the items that are there.
    pub fn take_stock(&self, http: &mut Http) {
        let there = self.there(http);
        let mut ledger = self.ledger.lock().unwrap();
        for key in there.values() {
            assert!(ledger.sent.contains(key), "item {key} was made up");
        }
        ledger.kept = there.into_iter().map(|(id, key)| (key, id)).collect();
        ledger.acking.clear();
        ledger.done.clear();
    }
}
