//! Tests each row of the table in rng's README.

use crate::daemon::{Rng, Setup};

fn host() -> String {
    hostname::get().unwrap().into_string().unwrap()
}

#[test]
fn greeting_names_the_host() {
    let rng = Rng::start(&[]);
    let answer = rng.get("/");
    assert_eq!((answer.status, answer.text()), (200, &*format!("RNG running on {}\n", host())));
    assert_eq!(rng.get("/?from=here").text(), answer.text());
}

#[test]
fn number_is_answered_with_as_many_random_bytes() {
    let rng = Rng::start(&[]);
    for (path, count) in [("/32", 32), ("/1", 1), ("/4097", 4097), ("/1048576", 1 << 20), ("/0032?x=y", 32)] {
        let answer = rng.get(path);
        assert_eq!((answer.status, answer.body.len()), (200, count), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("content-length"), Some(&*count.to_string()));
    }
    let (one, other) = (rng.get("/32").body, rng.get("/32").body);
    assert_ne!(one, other);
    // All byte values turn up in a mebibyte, and no half repeats the other.
    let many = rng.get("/1048576").body;
    assert!((0..=u8::MAX).all(|byte| many.contains(&byte)));
    assert_ne!(many[..1 << 19], many[1 << 19..]);
}

#[test]
fn zero_bytes_are_an_empty_answer() {
    let answer = Rng::start(&[]).get("/0");
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (200, 0, Some("0")));
}

#[test]
fn unknown_paths_are_not_found() {
    let rng = Rng::start(&[]);
    let unknown =
        ["/-1", "/abc", "/32/", "/+1", "/1.5", "/1e3", "//", "//32", "/32/1", "/%33%32", "/32%2F", "/32;"];
    for path in unknown {
        assert_eq!(rng.get(path).status, 404, "{path}");
        assert_eq!(rng.ask("POST", path).status, 404, "{path}");
    }
}

#[test]
fn more_than_a_mebibyte_is_refused() {
    let rng = Rng::start(&[]);
    for path in ["/1048577", "/4294967296", "/18446744073709551616", &format!("/{}", "9".repeat(2000))] {
        let answer = rng.get(path);
        assert_eq!((answer.status, answer.text()), (400, "at most 1048576 bytes\n"), "{path}");
    }
}

#[test]
fn other_methods_are_not_allowed() {
    let rng = Rng::start(&[]);
    for path in ["/", "/32", "/1048577"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = rng.ask(method, path);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    let form = "POST /32 HTTP/1.1\r\nHost: rng\r\nContent-Length: 3\r\n\r\na=b";
    assert_eq!(rng.send(form).status, 405);
}

#[test]
fn head_has_the_headers_of_get_alone() {
    let rng = Rng::start(&[]);
    for (path, status, length) in [("/32", 200, "32"), ("/0", 200, "0"), ("/abc", 404, "24")] {
        let answer = rng.ask("HEAD", path);
        assert_eq!((answer.status, answer.header("content-length")), (status, Some(length)), "{path}");
        assert!(answer.body.is_empty(), "{path}");
    }
}

#[test]
fn every_answer_names_node_and_pod_and_ends_its_connection() {
    let named = Setup::new().environment("NODE_NAME", "node-2").environment("POD_NAME", "rng-x7").start();
    for (method, path) in
        [("GET", "/"), ("GET", "/8"), ("HEAD", "/8"), ("GET", "/x"), ("POST", "/"), ("GET", "/9999999")]
    {
        let answer = named.ask(method, path);
        let names = (answer.header("node"), answer.header("pod"));
        assert_eq!(names, (Some("node-2"), Some("rng-x7")), "{method} {path}");
        assert_eq!(answer.header("connection"), Some("close"), "{method} {path}");
    }
    assert_eq!(named.get("/").text(), "RNG running on rng-x7\n");

    let unnamed = Rng::start(&[]).get("/8");
    assert_eq!((unnamed.header("node"), unnamed.header("pod")), (Some(&*host()), Some(&*host())));
}
