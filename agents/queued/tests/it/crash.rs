//! SIGKILL at arbitrary moments, dozens of times, with real producers and workers.

use crate::daemon::Queued;
use crate::http::{Answer, Http};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::wait_until;

const KILLS: u64 = 30;
const PRODUCERS: usize = 3;
const WORKERS: usize = 6;

/// The answers that clients got, and the items that they saw.
#[derive(Default)]
struct History {
    /// Keys whose push was answered, with the id.
    kept: BTreeMap<String, String>,
    /// Ids whose ack was answered.
    done: BTreeSet<String>,
    delivered: BTreeMap<String, u64>,
}

struct Test {
    address: Mutex<SocketAddr>,
    history: Mutex<History>,
    producing: AtomicBool,
    acks: AtomicU64,
}

impl Test {
    /// Makes one call, and reconnects if the server was killed.
    fn call(&self, http: &mut Option<Http>, path: &str, body: &Value) -> Option<Answer> {
        let address = *self.address.lock().unwrap();
        let mut connection = http.take().or_else(|| Http::try_connect(address))?;
        let answer = connection.try_call("POST", path, body.to_string().as_bytes()).ok()?;
        *http = Some(connection);
        Some(answer)
    }

    fn produce(&self, producer: usize) {
        let (mut http, mut n) = (None, 0);
        while self.producing.load(Ordering::Relaxed) {
            let keys = [format!("{producer}-{n}"), format!("{producer}-{}", n + 1)];
            let items: Vec<Value> = keys.iter().map(|key| json!({"body": key, "key": key})).collect();
            let Some(answer) = self.call(&mut http, "/v1/queues/q/batch", &json!({ "items": items })) else {
                continue;
            };
            let pushed = answer.expect(201).json();
            let mut history = self.history.lock().unwrap();
            for (key, item) in keys.into_iter().zip(pushed["items"].as_array().unwrap()) {
                history.kept.insert(key, item["id"].as_str().unwrap().to_owned());
            }
            n += 2;
        }
    }

