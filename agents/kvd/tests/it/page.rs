//! Tests the page on the admin endpoint: its files, its figures and its changes.

use crate::daemon::Kvd;
use crate::events::Stream;
use trial::{Http, ask};

fn with_page() -> Kvd {
    Kvd::in_memory(&["--admin", "127.0.0.1:0"])
}

#[test]
fn page_is_at_the_admin_address_only() {
    let kvd = with_page();
    let admin = kvd.address("admin");
    let page = ask(admin, "GET", "/").expect(200);
    assert!(page.text().starts_with("<!doctype html>") && page.head.contains("text/html"), "{page:?}");
    for file in ["agent.js", "kit.js", "kit.css", "icon.svg"] {
        ask(admin, "GET", &format!("/page/{file}")).expect(200);
    }
    // The HTTP address has no page, as in the course.
    assert_eq!(kvd.get("/").status, 404);
    assert_eq!(kvd.get("/page/figures").status, 404);
}

#[test]
fn page_is_for_this_host_alone() {
    let kvd = with_page();
    let mut http = Http::connect(kvd.address("admin")).unwrap();
    for path in ["/", "/page/figures", "/page/changes"] {
        let answer = http.call("GET", path, "X-Forwarded-For: 10.0.0.7\r\n", b"").unwrap();
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[test]
fn figures_show_keys_and_those_that_are_used_most() {
    let kvd = with_page();
    kvd.put("/v1/keys/hot", "12345").expect(201);
    kvd.batch(r#"{"op":"put","key":"cold","value":"x"},{"op":"check","key":"hot"}"#).expect(200);
    for _ in 0..3 {
        kvd.get("/v1/keys/hot").expect(200);
        kvd.get("/load/hot");
    }
    let mut stream = Stream::open(kvd.address("admin"), "/page/figures", "");
    let figures = stream.next().unwrap().data;
    assert_eq!(
        (figures["engine"].as_str(), figures["keys"].as_u64(), figures["bytes"].as_u64()),
        (Some("memory"), Some(2), Some(13))
    );
    assert_eq!((figures["reads"].as_u64(), figures["writes"].as_u64()), (Some(6), Some(2)));
    let hot = figures["hot"].as_array().unwrap();
    let hot: Vec<_> = hot
        .iter()
        .map(|hot| (hot["key"].as_str().unwrap(), hot["reads"].as_u64(), hot["writes"].as_u64()))
        .collect();
    assert_eq!(hot, [("hot", Some(6), Some(1)), ("cold", Some(0), Some(1))]);
    // Checks that the script uses only figures that exist.
    let script = include_str!("../../src/page.js");
    for name in script
        .split("now.")
        .skip(1)
        .map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap())
    {
        assert!(!figures[name].is_null(), "the page shows {name}");
    }
}

#[test]
fn changes_are_shown_without_their_values() {
    let kvd = with_page();
    let mut stream = Stream::open(kvd.address("admin"), "/page/changes?prefix=a", "");
    assert_eq!(stream.next().unwrap().name, "begin");
    kvd.put("/v1/keys/b", "other").expect(201);
    kvd.put("/v1/keys/a?ttl=1h", "secret").expect(201);
    let put = stream.next().unwrap();
    assert_eq!(
        (put.name.as_str(), put.data["key"].as_str(), put.data["bytes"].as_u64()),
        ("put", Some("a"), Some(6))
    );
    assert!(put.data["expires"].is_string() && !put.data.to_string().contains("secret"), "{put:?}");
}
