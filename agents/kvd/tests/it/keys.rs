//! Tests one key at `/v1/keys/KEY`: values, revisions, conditions and times to live.

use crate::daemon::{Kvd, header, revision};
use trial::wait_until;

fn servers() -> [Kvd; 2] {
    [Kvd::start(&[]), Kvd::in_memory(&[])]
}

#[test]
fn value_is_kept_byte_for_byte() {
    for kvd in servers() {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
        let put = kvd.put("/v1/keys/binary", &bytes).expect(201);
        assert_eq!(put.json()["key"], "binary");
        assert_eq!(put.json()["revision"], revision(&put));
        let got = kvd.get("/v1/keys/binary").expect(200);
        assert!(got.body == bytes);
        assert_eq!(revision(&got), revision(&put));
        assert_eq!(header(&got, "content-type").as_deref(), Some("application/octet-stream"));
        kvd.put("/v1/keys/binary", "").expect(200);
        assert_eq!(kvd.get("/v1/keys/binary").expect(200).body, b"");
    }
}

#[test]
fn missing_key_is_named() {
    let kvd = Kvd::in_memory(&[]);
    for answer in [kvd.get("/v1/keys/a"), kvd.delete("/v1/keys/a")] {
        let answer = answer.expect(404);
        assert_eq!(answer.error(), "no_such_key");
        assert!(answer.text().contains("\\\"a\\\""), "{}", answer.text());
    }
    kvd.put("/v1/keys/a", "x").expect(201);
    kvd.delete("/v1/keys/a").expect(200);
    kvd.get("/v1/keys/a").expect(404);
}

#[test]
fn keys_may_have_slashes_and_any_text() {
    for kvd in servers() {
        for (encoded, key) in
            [("a/b//c", "a/b//c"), ("a%2Fb", "a/b"), ("%D0%BA", "к"), ("a%20%25", "a %"), (".", ".")]
        {
            let put = kvd.put(&format!("/v1/keys/{encoded}"), key).expect(201);
            assert_eq!(put.json()["key"], key);
            assert_eq!(kvd.get(&format!("/v1/keys/{encoded}")).text(), key);
        }
        assert_eq!(kvd.get("/v1/keys/a/b").text(), "a/b", "an encoded slash is a slash");
    }
}

#[test]
fn revisions_grow_and_never_come_back() {
    for kvd in servers() {
        let first = revision(&kvd.put("/v1/keys/a", "1"));
        let second = revision(&kvd.put("/v1/keys/a", "1"));
        let deleted = revision(&kvd.delete("/v1/keys/a"));
        let third = revision(&kvd.put("/v1/keys/a", "1"));
        assert_eq!([second, deleted, third], [first + 1, first + 2, first + 3]);
    }
}

#[test]
fn restart_in_memory_makes_old_revisions_worthless() {
    let mut kvd = Kvd::in_memory(&[]);
    let old = kvd.put("/v1/keys/a", "1");
    kvd.kill_and_restart();
    let new = kvd.put("/v1/keys/a", "2");
    assert!(revision(&new) > revision(&old));
    let old = revision(&old).to_string();
    assert_eq!(kvd.ask("PUT", "/v1/keys/a", &[("If-Match", &old)], b"3").status, 412);
}

#[test]
fn conditions_compare_and_set() {
    for kvd in servers() {
        let put = |name: &str, value: &str| kvd.ask("PUT", "/v1/keys/a", &[(name, value)], b"x");
        let refused = put("If-Match", "*").expect(412);
        assert_eq!(
            (refused.error().as_str(), refused.json()["revision"].is_null()),
            ("condition_failed", true)
        );
        let made = revision(&put("If-None-Match", "*").expect(201));
        let refused = put("If-None-Match", "*").expect(412);
        assert_eq!((revision(&refused), refused.json()["revision"].as_u64()), (made, Some(made)));
        let tag = format!("\"{made}\"");
        let changed = revision(&put("If-Match", &tag).expect(200));
        put("If-Match", &tag).expect(412);
        put("If-Match", &format!("{tag}, \"{changed}\"")).expect(200);
        assert_eq!(kvd.ask("DELETE", "/v1/keys/a", &[("If-Match", &tag)], b"").status, 412);
        assert_eq!(kvd.ask("DELETE", "/v1/keys/a", &[("If-Match", "*")], b"").status, 200);
        put("If-Match", "seventeen").expect(400);
    }
}

