//! Tests the tokens: their rights, their key prefixes, and changes of their file.

use crate::daemon::{Kvd, Setup};
use crate::events::Stream;

const TOKENS: &str = "reader-0123 read\nshop-0123 read,write shop/\nwriter-0123 write\nboss-0123 admin\n";

fn server() -> Kvd {
    let setup = Setup::new(&["--data", "memory", "--tokens", "tokens"]);
    setup.write("tokens", TOKENS);
    Kvd::of(setup)
}

fn status(kvd: &Kvd, token: &str, method: &str, path: &str, body: &str) -> u16 {
    let authorization = format!("Bearer {token}");
    kvd.ask(method, path, &[("Authorization", &authorization)], body.as_bytes()).status
}

#[test]
fn requests_without_a_valid_token_are_refused_at_both_doors() {
    let kvd = server();
    for path in
        ["/v1/keys/a", "/v1/keys", "/v1/stats", "/v1/watch", "/v1/backup", "/load/a", "/save/a/b", "/allKeys"]
    {
        assert_eq!(kvd.get(path).status, 401, "{path}");
        assert_eq!(status(&kvd, "wrong", "GET", path, ""), 401, "{path}");
    }
    assert_eq!(kvd.get("/ready").status, 200);
}

#[test]
fn rights_are_those_of_the_token() {
    let kvd = server();
    assert_eq!(status(&kvd, "writer-0123", "PUT", "/v1/keys/a", "x"), 201);
    assert_eq!(status(&kvd, "writer-0123", "GET", "/v1/keys/a", ""), 403);
    assert_eq!(status(&kvd, "reader-0123", "GET", "/v1/keys/a", ""), 200);
    assert_eq!(status(&kvd, "reader-0123", "DELETE", "/v1/keys/a", ""), 403);
    assert_eq!(status(&kvd, "reader-0123", "GET", "/save/a/b", ""), 403);
    assert_eq!(status(&kvd, "reader-0123", "GET", "/v1/backup", ""), 403);
    for (method, path, body) in [
        ("GET", "/v1/backup", ""),
        ("GET", "/v1/keys", ""),
        ("PUT", "/v1/keys/a", "y"),
        ("DELETE", "/v1/keys/a", ""),
    ] {
        assert_eq!(status(&kvd, "boss-0123", method, path, body), 200, "{method} {path}");
    }
}

#[test]
fn token_reaches_only_its_prefixes() {
    let kvd = server();
    let shop = |method: &str, path: &str, body: &str| status(&kvd, "shop-0123", method, path, body);
    assert_eq!(shop("PUT", "/v1/keys/shop/1", "x"), 201);
    assert_eq!(shop("PUT", "/v1/keys/shop", "x"), 403);
    assert_eq!(shop("PUT", "/v1/keys/other", "x"), 403);
    assert_eq!(shop("GET", "/save/other/x", ""), 403);
    assert_eq!(shop("GET", "/v1/keys", ""), 403);
    assert_eq!(shop("GET", "/v1/keys?prefix=sho", ""), 403);
    assert_eq!(shop("GET", "/v1/keys?prefix=shop/", ""), 200);
    assert_eq!(shop("GET", "/v1/watch?prefix=", ""), 403);
    let batch = |keys: [&str; 2]| {
        let put = keys.map(|key| format!(r#"{{"op":"put","key":"{key}","value":"y"}}"#)).join(",");
        shop("POST", "/v1/batch", &format!("{{\"operations\":[{put}]}}"))
    };
    assert_eq!(batch(["shop/1", "other"]), 403);
    assert_eq!(batch(["shop/1", "shop/2"]), 200);
    assert_eq!(status(&kvd, "boss-0123", "PUT", "/v1/keys/other", "x"), 201);
    let names = kvd.ask("GET", "/allKeys", &[("Authorization", "Bearer shop-0123")], b"");
    assert_eq!(names.text(), "shop/1,shop/2");
}

#[test]
fn stream_ends_when_its_token_is_revoked() {
    let kvd = server();
    let watch = |token: &str| {
        let mut stream = Stream::open(kvd.http(), "/v1/watch", &format!("Authorization: Bearer {token}\r\n"));
        assert_eq!(stream.next().unwrap().name, "begin");
        stream
    };
    let (mut revoked, mut kept) = (watch("reader-0123"), watch("boss-0123"));
    kvd.setup.write("tokens", "writer-0123 write\nboss-0123 admin\n");
    kvd.wait_until("the new tokens", || status(&kvd, "reader-0123", "GET", "/v1/keys", "") == 401);
    assert_eq!(status(&kvd, "writer-0123", "PUT", "/v1/keys/secret", "x"), 201);
    assert_eq!(kept.next().unwrap().data["key"], "secret");
    assert!(revoked.next().is_none());
}

#[test]
fn changed_file_is_applied_and_a_bad_one_is_not() {
    let kvd = server();
    kvd.setup.write("tokens", "reader-0123 fly\n");
    kvd.wait_for("files_rejected");
    assert_eq!(status(&kvd, "reader-0123", "GET", "/v1/keys", ""), 200);
    kvd.setup.write("tokens", "other-0123 read\n");
    kvd.wait_until("the new tokens", || status(&kvd, "reader-0123", "GET", "/v1/keys", "") == 401);
    assert_eq!(status(&kvd, "other-0123", "GET", "/v1/keys", ""), 200);
}
