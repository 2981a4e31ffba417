//! Tests each row of the course's contract, and each difference from the original that README.md lists.

use crate::daemon::{Kvd, header};

/// Starts a server with each engine. They must behave the same.
fn servers() -> [Kvd; 2] {
    [Kvd::start(&[]), Kvd::in_memory(&[])]
}

fn says(kvd: &Kvd, path: &str) -> (u16, String) {
    let answer = kvd.send(&format!("GET {path} HTTP/1.1\r\nHost: server\r\n\r\n"));
    (answer.status, answer.text().to_owned())
}

fn ok(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

#[test]
fn saved_value_is_answered_and_loaded() {
    for kvd in servers() {
        assert_eq!(says(&kvd, "/save/title/Sapiens"), ok("Sapiens"));
        assert_eq!(says(&kvd, "/load/title"), ok("Sapiens"));
        assert_eq!(says(&kvd, "/save/title/Homo%20Deus?x=y"), ok("Homo Deus"));
        assert_eq!(says(&kvd, "/load/title?x=y"), ok("Homo Deus"));
        assert_eq!(says(&kvd, "/save/%C3%A9t%C3%A9/a+b%%3f"), ok("a+b%?"));
        assert_eq!(says(&kvd, "/load/%c3%a9t%c3%a9"), ok("a+b%?"));
    }
}

#[test]
fn unknown_key_is_a_value_of_its_own() {
    for kvd in servers() {
        assert_eq!(says(&kvd, "/load/title"), ok("_key_not_found_"));
    }
}

#[test]
fn all_keys_are_sorted_and_joined_by_commas() {
    for kvd in servers() {
        assert_eq!(says(&kvd, "/allKeys"), ok(""));
        for key in ["b", "a", "c", "B"] {
            assert_eq!(says(&kvd, &format!("/save/{key}/1")).0, 200);
        }
        assert_eq!(says(&kvd, "/allKeys"), ok("B,a,b,c"));
    }
}

#[test]
fn marker_in_the_data_directory_refuses_all_three() {
    let kvd = Kvd::start(&[]);
    assert_eq!(says(&kvd, "/save/a/1"), ok("1"));
    std::fs::write(kvd.setup.marker(), "").unwrap();
    for path in ["/save/a/2", "/load/a", "/allKeys"] {
        assert_eq!(says(&kvd, path), (503, "_shutting_down_".to_owned()), "{path}");
    }
    assert_eq!(says(&kvd, "/").0, 404);
    std::fs::remove_file(kvd.setup.marker()).unwrap();
    assert_eq!(says(&kvd, "/load/a"), ok("1"));
}

#[test]
fn other_paths_are_not_found() {
    for kvd in servers() {
        let unknown = [
            "/",
            "/allKeys/",
            "/save/K",
            "/save/K/",
            "/save/a%2Fb/V",
            "/save/K/a%2fb",
            "/load/a%2Fb",
            "/save",
            "/load",
            "/load/",
            "/load/K/",
            "/save/K/V/W",
            "/ALLKEYS",
            "/save//V",
        ];
        for path in unknown {
            assert_eq!(says(&kvd, path).0, 404, "{path}");
            assert_eq!(kvd.ask("POST", path, &[], b"").status, 404, "POST {path}");
        }
        assert_eq!(says(&kvd, "/allKeys"), ok(""), "nothing was saved");
    }
}

#[test]
fn post_is_not_allowed_and_head_runs_the_get() {
    for kvd in servers() {
        for path in ["/save/K/V", "/load/K", "/allKeys"] {
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                assert_eq!(kvd.ask(method, path, &[], b"").status, 405, "{method} {path}");
            }
        }
        assert_eq!(says(&kvd, "/load/K"), ok("_key_not_found_"));
        let answer = kvd.send("HEAD /save/K/V HTTP/1.1\r\nHost: server\r\n\r\n");
        assert_eq!(
            (answer.status, answer.text(), header(&answer, "content-length").as_deref()),
            (200, "", Some("1"))
        );
        assert_eq!(says(&kvd, "/load/K"), ok("V"));
    }
}

#[test]
fn every_answer_ends_its_connection_and_is_plain_text() {
    let kvd = Kvd::in_memory(&[]);
    for request in
        ["GET /save/a/%3Cb%3E", "GET /load/a", "GET /load/x", "GET /allKeys", "GET /", "POST /load/a"]
    {
        let answer = kvd.send(&format!("{request} HTTP/1.1\r\nHost: server\r\n\r\n"));
        assert_eq!(header(&answer, "connection").as_deref(), Some("close"), "{request}");
        assert_eq!(
            header(&answer, "content-type").as_deref(),
            Some("text/plain; charset=utf-8"),
            "{request}"
        );
        assert_eq!(header(&answer, "x-content-type-options").as_deref(), Some("nosniff"), "{request}");
    }
}

/// The original has these faults. kvd must not have them.
#[test]
fn keys_are_no_file_names() {
    for kvd in servers() {
        for key in ["_shutting_down_", "..", ".", "lock", "kvd.sqlite", "a,b", "100%25"] {
            assert_eq!(says(&kvd, &format!("/save/{key}/x")), ok("x"), "{key}");
            assert_eq!(says(&kvd, &format!("/load/{key}")), ok("x"), "{key}");
        }
        assert_eq!(says(&kvd, "/allKeys"), ok(".,..,100%25,_shutting_down_,a%2Cb,kvd.sqlite,lock"));
    }
}

#[test]
fn keys_that_no_list_could_hold_are_refused() {
    let kvd = Kvd::in_memory(&[]);
    for (key, reason) in [("a%0Ab", "control"), ("a%00", "control"), ("%ff", "UTF-8")] {
        for path in [format!("/save/{key}/x"), format!("/load/{key}")] {
            let (status, text) = says(&kvd, &path);
            assert!(status == 400 && text.contains(reason), "{path}: {status} {text}");
        }
    }
    let long = "k".repeat(1025);
    let (status, text) = says(&kvd, &format!("/save/{long}/x"));
    assert!(status == 414 && text.contains("1024"), "{status} {text}");
    assert_eq!(says(&kvd, &format!("/save/{}/x", &long[1..])), ok("x"));
}

#[test]
fn page_of_another_site_cannot_save() {
    let kvd = Kvd::in_memory(&[]);
    let from = |header: &str, path: &str| {
        kvd.send(&format!("GET {path} HTTP/1.1\r\nHost: server\r\n{header}\r\n\r\n")).status
    };
    assert_eq!(from("Sec-Fetch-Site: cross-site", "/save/a/evil"), 403);
    assert_eq!(from("Origin: http://evil.example", "/save/a/evil"), 403);
    assert_eq!(says(&kvd, "/load/a"), ok("_key_not_found_"));
    assert_eq!(from("Sec-Fetch-Site: none", "/save/a/typed"), 200);
}

#[test]
fn many_keys_are_streamed() {
    let kvd = Kvd::in_memory(&[]);
    let names: Vec<String> = (0..2500).map(|number| format!("key-{number:05}")).collect();
    for names in names.chunks(500) {
        let operations = names.iter().map(|name| format!(r#"{{"op":"put","key":"{name}","value":""}}"#));
        kvd.batch(&operations.collect::<Vec<_>>().join(",")).expect(200);
    }
    assert_eq!(kvd.get_whole("/allKeys").text(), names.join(","));
}
