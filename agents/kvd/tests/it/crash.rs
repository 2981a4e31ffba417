//! Kills the server with SIGKILL many times. Acknowledged writes must survive, values must be whole, and
//! compare-and-set must be exact.

use crate::daemon::{Kvd, revision};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use trial::Http;

const WRITERS: usize = 8;

/// The number of further answers before each kill.
const ANSWERS_PER_LIFE: u64 = 40;

/// Kills the server on drop, which also ends the writers. Thus they end even if the test fails earlier.
struct Life<'a>(&'a Kvd);

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.0.kill9();
    }
}

/// Puts numbers on keys of its own until the connection breaks. Returns the last acknowledged number of each
/// key, and the numbers that were sent without an answer.
fn write(
    address: SocketAddr,
    writer: usize,
    from: u64,
    answered: &AtomicU64,
) -> (BTreeMap<String, u64>, Option<(String, u64)>) {
    let mut acknowledged = BTreeMap::new();
    let Ok(mut http) = Http::connect(address) else { return (acknowledged, None) };
    for number in from.. {
        let key = format!("{writer}/{}", number % 5);
        // The value spans several pages, so that a torn one would be noticed.
        let value = format!("{number}:").repeat(2000);
        match http.call("PUT", &format!("/v1/keys/{key}"), "", value.as_bytes()) {
            Ok(answer) => {
                assert!(matches!(answer.status, 200 | 201), "{answer:?}");
                acknowledged.insert(key, number);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => return (acknowledged, Some((key, number))),
        }
    }
    unreachable!("a writer goes on until the server is killed")
}

/// Returns the number in a value, which must be whole.
#[track_caller]
fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap();
    let number = text.split(':').next().unwrap();
    assert!(text == format!("{number}:").repeat(2000), "a torn value of {} bytes", text.len());
    number.parse().unwrap()
}

fn acknowledged_writes_survive(kills: u64) {
    let mut kvd = Kvd::start(&[]);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for life in 1..=kills {
        let answered = AtomicU64::new(0);
        let address = kvd.http();
        let results = std::thread::scope(|scope| {
            let answered = &answered;
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || write(address, writer, life * 1_000_000, answered)))
                .collect();
            let life = Life(&kvd);
            kvd.wait_until("answers", || answered.load(Ordering::Relaxed) >= ANSWERS_PER_LIFE);
            drop(life);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        kvd.kill_and_restart();
        let mut unanswered = BTreeMap::new();
        for (acknowledged, last) in results {
            expected.extend(acknowledged);
            unanswered.extend(last);
        }
        let mut http = kvd.connect();
        for (key, expected) in &mut expected {
            let found =
                number(&http.call("GET", &format!("/v1/keys/{key}"), "", b"").unwrap().expect(200).body);
            let is_unanswered = unanswered.get(key) == Some(&found);
            assert!(
                found == *expected || is_unanswered,
                "{key}: {found} instead of {expected} in life {life}"
            );
            *expected = found;
        }
    }
}

#[test]
fn acknowledged_writes_survive_sigkill() {
    acknowledged_writes_survive(15);
}

#[test]
#[ignore = "kills kvd 1,000 times: just test-programs"]
fn acknowledged_writes_survive_a_thousand_kills() {
    acknowledged_writes_survive(1000);
}

/// An increment of the counter by compare-and-set.
struct Increment {
    writer: usize,
    from: u64,
    revision: u64,
    /// The revision in the answer; `None` without an answer.
    answer: Option<u64>,
}

/// Increments one counter until the connection breaks. Each record has the replaced revision, so that the
/// history of the key is a chain.
fn increment(address: SocketAddr, writer: usize, history: &Mutex<Vec<Increment>>, answered: &AtomicU64) {
    let Ok(mut http) = Http::connect(address) else { return };
    loop {
        let Ok(present) = http.call("GET", "/v1/keys/counter", "", b"") else { return };
        let (revision_before, from) =
            (revision(&present), present.expect(200).text().parse::<u64>().unwrap());
        let condition = format!("If-Match: \"{revision_before}\"\r\n");
        let next = (from + 1).to_string();
        let answer = http.call("PUT", "/v1/keys/counter", &condition, next.as_bytes());
        let record = |answer| {
            history.lock().unwrap().push(Increment { writer, from, revision: revision_before, answer });
        };
        match answer {
            Ok(answer) if answer.status == 412 => {}
            Ok(answer) => {
                record(Some(revision(&answer.expect(200))));
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => return record(None),
        }
    }
}

/// Checks the acknowledged increments: no two replaced the same value, and each is in the chain. The counter
/// must be the number of increments.
#[test]
fn compare_and_set_is_exact_over_sigkill() {
    let mut kvd = Kvd::start(&[]);
    kvd.put("/v1/keys/counter", "0").expect(201);
    let history = Mutex::new(Vec::new());
    for _ in 0..10 {
        let answered = AtomicU64::new(0);
        let address = kvd.http();
        std::thread::scope(|scope| {
            let (history, answered) = (&history, &answered);
            for writer in 0..16 {
                scope.spawn(move || increment(address, writer, history, answered));
            }
            let _life = Life(&kvd);
            kvd.wait_until("answers", || answered.load(Ordering::Relaxed) >= ANSWERS_PER_LIFE);
        });
        kvd.kill_and_restart();
    }
    let counter: u64 = kvd.get("/v1/keys/counter").expect(200).text().parse().unwrap();
    let history = history.into_inner().unwrap();
    let answered: BTreeMap<u64, &Increment> = history
        .iter()
        .filter(|increment| increment.answer.is_some())
        .map(|increment| (increment.from, increment))
        .collect();
    let count = history.iter().filter(|increment| increment.answer.is_some()).count();
    assert_eq!(answered.len(), count, "two increments of one value were acknowledged");
    for value in 0..counter {
        if let Some(increment) = answered.get(&value) {
            let answer = increment.answer.unwrap();
            assert!(answer > increment.revision, "writer {}", increment.writer);
            // The next increment replaced exactly the value that this one wrote.
            if let Some(next) = answered.get(&(value + 1)) {
                assert_eq!(next.revision, answer, "after value {value}");
            }
        } else {
            // The increment took effect, but its answer was lost with the server.
            let made = history.iter().any(|increment| increment.from == value && increment.answer.is_none());
            assert!(made, "nobody made {} of {value}", value + 1);
        }
    }
    assert!(answered.keys().all(|from| *from < counter), "an acknowledged increment is lost");
}