    fn work(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut http, mut ack) = (None, Vec::<Value>::new());
        loop {
            let done_before = self.history.lock().unwrap().done.clone();
            let action = json!({"max": 3, "wait_ms": 200, "lease_ms": 300, "ack": ack});
            let Some(answer) = self.call(&mut http, "/v1/queues/q/lease", &action) else {
                // The acks may or may not have arrived; their leases will show it.
                ack.clear();
                continue;
            };
            if answer.status == 404 {
                continue;
            }
            let answer = answer.expect(200).json();
            let mut history = self.history.lock().unwrap();
            for result in
                answer["results"].as_array().unwrap().iter().filter(|result| result["status"] == "ok")
            {
                history.done.insert(result["id"].as_str().unwrap().to_owned());
                self.acks.fetch_add(1, Ordering::Relaxed);
            }
            ack.clear();
            for item in answer["items"].as_array().unwrap() {
                let id = item["id"].as_str().unwrap().to_owned();
                assert!(!done_before.contains(&id), "an acked item came back: {item}");
                *history.delivered.entry(id).or_default() += 1;
                // Some workers die with their items.
                if random.u8(0..20) > 0 {
                    ack.push(json!({"id": item["id"], "token": item["token"]}));
                }
            }
            if answer["done"] == true && !self.producing.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

#[test]
fn sigkill_loses_no_push_and_no_ack() {
    let mut daemon = Queued::start(&["--segment-bytes", "64KiB"]);
    daemon.http().call("PUT", "/v1/queues/q", r#"{"max_attempts":0,"backoff_ms":0}"#).expect(201);
    let test = Test {
        address: Mutex::new(daemon.http_address()),
        history: Mutex::default(),
        producing: AtomicBool::new(true),
        acks: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            scope.spawn({
                let test = &test;
                move || test.produce(producer)
            });
        }
        for worker in 0..WORKERS {
            scope.spawn({
                let test = &test;
                move || test.work(worker as u64)
            });
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..KILLS {
            let enough = test.acks.load(Ordering::Relaxed) + random.u64(1..200);
            wait_until("some more are done", || test.acks.load(Ordering::Relaxed) >= enough);
            daemon.kill9();
            daemon.restart();
            *test.address.lock().unwrap() = daemon.http_address();
        }
        test.producing.store(false, Ordering::Relaxed);
    });
    let history = test.history.lock().unwrap();
    let queue = daemon.get("/v1/queues/q").json();
    assert_eq!(queue["verdict"], "drained");
    assert!(history.kept.len() > 1000, "{} pushes are too few to tell", history.kept.len());
    for (key, id) in &history.kept {
        assert!(history.delivered.contains_key(id), "{key} was acknowledged and never delivered");
    }
    let missing = history.kept.values().filter(|id| !history.done.contains(*id)).count();
    // An ack whose answer was lost may have been carried out.
    assert!(missing < history.kept.len() / 2, "{missing} of {} have no answered ack", history.kept.len());
    let ids: BTreeSet<&String> = history.kept.values().collect();
    assert_eq!(ids.len(), history.kept.len(), "pushes with different keys are different items");
    assert_eq!((&queue["backlog"], &queue["dead"]), (&json!(0), &json!(0)));
}

#[test]
fn answered_requests_survive_sigkill() {
    let mut daemon = Queued::start(&[]);
    let http = &mut daemon.http();
    let settings = r#"{"lease_ms":60000,"max_attempts":7,"dead_letter_queue":"graves"}"#;
    http.call("PUT", "/v1/queues/q", settings).expect(201);
    http.post("/v1/queues/q/items?key=k", [0xff, 0x00]).expect(201);
    let batch = http.post("/v1/queues/q/batch?seal=true", "two\nthree\nfour").expect(201).json();
    let leased = http.post("/v1/queues/q/lease", r#"{"max":2,"worker":"w"}"#).expect(200).json();
    let (one, two) = (&leased["items"][0], &leased["items"][1]);
    http.post("/v1/queues/q/ack", json!({"id": one["id"], "token": one["token"]}).to_string()).expect(200);
    let before = http.get("/v1/queues/q").json();
    daemon.kill9();
    daemon.restart();
    let http = &mut daemon.http();
    let after = http.get("/v1/queues/q").json();
    for field in ["ready", "leased", "sealed", "pushed", "leases", "acked", "bytes", "verdict", "settings"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    let again = http.post("/v1/queues/q/items?key=k", "again").expect(201).json();
    assert_eq!((again["id"].clone(), again["duplicate"].clone()), (one["id"].clone(), json!(true)));
    let held = http.get("/v1/queues/q/items?state=leased").json()["items"][0].clone();
    assert_eq!((&held["id"], &held["worker"], &held["attempts"]), (&two["id"], &json!("w"), &json!(1)));
    // The lease from before the crash is still valid; the lease of an acked item is not.
    let stale = json!({"id": one["id"], "token": one["token"]}).to_string();
    assert_eq!(http.post("/v1/queues/q/ack", stale).expect(409).error(), "lost");
    http.post("/v1/queues/q/ack", json!({"id": two["id"], "token": two["token"]}).to_string()).expect(200);
    let leased = http.post("/v1/queues/q/lease", "").json();
    assert_eq!(leased["items"][0]["id"], batch["items"][1]["id"]);
}

#[test]
fn clean_stop_keeps_everything_at_any_durability() {
    for durability in ["always", "interval", "none"] {
        let mut daemon = Queued::start(&["--durability", durability]);
        daemon.post("/v1/queues/q/batch", "a\nb\nc").expect(201);
        daemon.post("/v1/queues/q/lease", "").expect(200);
        assert!(daemon.terminate().success());
        daemon.restart();
        let queue = daemon.get("/v1/queues/q").json();
        assert_eq!((&queue["ready"], &queue["leased"]), (&json!(2), &json!(1)), "{durability}");
    }
}

#[test]
fn log_stays_about_twice_its_live_data() {
    let mut daemon = Queued::start(&["--segment-bytes", "64KiB", "--durability", "none"]);
    let http = &mut daemon.http();
    // Forty segments are filled and removed, while a hundred items stay, at the head and at the end.
    let body = "x".repeat(1000);
    http.post("/v1/queues/old/batch", [body.as_str(); 50].join("\n")).expect(201);
    for round in 0..50 {
        http.post("/v1/queues/q/batch", [body.as_str(); 50].join("\n")).expect(201);
        let leased = http.post("/v1/queues/q/lease", r#"{"max":50}"#).expect(200).json();
        let held = |item: &Value| json!({"id": item["id"], "token": item["token"]});
        let items: Vec<Value> = leased["items"].as_array().unwrap().iter().map(held).collect();
        assert_eq!(items.len(), 50, "round {round}");
        http.post("/v1/queues/q/ack", json!({ "items": items }).to_string()).expect(200);
    }
    http.post("/v1/queues/new/batch", [body.as_str(); 50].join("\n")).expect(201);
    wait_until("the log is clean", || daemon.metric("log_bytes") <= 400_000.0);
    assert!(daemon.metric("segments_freed_total") >= 30.0);
    assert!(daemon.metric("cleaned_items_total") >= 50.0);
    daemon.kill9();
    daemon.restart();
    for queue in ["old", "new"] {
        let items = daemon.get(&format!("/v1/queues/{queue}/items?limit=1000")).json();
        let items = items["items"].as_array().unwrap();
        assert!(items.len() == 50 && items.iter().all(|item| item["body"] == body.as_str()), "{queue}");
    }
    assert_eq!(daemon.get("/v1/queues/q").json()["acked"], 2500);
}

#[test]
fn directory_is_locked_by_one_server() {
    let daemon = Queued::start(&[]);
    let path = daemon.setup.path("data");
    let other = crate::daemon::Setup::new(&["--data", path.to_str().unwrap()]);
    let output = other.run();
    assert_eq!(output.status.code(), Some(75));
    let holder = trial::holder(daemon.pid().as_raw().unsigned_abs());
    let why = format!(
        "{} is in use by another queued {holder}; give this one its own --data directory",
        path.display()
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&why), "{said}");
}
