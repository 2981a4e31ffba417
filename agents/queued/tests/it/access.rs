//! Access: tokens, TLS, the allow-list, bounds on requests; and the refusal of bad flags.

use crate::daemon::{Queued, Setup};
use std::io::{Read, Write};
use std::net::TcpStream;
use trial::wait_until;

#[test]
fn each_right_opens_its_own_doors_and_a_changed_file_counts_at_once() {
    let setup = Setup::new(&["--data", "memory", "--tokens", "tokens"]);
    setup.write("tokens", "pusher push\nworker work\nboss admin\n");
    let daemon = setup.start();
    let mut http = daemon.http();
    let mut status = |token: &str, method: &str, path: &str, body: &str| {
        http.token = (!token.is_empty()).then(|| token.to_owned());
        http.call(method, path, body).status
    };
    let none = "{\"items\":[]}";
    for (method, path, body, push, work, boss) in [
        ("GET", "/v1/queues", "", 200, 200, 200),
        ("PUT", "/v1/queues/q", "", 201, 403, 200),
        ("POST", "/v1/queues/q/items", "x", 201, 403, 201),
        ("POST", "/v1/queues/q/batch", "x", 201, 403, 201),
        ("POST", "/v1/queues/q/lease", "", 403, 200, 200),
        ("POST", "/v1/queues/q/ack", none, 403, 200, 200),
        ("POST", "/v1/queues/q/nack", none, 403, 200, 200),
        ("POST", "/v1/queues/q/extend", none, 403, 200, 200),
        ("POST", "/v1/queues/q/seal", "", 200, 403, 200),
        ("POST", "/v1/queues/q/unseal", "", 200, 403, 200),
        ("POST", "/v1/queues/q/drain", "", 403, 403, 200),
        ("POST", "/v1/queues/q/dead/redrive", "", 403, 403, 200),
        ("POST", "/v1/queues/q/dead/delete", "", 403, 403, 200),
        ("GET", "/v1/queues/q/items", "", 200, 200, 200),
        ("POST", "/memq/server/queues/q/enqueue", "x", 200, 403, 200),
        ("POST", "/memq/server/queues/q/dequeue", "", 403, 200, 200),
        ("DELETE", "/v1/queues/q", "", 403, 403, 204),
    ] {
        for (token, expected) in
            [("", 401), ("nobody", 401), ("pusher", push), ("worker", work), ("boss", boss)]
        {
            assert_eq!(status(token, method, path, body), expected, "{token:?} {method} {path}");
        }
    }
    for open in ["/healthy", "/ready", "/metrics"] {
        assert_eq!(status("", "GET", open, ""), 200, "{open}");
    }
    daemon.setup.write("tokens", "pusher work\n");
    wait_until("the new rights count", || status("pusher", "POST", "/v1/queues/q/items", "x") == 403);
    assert_eq!(status("boss", "GET", "/v1/queues", ""), 401);
    daemon.setup.write("tokens", "broken");
    wait_until("it is said", || daemon.says("renewed tokens cannot be used, keeping the old ones"));
    assert_eq!(status("pusher", "GET", "/v1/queues", ""), 200);
}

#[test]
fn a_bad_flag_or_file_is_one_line_that_names_it() {
    for (arguments, code, word) in [
        (vec!["--durability", "sometimes"], 64, "--durability"),
        (vec!["--line-queue", "a/b"], 64, "--line-queue"),
        (vec!["--segment-bytes", "1KiB"], 64, "--segment-bytes"),
        (vec!["--tokens", "nowhere"], 78, "nowhere"),
        (vec!["--data", "/proc/none"], 71, "/proc/none"),
        (vec!["check", "nowhere"], 1, "nowhere"),
    ] {
        let setup = Setup::new(&[]);
        let output = match arguments[0] {
            "check" => setup.run_other(&arguments),
            _ => Setup::new(&arguments).run(),
        };
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        let last = error.lines().last().unwrap();
        assert!(last.starts_with("queued: ") && last.contains(word), "{error}");
    }
}

