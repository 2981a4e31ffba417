//! Tests the limits: a request beyond one is refused with its status and a reason, and the server goes on.

use crate::daemon::Kvd;

#[test]
fn long_values_and_batches_are_refused() {
    let kvd = Kvd::start(&["--max-value-bytes", "1KiB", "--max-request-bytes", "4KiB"]);
    kvd.put("/v1/keys/a", [b'x'; 1024]).expect(201);
    let refused = kvd.put("/v1/keys/a", [b'x'; 1025]).expect(413);
    assert!(
        refused.error() == "too_large" && refused.text().contains("--max-value-bytes"),
        "{}",
        refused.text()
    );
    // A chunked body has no length that could be checked first.
    let chunk = "x".repeat(1025);
    let chunked = kvd.send(&format!(
        "PUT /v1/keys/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{chunk}\r\n0\r\n\r\n"
    ));
    assert_eq!(chunked.status, 413);
    let put = |bytes: usize| format!(r#"{{"op":"put","key":"b","value":"{}"}}"#, "x".repeat(bytes));
    let refused = kvd.batch(&put(1025)).expect(413);
    assert!(refused.text().contains("operations[0]: a value has at most"), "{}", refused.text());
    let refused = kvd.batch(&put(5000)).expect(413);
    assert!(refused.text().contains("--max-request-bytes"), "{}", refused.text());
    let checks: Vec<_> = (0..1001).map(|key| format!(r#"{{"op":"check","key":"{key}"}}"#)).collect();
    let roomy = Kvd::in_memory(&[]);
    let refused = roomy.batch(&checks.join(",")).expect(413);
    assert!(refused.text().contains("1000 operations"), "{}", refused.text());
    roomy.batch(&checks[1..].join(",")).expect(200);
}

#[test]
fn long_keys_are_refused() {
    let kvd = Kvd::in_memory(&[]);
    let key = "k".repeat(1025);
    let refused = kvd.put(&format!("/v1/keys/{key}"), "x").expect(414);
    assert!(refused.error() == "key_too_long" && refused.text().contains("1024"), "{}", refused.text());
    assert_eq!(kvd.get(&format!("/v1/keys/{}", "k".repeat(70_000))).status, 414);
    kvd.put(&format!("/v1/keys/{}", &key[1..]), "x").expect(201);
}

#[test]
fn full_server_refuses_more_and_takes_less() {
    for engine in ["memory", "data"] {
        let kvd = Kvd::start(&["--data", engine, "--max-bytes", "10KiB"]);
        let put = |key: &str, bytes: usize| kvd.put(&format!("/v1/keys/{key}"), vec![b'x'; bytes]).status;
        assert_eq!([put("a", 4000), put("b", 4000), put("c", 4000)], [201, 201, 507]);
        let refused = kvd.put("/v1/keys/c", [b'x'; 4000]);
        assert!(refused.error() == "full" && refused.text().contains("--max-bytes"), "{}", refused.text());
        assert_eq!(kvd.get("/v1/keys/a").body.len(), 4000);
        let course = kvd.send(&format!("GET /save/c/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(4000)));
        assert!(course.status == 507 && course.text().contains("--max-bytes"), "{}", course.text());
        assert_eq!(put("b", 100), 200, "a shorter value");
        assert_eq!(put("c", 4000), 201);
        kvd.delete("/v1/keys/a").expect(200);
        assert_eq!(put("d", 4000), 201);
    }
}
