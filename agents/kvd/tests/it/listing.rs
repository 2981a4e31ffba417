//! Tests listings: prefixes, pages and values.

use crate::daemon::Kvd;
use serde_json::Value;

fn names(listing: &Value) -> Vec<&str> {
    listing["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect()
}

fn fill(kvd: &Kvd) {
    for key in ["b", "a/2", "a/1", "a", "a/10", "ab"] {
        kvd.put(&format!("/v1/keys/{key}"), key).expect(201);
    }
}

#[test]
fn listing_is_in_the_order_of_bytes() {
    for kvd in [Kvd::start(&[]), Kvd::in_memory(&[])] {
        fill(&kvd);
        let list = |query: &str| kvd.get(&format!("/v1/keys{query}")).expect(200).json();
        assert_eq!(names(&list("")), ["a", "a/1", "a/10", "a/2", "ab", "b"]);
        assert_eq!(names(&list("?prefix=a/")), ["a/1", "a/10", "a/2"]);
        assert_eq!(names(&list("?prefix=a%2F&after=a%2F1")), ["a/10", "a/2"]);
        assert_eq!(names(&list("?prefix=c")), [""; 0]);
        assert_eq!(list("")["next"], Value::Null);
        assert_eq!(list("")["revision"], kvd.get("/v1/stats").json()["revision"]);
    }
}

#[test]
fn pages_follow_one_another() {
    for kvd in [Kvd::start(&[]), Kvd::in_memory(&[])] {
        fill(&kvd);
        let mut all = Vec::new();
        let mut after = String::new();
        let mut pages = 0;
        loop {
            let page = kvd.get(&format!("/v1/keys?limit=2&after={after}")).expect(200).json();
            all.extend(names(&page).into_iter().map(str::to_owned));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            after = next.replace('/', "%2F");
        }
        assert_eq!((all.join(" ").as_str(), pages), ("a a/1 a/10 a/2 ab b", 3));
    }
}

#[test]
fn values_are_listed_on_request() {
    let kvd = Kvd::start(&[]);
    kvd.put("/v1/keys/binary?ttl=1h", b"\xff\0").expect(201);
    kvd.put("/v1/keys/text", "one\ntwo").expect(201);
    let listing = kvd.get("/v1/keys?values=true").expect(200).json();
    let [binary, text] = listing["keys"].as_array().unwrap().as_slice() else { panic!("{listing}") };
    assert_eq!((binary["value_base64"].as_str(), binary["bytes"].as_u64()), (Some("/wA="), Some(2)));
    assert!(binary["expires"].is_string() && text["expires"].is_null());
    assert_eq!(text["value"], "one\ntwo");
    let without = kvd.get("/v1/keys").json();
    assert!(without["keys"][1]["value"].is_null() && without["keys"][1]["bytes"] == 7);
}

#[test]
fn long_values_make_short_pages() {
    let kvd = Kvd::start(&[]);
    for key in 0..4 {
        kvd.put(&format!("/v1/keys/{key}"), vec![b'x'; 600_000]).expect(201);
    }
    let page = kvd.get("/v1/keys?values=true").expect(200).json();
    assert_eq!((names(&page), page["next"].as_str()), (vec!["0", "1"], Some("1")));
    let without = kvd.get("/v1/keys").expect(200).json();
    assert_eq!((names(&without), without["next"].as_str()), (vec!["0", "1", "2", "3"], None));
}

#[test]
fn wrong_listings_have_a_reason() {
    let kvd = Kvd::in_memory(&[]);
    for query in ["limit=0", "limit=1001", "limit=x", "after=a%0A", "prefixes=a"] {
        let answer = kvd.get(&format!("/v1/keys?{query}")).expect(422);
        assert_eq!(answer.error(), "invalid", "{query}");
    }
}