#[test]
fn peers_outside_the_allow_list_get_no_answer_at_any_door() {
    let daemon = Queued::start(&["--data", "memory", "--allow", "192.0.2.0/24"]);
    for address in [daemon.http_address(), daemon.line_address()] {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(b"GET /v1/queues HTTP/1.1\r\nHost: q\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
}

#[test]
fn too_large_is_413_before_the_body_is_there_and_slow_or_broken_ones_are_told_apart() {
    let daemon =
        Queued::start(&["--data", "memory", "--max-item-bytes", "1000", "--max-request-bytes", "2000"]);
    assert_eq!(daemon.post("/v1/queues/q/items", "x".repeat(1001)).expect(413).error(), "too_large");
    daemon.post("/v1/queues/q/items", "x".repeat(1000)).expect(201);
    let item = format!("{{\"items\":[{{\"body\":\"{}\"}}]}}", "x".repeat(1001));
    let mut http = daemon.http();
    http.send("POST", "/v1/queues/q/batch", "application/json", item.as_bytes()).unwrap();
    assert_eq!(http.receive().unwrap().expect(413).error(), "too_large");
    // Each line of the batch is within the limit of an item, but the request exceeds its own.
    let lines = "x".repeat(1000) + "\n" + &"y".repeat(1000);
    let answer = daemon.post("/v1/queues/q/batch", lines).expect(413).text().to_owned();
    assert!(answer.contains("at most 2000 bytes (--max-request-bytes)"), "{answer}");
    // Without a length the server cannot refuse in advance.
    let mut stream = TcpStream::connect(daemon.http_address()).unwrap();
    let head = "POST /v1/queues/q/items HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    write!(stream, "{head}7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn an_item_limit_above_the_request_limit_is_refused_at_start() {
    for flags in [["--max-item-bytes", "16MiB"], ["--max-request-bytes", "512KiB"]] {
        let output = Setup::new(&[&["--data", "memory"][..], &flags].concat()).run();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("raise --max-request-bytes or lower --max-item-bytes"), "{said}");
    }
}

#[test]
fn raw_and_encoded_items_have_the_same_limit_on_every_way_in() {
    let limits = ["--data", "memory", "--max-item-bytes", "3000", "--max-request-bytes", "3000"];
    let daemon = Queued::start(&limits);
    daemon.http().call("PUT", "/v1/queues/q", "").expect(201);
    for path in ["/v1/queues/q/items", "/v1/queues/%71/items", "/memq/server/queues/q/enqueue"] {
        let taken = if path.starts_with("/v1") { 201 } else { 200 };
        daemon.post(path, "x".repeat(3000)).expect(taken);
        let answer = daemon.post(path, "x".repeat(3001)).expect(413).text().to_owned();
        assert!(answer.contains("an item has at most 3000 bytes (--max-item-bytes)"), "{path}: {answer}");
    }
    // An item of 2,300 bytes is 3,068 bytes of base64.
    let batch = format!("{{\"items\":[{{\"body_base64\":\"{}\"}}]}}", "A".repeat(3068));
    let mut http = daemon.http();
    http.send("POST", "/v1/queues/q/batch", "application/json", batch.as_bytes()).unwrap();
    let answer = http.receive().unwrap().expect(413).text().to_owned();
    assert!(answer.contains("at most 3000 bytes (--max-request-bytes)"), "{answer}");
}

#[test]
fn nonsense_values_are_refused_with_the_least_sensible_one() {
    for (flag, value, least) in [
        ("--max-memory", "10", "at least 64KiB"),
        ("--max-queues", "0", "at least 1"),
        ("--max-connections", "0", "1.."),
        ("--segment-bytes", "1", "from 64 KiB"),
        ("--max-item-bytes", "0", "from 1 byte"),
    ] {
        let output = Setup::new(&[flag, value]).run();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(flag) && said.contains(least), "{said}");
    }
}

#[test]
fn http_over_tls_and_only_for_clients_that_the_ca_knows() {
    use rcgen::{CertificateParams, Issuer, KeyPair};
    let setup = Setup::new(&[
        "--data",
        "memory",
        "--tls-cert",
        "tls.crt",
        "--tls-key",
        "tls.key",
        "--tls-client-ca",
        "ca.crt",
    ]);
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    setup.write("ca.crt", ca.self_signed(&ca_key).unwrap().pem());
    let issuer = Issuer::new(ca, &ca_key);
    for name in ["tls", "client"] {
        let key = KeyPair::generate().unwrap();
        let cert =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        setup.write(&format!("{name}.crt"), cert.pem());
        setup.write(&format!("{name}.key"), key.serialize_pem());
    }
    let files = |cert: Option<&str>| kit::net::tls::ClientFiles {
        tls_ca: Some(setup.path("ca.crt")),
        tls_cert: cert.map(|name| setup.path(&format!("{name}.crt"))),
        tls_key: cert.map(|name| setup.path(&format!("{name}.key"))),
        tls_name: None,
    };
    let (known, unknown) = (files(Some("client")).load().unwrap(), files(None).load().unwrap());
    let daemon = setup.start();
    let ask = |config: Option<std::sync::Arc<_>>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let stream = tokio::net::TcpStream::connect(daemon.http_address()).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(config.unwrap());
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
            stream.write_all(b"GET /healthy HTTP/1.1\r\nHost: q\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        })
    };
    assert!(ask(known).unwrap().starts_with("HTTP/1.1 200 OK"));
    assert!(ask(unknown).is_err());
}
