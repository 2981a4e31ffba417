//! Tests the stream of changes: events, prefixes, and watchers that resume.

use crate::daemon::{Kvd, revision};
use crate::events::{Event, Stream};
use nix::sys::signal::Signal;
use serde_json::Value;
use trial::metric;

/// Opens a stream of changes and reads its first event. Returns both the stream and the event's revision.
fn watch(kvd: &Kvd, query: &str, headers: &str) -> (Stream, u64) {
    let mut stream = Stream::open(kvd.http(), &format!("/v1/watch{query}"), headers);
    let begin = stream.next().unwrap();
    assert_eq!((begin.name.as_str(), begin.data["revision"].as_u64()), ("begin", begin.id));
    (stream, begin.id.unwrap())
}

#[test]
fn every_change_is_an_event() {
    for kvd in [Kvd::start(&[]), Kvd::in_memory(&[])] {
        let (mut stream, begin) = watch(&kvd, "", "");
        let put = revision(&kvd.put("/v1/keys/a", "text"));
        kvd.put("/v1/keys/b?ttl=20ms", b"\xff").expect(201);
        kvd.delete("/v1/keys/a").expect(200);
        let events: Vec<Event> = (0..4).map(|_| stream.next().unwrap()).collect();
        assert_eq!(put, begin + 1);
        assert_eq!(
            events.iter().filter_map(|event| event.id).collect::<Vec<_>>(),
            (put..put + 4).collect::<Vec<_>>()
        );
        let of = |name: &str, key: &str| {
            let found = events.iter().find(|event| event.name == name && event.data["key"] == key);
            found.unwrap_or_else(|| panic!("{name} {key} in {events:?}"))
        };
        let text = of("put", "a");
        assert_eq!(
            (text.id, text.data["value"].as_str(), &text.data["expires"]),
            (Some(put), Some("text"), &Value::Null)
        );
        assert_eq!(text.data["revision"].as_u64(), Some(put));
        let binary = of("put", "b");
        assert!(binary.data["value_base64"] == "/w==" && binary.data["expires"].is_string());
        assert!(of("delete", "a").data.get("value").is_none());
        assert!(of("expire", "b").id > binary.id);
    }
}

#[test]
fn only_keys_with_the_prefix_are_told() {
    let kvd = Kvd::in_memory(&[]);
    let (mut stream, _) = watch(&kvd, "?prefix=a%2F", "");
    for key in ["b", "a", "a/1", "ab", "a/2"] {
        kvd.put(&format!("/v1/keys/{key}"), "x").expect(201);
    }
    let keys = [stream.next().unwrap(), stream.next().unwrap()].map(|event| event.data["key"].clone());
    assert_eq!(keys, ["a/1", "a/2"]);
}

/// A browser sends the last event's id by itself. Other clients use `after`.
#[test]
fn watcher_resumes_where_it_ended() {
    let kvd = Kvd::start(&[]);
    let (mut stream, begin) = watch(&kvd, "", "");
    let batch = |from: usize| {
        let puts = (from..from + 3).map(|number| format!(r#"{{"op":"put","key":"{number}","value":"x"}}"#));
        kvd.batch(&puts.collect::<Vec<_>>().join(",")).expect(200);
    };
    batch(0);
    // The connection breaks in the middle of a batch.
    let last = stream.next().unwrap().id.unwrap();
    assert_eq!(last, begin + 1);
    drop(stream);
    batch(3);
    for (query, headers) in [
        (format!("?after={last}"), String::new()),
        (format!("?after={begin}"), format!("Last-Event-ID: {last}\r\n")),
    ] {
        let (mut stream, from) = watch(&kvd, &query, &headers);
        assert_eq!(from, last);
        let keys: Vec<_> =
            (0..5).map(|_| stream.next().unwrap().data["key"].as_str().unwrap().to_owned()).collect();
        assert_eq!(keys, ["1", "2", "3", "4", "5"]);
    }
}

#[test]
fn changes_that_are_not_kept_are_gone() {
    let kvd = Kvd::in_memory(&["--watch-history", "1KiB"]);
    let first = revision(&kvd.put("/v1/keys/a", "x"));
    for _ in 0..20 {
        kvd.put("/v1/keys/a", vec![b'x'; 100]).expect(200);
    }
    let newest = kvd.get("/v1/stats").json()["revision"].as_u64().unwrap();
    for after in [first, newest + 1] {
        let gone = kvd.get(&format!("/v1/watch?after={after}")).expect(410);
        assert_eq!(gone.error(), "revision_gone");
        assert!(gone.text().contains("list the keys again"), "{}", gone.text());
    }
    watch(&kvd, &format!("?after={newest}"), "");
}

#[test]
fn watchers_are_counted_and_bounded() {
    let kvd = Kvd::in_memory(&["--max-watchers", "2"]);
    let streams = [watch(&kvd, "", ""), watch(&kvd, "", "")];
    let refused = kvd.get("/v1/watch").expect(429);
    assert_eq!(refused.error(), "too_many_watchers");
    let open = || metric::<u64>(kvd.get("/metrics").text(), "kvd_watchers");
    assert_eq!(open(), 2);
    drop(streams);
    kvd.put("/v1/keys/a", "x").expect(201);
    kvd.wait_until("the streams to be closed", || open() == 0);
}

#[test]
fn streams_end_when_the_server_stops() {
    let kvd = Kvd::start(&[]);
    let (mut stream, _) = watch(&kvd, "", "");
    kvd.signal(Signal::SIGTERM);
    assert!(stream.next().is_none());
    assert_eq!(kvd.join().code(), Some(0));
}

#[test]
fn watcher_under_load_sees_every_change() {
    const PUTS: u64 = 2000;
    let kvd = Kvd::start(&[]);
    let (mut stream, begin) = watch(&kvd, "", "");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let mut http = kvd.connect();
            scope.spawn(move || {
                for number in 0..PUTS / 4 {
                    http.call("PUT", &format!("/v1/keys/{writer}/{number}"), "", b"x").unwrap().expect(201);
                }
            });
        }
        for expected in begin + 1..=begin + PUTS {
            assert_eq!(stream.next().unwrap().id, Some(expected));
        }
    });
}
