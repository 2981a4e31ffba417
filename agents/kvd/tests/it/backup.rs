//! Tests that a backup holds all keys as of one moment, even while they change.

use crate::daemon::Kvd;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes a backup and checks that it is complete. Returns its revision and its keys.
fn backup(kvd: &Kvd) -> (u64, Vec<Value>) {
    let answer = kvd.get_whole("/v1/backup").expect(200);
    let mut lines: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = lines.pop().unwrap();
    let begin = lines.remove(0);
    assert_eq!((begin["kvd_backup"].as_u64(), end["keys"].as_u64()), (Some(1), Some(lines.len() as u64)));
    (begin["revision"].as_u64().unwrap(), lines)
}

#[test]
fn backup_has_every_key() {
    for kvd in [Kvd::start(&[]), Kvd::in_memory(&[])] {
        assert_eq!(backup(&kvd).1, [Value::Null; 0]);
        kvd.put("/v1/keys/b", b"\xff").expect(201);
        kvd.put("/v1/keys/a?ttl=1h", "text").expect(201);
        let (revision, keys) = backup(&kvd);
        assert_eq!(revision, kvd.get("/v1/stats").json()["revision"].as_u64().unwrap());
        let [a, b] = keys.as_slice() else { panic!("{keys:?}") };
        assert_eq!(
            (a["key"].as_str(), a["value"].as_str(), a["expires"].is_string()),
            (Some("a"), Some("text"), true)
        );
        assert_eq!((b["key"].as_str(), b["value_base64"].as_str()), (Some("b"), Some("/w==")));
    }
}

/// Each batch sets all keys to the same number. A backup with two numbers would be of two moments.
#[test]
fn backup_under_fire_is_of_one_moment() {
    const KEYS: usize = 300;
    for kvd in [Kvd::start(&[]), Kvd::in_memory(&[])] {
        let set = |number: u64| {
            let value = format!("{number:0>1000}");
            let put = |key: usize| format!(r#"{{"op":"put","key":"{key}","value":"{value}"}}"#);
            kvd.batch(&(0..KEYS).map(put).collect::<Vec<_>>().join(",")).expect(200);
        };
        set(0);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let setter = scope.spawn(|| {
                for number in 1.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    set(number);
                }
            });
            let mut numbers = Vec::new();
            while numbers.len() < 5 {
                assert!(!setter.is_finished(), "the keys do not change any more");
                let (revision, keys) = backup(&kvd);
                let first = keys[0]["value"].clone();
                assert!(keys.len() == KEYS && keys.iter().all(|key| key["value"] == first));
                assert!(keys.iter().all(|key| key["revision"].as_u64().unwrap() <= revision));
                numbers.push(first);
                numbers.dedup();
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