#[test]
fn get_with_conditions_saves_the_transfer() {
    let kvd = Kvd::in_memory(&[]);
    let tag = header(&kvd.put("/v1/keys/a", "x"), "etag").unwrap();
    let get = |name: &str, value: &str| kvd.ask("GET", "/v1/keys/a", &[(name, value)], b"");
    let unchanged = get("If-None-Match", &tag);
    assert_eq!(
        (unchanged.status, unchanged.body.len(), header(&unchanged, "etag")),
        (304, 0, Some(tag.clone()))
    );
    assert_eq!(get("If-None-Match", "\"1\"").status, 200);
    assert_eq!(get("If-Match", &tag).status, 200);
    assert_eq!(get("If-Match", "\"1\"").status, 412);
    let head = kvd.send("HEAD /v1/keys/a HTTP/1.0\r\n\r\n");
    assert_eq!(
        (head.status, head.body.len(), header(&head, "content-length").as_deref()),
        (200, 0, Some("1"))
    );
}

#[test]
fn key_with_a_time_to_live_expires() {
    for kvd in servers() {
        kvd.put("/v1/keys/short?ttl=50ms", "x").expect(201);
        let long = kvd.put("/v1/keys/long?ttl=1h", "x").expect(201);
        assert_eq!(long.status, 201);
        let expires = header(&kvd.get("/v1/keys/long"), "kvd-expires").unwrap();
        assert!(expires.starts_with("20") && expires.ends_with('Z'), "{expires}");
        kvd.wait_until("the key to expire", || kvd.get("/v1/keys/short").status == 404);
        let absent = kvd.ask("PUT", "/v1/keys/short", &[("If-None-Match", "*")], b"y");
        assert_eq!(absent.status, 201);
        assert_eq!(
            header(&kvd.get("/v1/keys/short"), "kvd-expires"),
            None,
            "a put without ttl keeps it for ever"
        );
        assert_eq!(kvd.put("/v1/keys/long", "x").status, 200);
        assert_eq!(header(&kvd.get("/v1/keys/long"), "kvd-expires"), None);
    }
}

#[test]
fn expired_keys_are_removed_without_a_request() {
    let kvd = Kvd::start(&[]);
    kvd.put("/v1/keys/a?ttl=20ms", "x").expect(201);
    wait_until("the key to be removed", || kvd.get("/v1/stats").json()["keys"] == 0);
}

#[test]
fn wrong_requests_have_a_reason() {
    let kvd = Kvd::in_memory(&[]);
    for (method, path, status, reason) in [
        ("PUT", "/v1/keys/a?ttl=0s", 422, "above zero"),
        ("PUT", "/v1/keys/a?ttl=5", 422, "ttl"),
        ("PUT", "/v1/keys/a?tll=5s", 422, "tll"),
        ("DELETE", "/v1/keys/a?ttl=5s", 422, "ttl"),
        ("PUT", "/v1/keys/a%0A", 400, "control"),
        ("PUT", "/v1/keys/%FF", 400, "UTF-8"),
        ("POST", "/v1/keys/a", 405, "other methods"),
        ("GET", "/v1/nothing", 404, "/v1/keys"),
        ("GET", "/v1/keys/", 404, ""),
    ] {
        let answer = kvd.ask(method, path, &[], b"x");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.body).contains(reason), "{method} {path}: {answer:?}");
    }
}
