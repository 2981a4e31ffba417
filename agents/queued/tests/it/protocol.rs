//! PROTOCOL.md, sentence by sentence, on the wire.

use crate::daemon::Queued;
use crate::http::Http;
use serde_json::{Value, json};
use trial::wait_until;

fn daemon() -> Queued {
    Queued::start(&["--data", "memory"])
}

fn held(item: &Value) -> Value {
    json!({"id": item["id"], "token": item["token"]})
}

fn lease(http: &mut Http, action: &Value) -> Value {
    http.post("/v1/queues/q/lease", action.to_string()).expect(200).json()
}

#[test]
fn queue_is_created_configured_listed_and_deleted() {
    let daemon = daemon();
    let http = &mut daemon.http();
    assert_eq!(http.get("/v1/queues/q").expect(404).error(), "no_such_queue");
    http.call("PUT", "/v1/queues/q", r#"{"lease_ms":500,"dead_letter_queue":"graves"}"#).expect(201);
    let queue = http.call("PUT", "/v1/queues/q", r#"{"max_items":3}"#).expect(200);
    let expected = concat!(
        r#"{"name":"q","verdict":"pending","sealed":false,"paused":false,"backlog":0,"ready":0,"delayed":0,"leased":0,"dead":0,"failed":0,"#,
        r#""bytes":0,"oldest_ready_ms":null,"pushed":0,"leases":0,"acked":0,"nacked":0,"expired":0,"died":0,"#,
        r#""removed":0,"waiting":0,"settings":{"lease_ms":500,"max_attempts":5,"backoff_ms":1000,"#,
        r#""backoff_max_ms":60000,"max_items":3,"max_bytes":0,"key_memory_ms":600000,"dead_letter_queue":"graves"}}"#,
        "\n"
    );
    assert_eq!(queue.text(), expected);
    assert_eq!(http.get("/v1/queues/q").text(), expected);
    http.call("PUT", "/v1/queues/b", "").expect(201);
    let list = http.get("/v1/queues").json();
    assert_eq!((&list["queues"][0]["name"], &list["queues"][1]["name"]), (&json!("b"), &json!("q")));
    assert_eq!(http.call("DELETE", "/v1/queues/q", "").expect(204).text(), "");
    assert_eq!(http.call("DELETE", "/v1/queues/q", "").expect(404).error(), "no_such_queue");
}

#[test]
fn item_cycle_is_exact_on_the_wire() {
    let daemon = daemon();
    let http = &mut daemon.http();
    http.send("POST", "/v1/queues/q/items?key=k%201", "text/plain", "häl\"lo\n".as_bytes()).unwrap();
    let pushed = http.receive().unwrap().expect(201);
    let id = pushed.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(pushed.text(), format!("{{\"id\":\"{id}\",\"duplicate\":false}}\n"));
    let seen = http.get("/v1/queues/q/items").expect(200);
    let at = seen.json()["items"][0]["pushed_at"].as_str().unwrap().to_owned();
    assert!(at.len() == 24 && at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(), "{at}");
    let rest = r#""key":"k 1","content_type":"text/plain","body":"häl\"lo\n"}"#;
    let item = format!(r#"{{"id":"{id}","state":"ready","attempts":0,"pushed_at":"{at}",{rest}"#);
    assert_eq!(seen.text(), format!("{{\"items\":[{item}]}}\n"));
    assert_eq!(http.get(&format!("/v1/queues/q/items/{id}")).expect(200).text(), format!("{item}\n"));
    let leased = http.post("/v1/queues/q/lease", r#"{"lease_ms":7000}"#).expect(200);
    let token = leased.json()["items"][0]["token"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"{{"items":[{{"id":"{id}","token":"{token}","attempt":1,"pushed_at":"{at}","lease_ms":7000,{rest}],"done":false,"verdict":"working","sealed":false,"paused":false,"ready":0,"delayed":0,"leased":1,"failed":0,"results":[]}}"#
    );
    assert_eq!(leased.text(), expected + "\n");
    let ack = format!(r#"{{"id":"{id}","token":"{token}"}}"#);
    let extended = http.post("/v1/queues/q/extend", &ack).expect(200);
    assert_eq!(
        extended.text(),
        format!("{{\"results\":[{{\"id\":\"{id}\",\"status\":\"ok\",\"lease_ms\":30000}}]}}\n")
    );
    let acked = http.post("/v1/queues/q/ack", &ack).expect(200);
    assert_eq!(acked.text(), format!("{{\"results\":[{{\"id\":\"{id}\",\"status\":\"ok\"}}]}}\n"));
    let lost = http.post("/v1/queues/q/ack", &ack).expect(409);
    let expected = format!(
        r#"{{"error":"lost","message":"at least one lease is no longer held","results":[{{"id":"{id}","status":"lost"}}]}}"#
    );
    assert_eq!(lost.text(), expected + "\n");
    assert_eq!(http.get(&format!("/v1/queues/q/items/{id}")).expect(404).error(), "no_such_item");
}

#[test]
fn binary_bodies_travel_as_base64() {
    let daemon = daemon();
    let http = &mut daemon.http();
    http.post("/v1/queues/q/items", [0xff, 0x00]).expect(201);
    let batch = r#"{"items":[{"body_base64":"/wA="},{"body":""}],"seal":true}"#;
    http.send("POST", "/v1/queues/q/batch", "application/json; charset=utf-8", batch.as_bytes()).unwrap();
    assert_eq!(http.receive().unwrap().expect(201).json()["sealed"], true);
    let items = lease(http, &json!({"max": 3}))["items"].clone();
    assert_eq!((&items[0]["body_base64"], &items[1]["body_base64"]), (&json!("/wA="), &json!("/wA=")));
    assert_eq!((&items[0]["body"], &items[2]["body"]), (&Value::Null, &json!("")));
}

#[test]
fn lines_are_items_and_batches_atomic() {
    let daemon = daemon();
    let http = &mut daemon.http();
    http.call("PUT", "/v1/queues/q", r#"{"max_items":3}"#).expect(201);
    assert_eq!(http.post("/v1/queues/q/batch", "a\nb\nc\nd").expect(429).error(), "full");
    assert_eq!(http.get("/v1/queues/q").json()["ready"], 0);
    let pushed = http.post("/v1/queues/q/batch", "a\n\nb\r\nc\n").expect(201);
    assert_eq!(pushed.json()["items"].as_array().unwrap().len(), 3);
    assert_eq!(lease(http, &json!({"max": 9}))["items"][1]["body"], "b\r");
    let full = http.post("/v1/queues/q/items", "d").expect(429);
    assert!(full.head.contains("retry-after: 1\r\n"));
    assert_eq!(http.post("/v1/queues/q/batch", "").expect(201).text(), "{\"items\":[],\"sealed\":false}\n");
}

#[test]
fn cycle_is_one_request_despite_lost_lease() {
    let daemon = daemon();
    let http = &mut daemon.http();
    http.post("/v1/queues/q/batch", "a\nb\nc\nd").expect(201);
    let first = lease(http, &json!({"max": 2}));
    let (a, b) = (held(&first["items"][0]), held(&first["items"][1]));
    let mut nack = b.clone();
    nack["release"] = json!(true);
    let stale = json!({"id": b["id"], "token": "0000000000000000"});
    let next = lease(http, &json!({"ack": [a, stale], "nack": [nack]}));
    let statuses: Vec<&str> =
        next["results"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["ok", "lost", "ok"]);
    assert_eq!((&next["items"][0]["body"], &next["items"][0]["attempt"]), (&json!("b"), &json!(1)));
}

#[test]
fn expired_lease_returns_and_its_token_is_rejected() {
    let daemon = daemon();
    let http = &mut daemon.http();
    http.call("PUT", "/v1/queues/q", r#"{"lease_ms":100,"backoff_ms":1}"#).expect(201);
    http.post("/v1/queues/q/items", "a").expect(201);
    let first = lease(http, &json!({}))["items"][0].clone();
    let second = lease(http, &json!({"wait_ms": 60000, "lease_ms": 60000}))["items"][0].clone();
    assert_eq!((&second["id"], &second["attempt"]), (&first["id"], &json!(2)));
    for path in ["ack", "nack", "extend"] {
        assert_eq!(
            http.post(&format!("/v1/queues/q/{path}"), held(&first).to_string()).expect(409).error(),
            "lost"
        );
    }
    let both = json!({"items": [held(&first), held(&second)]});
    let answer = http.post("/v1/queues/q/ack", both.to_string()).expect(409).json();
    assert_eq!(
        (&answer["results"][0]["status"], &answer["results"][1]["status"]),
        (&json!("lost"), &json!("ok"))
    );
}

#[test]
fn dead_items_are_listed_redriven_and_moved() {
    let daemon = daemon();
    let http = &mut daemon.http();
    http.call("PUT", "/v1/queues/q", r#"{"max_attempts":1}"#).expect(201);
    http.post("/v1/queues/q/batch", "a\nb\nc").expect(201);
    let mut nacks = lease(http, &json!({"max": 3}))["items"].clone();
    for (nack, reason) in nacks.as_array_mut().unwrap().iter_mut().zip(["one", "two", "three"]) {
        *nack = held(nack);
        nack["reason"] = json!(reason);
    }
    let answer = http.post("/v1/queues/q/nack", json!({ "items": nacks }).to_string()).expect(200).json();
    assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == "dead"));
    let dead = http.get("/v1/queues/q/dead?limit=2").expect(200).json();
    assert_eq!((&dead["items"][1]["reason"], &dead["items"][1]["state"]), (&json!("two"), &json!("dead")));
    let after =
        http.get(&format!("/v1/queues/q/dead?after={}", dead["items"][1]["id"].as_str().unwrap())).json();
    assert_eq!(after["items"][0]["reason"], "three");
    let first = json!({"ids": [dead["items"][0]["id"], "0".repeat(32)]}).to_string();
    assert_eq!(http.post("/v1/queues/q/dead/redrive", &first).expect(200).text(), "{\"count\":1}\n");
    assert_eq!(http.post("/v1/queues/q/dead/delete", "").expect(200).text(), "{\"count\":2}\n");
    http.call("PUT", "/v1/queues/q", r#"{"dead_letter_queue":"graves"}"#).expect(200);
    let item = held(&lease(http, &json!({}))["items"][0]);
    http.post("/v1/queues/q/nack", item.to_string()).expect(200);
    let moved = http.get("/v1/queues/graves/items").expect(200).json();
    assert_eq!((&moved["items"][0]["body"], &moved["items"][0]["attempts"]), (&json!("a"), &json!(0)));
    assert_eq!(http.get("/v1/queues/q").json()["dead"], 0);
}

#[test]
fn invalid_requests_have_distinct_errors() {
    let daemon = Queued::start(&["--data", "memory", "--max-queues", "2"]);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/items", "x").expect(201);
    let id = "0".repeat(32);
    let lease_twice = format!(r#"{{"ack":[{{"id":"{id}","token":"x"}}]}}"#);
    for (method, path, body, status, error) in [
        ("PUT", "/v1/queues/q", "{", 400, "bad_request"),
        ("PUT", "/v1/queues/q", "[]", 422, "invalid"),
        ("PUT", "/v1/queues/q", r#"{"lease":1}"#, 422, "invalid"),
        ("PUT", "/v1/queues/q", r#"{"lease_ms":-1}"#, 422, "invalid"),
        ("PUT", "/v1/queues/q", r#"{"lease_ms":1}"#, 422, "invalid"),
        ("PUT", "/v1/queues/.q", "", 422, "invalid"),
        ("PUT", "/v1/queues/a%2Fb", "", 422, "invalid"),
        ("PUT", "/v1/queues/%ff", "", 400, "bad_request"),
        ("POST", "/v1/queues/q/items?delay_ms=x", "x", 422, "invalid"),
        ("POST", "/v1/queues/q/items?dealy_ms=1", "x", 422, "invalid"),
        ("POST", "/v1/queues/q/items?key=", "x", 422, "invalid"),
        ("POST", "/v1/queues/q/batch?key=k", "x", 422, "invalid"),
        ("POST", "/v1/queues/q/lease", r#"{"max":0}"#, 422, "invalid"),
        ("POST", "/v1/queues/q/lease", r#"{"max":1001}"#, 422, "invalid"),
        ("POST", "/v1/queues/q/lease", r#"{"wait_ms":300001}"#, 422, "invalid"),
        ("POST", "/v1/queues/q/lease", r#"{"until":"later"}"#, 422, "invalid"),
        ("POST", "/v1/queues/q/lease", &lease_twice, 422, "invalid"),
        ("POST", "/v1/queues/q/lease", "null", 422, "invalid"),
        ("POST", "/v1/queues/q/ack", "{}", 422, "invalid"),
        ("POST", "/v1/queues/q/ack", "not json", 400, "bad_request"),
        ("POST", "/v1/queues/q/dead/delete", r#"{"ids":["x"]}"#, 422, "invalid"),
        ("GET", "/v1/queues/q/items?state=gone", "", 422, "invalid"),
        ("GET", "/v1/queues/q/items?limit=0", "", 422, "invalid"),
        ("GET", "/v1/queues/q/items/x", "", 422, "invalid"),
        ("POST", "/v1/queues/none/unseal", "", 404, "no_such_queue"),
        ("POST", "/v1/queues/none/drain", "", 404, "no_such_queue"),
        ("GET", "/v1/events?queue=none", "", 404, "no_such_queue"),
        ("PUT", "/v1/queues/b", "", 201, ""),
        ("PUT", "/v1/queues/c", "", 429, "full"),
        ("POST", "/v1/queues/c/items", "x", 429, "full"),
    ] {
        let answer = http.call(method, path, body).expect(status);
        if !error.is_empty() {
            assert_eq!(answer.error(), error, "{method} {path} {body}");
        }
    }
    let batch = |http: &mut Http, body: &str| {
        http.send("POST", "/v1/queues/q/batch", "application/json", body.as_bytes()).unwrap();
        http.receive().unwrap().status
    };
    assert_eq!(batch(http, r#"{"items":[{"body":"a","body_base64":"YQ=="}]}"#), 422);
    assert_eq!(batch(http, r#"{"items":[{}]}"#), 422);
    assert_eq!(batch(http, r#"{"items":[{"body_base64":"?"}]}"#), 422);
    assert_eq!(batch(http, r#"{"items":["#), 400);
    assert_eq!(http.get("/v1/queues/q").json()["ready"], 1);
}

#[test]
fn events_begin_with_all_queues() {
    let daemon = daemon();
    daemon.post("/v1/queues/q/items", "x").expect(201);
    let mut stream = daemon.http();
    stream.send("GET", "/v1/events", "", b"").unwrap();
    let mut seen = String::new();
    let mut until = |stream: &mut Http, what: &str| {
        while !seen.contains(what) {
            seen += &stream.read_some();
        }
        seen.clear();
    };
    until(&mut stream, "event: queue\ndata: {\"name\":\"q\",\"verdict\":\"working\"");
    daemon.post("/v1/queues/q/drain", "").expect(200);
    until(&mut stream, "event: queue\ndata: {\"name\":\"q\",\"verdict\":\"drained\"");
    daemon.http().call("DELETE", "/v1/queues/q", "").expect(204);
    until(&mut stream, "event: deleted\ndata: {\"name\":\"q\"}\n");
}

#[test]
fn stats_are_sums() {
    let daemon = Queued::start(&[]);
    daemon.post("/v1/queues/a/items", "abc").expect(201);
    daemon.post("/v1/queues/b/items?delay_ms=60000", "de").expect(201);
    let expected = concat!(
        r#"{"queues":2,"ready":1,"delayed":1,"leased":0,"dead":0,"failed":0,"backlog":2,"bytes":5,"durability":"always","#,
        r#""memory_bytes":5,"memory_bytes_max":268435456,"log_bytes":262144}"#,
        "\n"
    );
    assert_eq!(daemon.get("/v1/stats").expect(200).text(), expected);
}

#[test]
fn draining_server_finishes_work_only() {
    let daemon = daemon();
    let http = &mut daemon.http();
    http.post("/v1/queues/q/batch", "a\nb").expect(201);
    let item = held(&lease(http, &json!({}))["items"][0]);
    // A waiting request keeps the connection open when the drain begins.
    let mut open = daemon.http();
    open.send("POST", "/v1/queues/w/lease", "", br#"{"wait_ms":60000}"#).unwrap();
    http.call("PUT", "/v1/queues/w", "").expect(201);
    wait_until("it waits", || daemon.get("/v1/queues/w").json()["waiting"] == 1);
    let mut slow = std::net::TcpStream::connect(daemon.http_address()).unwrap();
    let body = item.to_string();
    let head = format!("POST /v1/queues/q/ack HTTP/1.1\r\nHost: q\r\nContent-Length: {}\r\n\r\n", body.len());
    std::io::Write::write_all(&mut slow, head.as_bytes()).unwrap();
    wait_until("its head is read", || daemon.get("/v1/queues").status == 200);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(open.receive().unwrap().status, 200);
    std::io::Write::write_all(&mut slow, body.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut slow, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn fast_path_answers_like_the_router() {
    let daemon = Queued::start(&["--data", "memory", "--max-item-bytes", "100"]);
    let http = &mut daemon.http();
    let requests: [(&str, &str, &[u8]); 10] = [
        ("items", "text/plain", b"x"),
        ("items", "", b""),
        ("items", "", &[b'x'; 101]),
        ("lease", "", b""),
        ("lease", "", b"[]"),
        ("lease", "", b"{\"max\":0}"),
        ("lease", "", b"{"),
        ("ack", "", b"{}"),
        ("ack", "", b"{\"id\":\"00000000000000000000000000000000\",\"token\":\"0000000000000000\"}"),
        ("ack", "", b"\xff"),
    ];
    for (step, content_type, body) in requests {
        // Only the router decodes paths and reads queries.
        let [direct, decoded, asked] = ["q/STEP", "%71/STEP", "q/STEP?"].map(|path| {
            let path = format!("/v1/queues/{}", path.replace("STEP", step));
            http.send("POST", &path, content_type, body).unwrap();
            let answer = http.receive().unwrap();
            let head = answer.head.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
            let head: Vec<String> = head.map(str::to_owned).collect();
            let mut text = answer.text().to_owned();
            // These fields differ between two items.
            for field in ["id", "token", "pushed_at", "ready", "leased"] {
                let value = |value: &Value| value.to_string();
                let answered: Value = serde_json::from_str(&text).unwrap();
                let object = answered["items"].get(0).unwrap_or(&answered);
                for value in [object.get(field), answered.get(field)].into_iter().flatten().map(value) {
                    text = text.replacen(&format!("\"{field}\":{value}"), &format!("\"{field}\":null"), 1);
                }
            }
            (head, text)
        });
        assert_eq!(direct, decoded, "{step}");
        assert_eq!(direct, asked, "{step}");
    }
    let counted = daemon.http().get("/metrics");
    assert!(
        counted.text().contains("queued_requests_total{door=\"v1\",status=\"201\"} 6\n"),
        "{}",
        counted.text()
    );
}

#[test]
fn search_finds_item_after_thousands() {
    let daemon = daemon();
    let http = &mut daemon.http();
    for _ in 0..2 {
        http.post("/v1/queues/q/batch", "x\n".repeat(5000)).expect(201);
        http.post("/v1/queues/q/items?delay_ms=600000", "late").expect(201);
    }
    let found = |http: &mut Http, query: &str| {
        let items = http.get(&format!("/v1/queues/q/items?{query}")).expect(200).json()["items"].clone();
        items.as_array().unwrap().clone()
    };
    let late = found(http, "state=delayed");
    assert_eq!(late.len(), 2);
    assert!(late.iter().all(|item| item["body"] == "late"));
    let first = found(http, "state=delayed&limit=1");
    assert_eq!((first.len(), &first[0]["id"]), (1, &late[0]["id"]));
    let after = late[0]["id"].as_str().unwrap();
    assert_eq!(found(http, &format!("state=delayed&after={after}"))[0]["id"], late[1]["id"]);
    assert_eq!(found(http, &format!("after={after}&limit=1000")).len(), 1000);
    assert_eq!(found(http, "state=dead").len(), 0);
}
