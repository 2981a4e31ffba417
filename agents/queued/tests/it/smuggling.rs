//! Requests that different readers could understand differently, and requests that browsers can be tricked
//! into sending.

use crate::daemon::{Queued, Setup};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use trial::{DEADLINE, wait_until};

/// Sent last, so that the connection ends.
const LAST: &str = "GET /live HTTP/1.1\r\nHost: q\r\nConnection: close\r\n\r\n";

/// Sends these bytes and the last request; returns all answers. The last one is missing if the server closed
/// the connection before.
fn exchange(daemon: &Queued, bytes: &str) -> String {
    let mut stream = TcpStream::connect(daemon.http_address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(format!("{bytes}{LAST}").as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A refusal may be followed by a reset, for the unread bytes.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{bytes}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

const SMUGGLED: &str = "POST /v1/queues/smuggled/items HTTP/1.1\r\nHost: q\r\nContent-Length: 1\r\n\r\nx";

#[test]
fn no_request_is_smuggled_in_a_body() {
    let daemon = Queued::start(&["--data", "memory"]);
    let whole = SMUGGLED.len();
    let as_length = format!("Content-Length: {}\r\n", whole + 5);
    for (what, head, body) in [
        ("a length and chunks", format!("{as_length}Transfer-Encoding: chunked\r\n"), "0\r\n\r\n"),
        ("chunks and a length", format!("Transfer-Encoding: chunked\r\n{as_length}"), "0\r\n\r\n"),
        ("chunks that are not the last", format!("{as_length}Transfer-Encoding: chunked, identity\r\n"), ""),
        ("chunks misspelt", format!("{as_length}Transfer-Encoding: xchunked\r\n"), "0\r\n\r\n"),
        ("chunks behind a tab", format!("{as_length}Transfer-Encoding:\tchunked\r\n"), "0\r\n\r\n"),
        (
            "chunks twice",
            format!("{as_length}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
            "0\r\n\r\n",
        ),
        ("two lengths", format!("{as_length}Content-Length: 0\r\n"), ""),
        ("two lengths, the other way round", format!("Content-Length: 0\r\n{as_length}"), ""),
        ("two lengths in one", format!("Content-Length: {whole}, 0\r\n"), ""),
        ("a length with a sign", format!("Content-Length: +{whole}\r\n"), ""),
        ("a length that is too long for a number", "Content-Length: 18446744073709551616\r\n".to_owned(), ""),
        ("a length in hexadecimal", "Content-Length: 0x0\r\n".to_owned(), ""),
        ("a space before the colon", "Content-Length : 0\r\n".to_owned(), ""),
        ("a folded length", format!("Content-Length:\r\n {whole}\r\n"), ""),
        ("a folded header", format!("X: y\r\n Content-Length: {whole}\r\n"), ""),
        ("a bare return", format!("X: y\rContent-Length: {whole}\r\n"), ""),
        ("a NUL", "X: \0\r\nContent-Length: 0\r\n".to_owned(), ""),
        ("chunks with bare newlines", "Transfer-Encoding: chunked\r\n".to_owned(), "0\n\n"),
        ("a chunk of a length with a sign", "Transfer-Encoding: chunked\r\n".to_owned(), "+0\r\n\r\n"),
        ("chunks under HTTP/1.0", "HTTP/1.0".to_owned(), "0\r\n\r\n"),
    ] {
        let (version, head) = match head.as_str() {
            "HTTP/1.0" => ("1.0", "Transfer-Encoding: chunked\r\n"),
            head => ("1.1", head),
        };
        // Sends the request past hyper, if the fast path takes it, and through hyper.
        let [direct, through] = ["", "Connection: keep-alive\r\n"].map(|hyper| {
            let request = format!(
                "POST /v1/queues/q/items HTTP/{version}\r\nHost: q\r\n{hyper}{head}\r\n{body}{SMUGGLED}"
            );
            exchange(&daemon, &request)
        });
        assert_eq!(statuses(&direct), statuses(&through), "{what}: {direct}\n{through}");
        assert!(matches!(statuses(&direct)[..], ["201" | "400"]), "{what}: {direct}");
        assert_eq!(daemon.get("/v1/queues/smuggled").status, 404, "{what}");
    }
    // Checks that the smuggled request is valid by itself.
    let pipelined = format!("{SMUGGLED}{SMUGGLED}");
    assert_eq!(statuses(&exchange(&daemon, &pipelined)), ["201", "201", "200"]);
    assert_eq!(daemon.get("/v1/queues/smuggled").json()["ready"], 2);
}

#[test]
fn no_path_spelling_bypasses_tokens() {
    let setup = Setup::new(&["--data", "memory", "--tokens", "tokens"]);
    setup.write("tokens", "pusher push\nboss admin\n");
    let daemon = setup.start();
    let ask = |method: &str, path: &str, headers: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: q\r\n{headers}Content-Length: 1\r\n\r\nx");
        let answer = exchange(&daemon, &request);
        statuses(&answer)[0].parse::<u16>().unwrap()
    };
    let boss = "Authorization: Bearer boss\r\n";
    assert_eq!(ask("POST", "/v1/queues/q/items", boss), 201);
    let paths = [
        "/v1/queues/q/drain",
        "//v1/queues/q/drain",
        "/v1//queues/q/drain",
        "/v1/./queues/q/drain",
        "/metrics/../v1/queues/q/drain",
        "/page/%2e%2e/v1/queues/q/drain",
        "/v1/queues/x/items/../../q/drain",
        "/v1/queues/q%2fdrain",
        "/v1/queues/q/%64rain",
        "/v1/queues/q/drain/",
        "/v1/queues/q/drain%00",
        "/v1/queues/q/drain;x=/metrics",
        "/v1/queues/q/drain?/metrics",
        "/V1/queues/q/drain",
        "\\v1\\queues\\q\\drain",
        "http://q/v1/queues/q/drain",
        "http://evil.example/v1/queues/q/drain",
        "http://boss@q/v1/queues/q/drain",
        "*",
        "v1/queues/q/drain",
    ];
    let pusher = "Authorization: Bearer pusher\r\n";
    for path in paths {
        for headers in [
            "",
            pusher,
            "Authorization: Bearer\r\nAuthorization: Bearer boss\r\n",
            "Authorization: Bearer boss,Bearer x\r\n",
            "Authorization : Bearer boss\r\n",
            "X-Authorization: Bearer boss\r\nX-Original-URL: /metrics\r\nX-Forwarded-For: 127.0.0.1\r\n",
            "Host: evil.example\r\n",
            "Cookie: token=boss\r\n",
        ] {
            let status = ask("POST", path, headers);
            assert!(status >= 400, "{path} {headers:?}: {status}");
        }
        // A method override has no effect either.
        let status = ask("POST", path, &format!("{pusher}X-HTTP-Method-Override: DELETE\r\n"));
        assert!(status >= 400, "{path}: {status}");
    }
    let mut http = daemon.http();
    http.token = Some("boss".to_owned());
    assert_eq!(http.get("/v1/queues").json()["queues"].as_array().unwrap().len(), 1);
    assert_eq!(http.get("/v1/queues/q").json()["ready"], 1);
    assert_eq!(ask("POST", "/v1/queues/q/drain", boss), 200);
}

#[test]
fn foreign_sites_cannot_change_queues() {
    let daemon = Queued::start(&["--data", "memory"]);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    let ask = |method: &str, path: &str, headers: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{headers}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        statuses(&exchange(&daemon, &request))[0].parse::<u16>().unwrap()
    };
    for strange in [
        "Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: \u{e9}\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        for path in [
            "/v1/queues/q/items",
            "/v1/queues/q/batch",
            "/v1/queues/q/lease",
            "/v1/queues/q/drain",
            "/v1/queues/q/seal",
            "/memq/server/queues/q/drain",
            "/memq/server/queues/q/dequeue",
            "/drain",
        ] {
            assert_eq!(ask("POST", path, strange), 403, "{path} {strange:?}");
        }
        assert_eq!(ask("DELETE", "/v1/queues/q", strange), 403);
    }
    let queue = daemon.get("/v1/queues/q").expect(200).json();
    assert_eq!((&queue["ready"], &queue["leases"], &queue["sealed"]), (&1.into(), &0.into(), &false.into()));
    // The server's own page is allowed.
    let own = "Origin: http://127.0.0.1:8080\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(ask("POST", "/v1/queues/q/items", own), 201);
}

#[test]
fn tokens_are_never_shown() {
    const TOKEN: &str = "hush-6f1d9c02";
    let setup = Setup::new(&["--data", "memory", "--tokens", "tokens", "--log-level", "trace"]);
    setup.write("tokens", format!("{TOKEN} push,work\n"));
    let daemon = setup.start();
    let mut seen = String::new();
    for token in [TOKEN.to_owned(), format!("{TOKEN}x"), format!("{TOKEN}\u{e9}"), format!("Bearer {TOKEN}")]
    {
        let mut http = daemon.http();
        http.token = Some(token);
        for (method, path, body) in [
            ("POST", "/v1/queues/q/items", "x"),
            ("POST", "/v1/queues/q/lease", "{}"),
            ("POST", "/v1/queues/q/lease", "{"),
            ("DELETE", "/v1/queues/q", ""),
            ("GET", "/v1/queues", ""),
            ("GET", "/nowhere", ""),
            ("POST", "/memq/server/queues/q/enqueue", "x"),
        ] {
            let answer = http.call(method, path, body);
            seen += &answer.head;
            seen += answer.text();
        }
        // Includes hyper's own answer to a request that it cannot parse.
        seen += &exchange(&daemon, &format!("GET / HTTP/1.1\r\nAuthorization : Bearer {TOKEN}\r\n\r\n"));
    }
    seen += daemon.get("/metrics").text();
    daemon.setup.write("tokens", format!("{TOKEN} fly\n"));
    wait_until("the bad file is said", || daemon.says("files_rejected"));
    daemon.terminate();
    let log = daemon.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "nothing was logged: {log}");
    for (text, what) in [(&seen, "answers"), (&log, "log")] {
        assert!(!text.contains(TOKEN), "a token in the {what}: {text}");
    }
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", std::process::id())).unwrap();
    assert!(!command.contains(TOKEN));
}

#[test]
fn ipv4_peers_match_on_dual_stack_sockets() {
    for (allow, welcome) in
        [("127.0.0.1", true), ("127.0.0.0/8", true), ("::1", false), ("10.0.0.0/8", false)]
    {
        let daemon =
            Queued::start(&["--data", "memory", "--http", "[::]:0", "--line", "[::]:0", "--allow", allow]);
        for port in [daemon.http_address().port(), daemon.line_address().port()] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let is_http = port == daemon.http_address().port();
            if is_http {
                let _ = stream.write_all(LAST.as_bytes());
            }
            let mut answer = String::new();
            let ended = stream.read_to_string(&mut answer);
            let served = answer.starts_with("HTTP/1.1 200") || !is_http && ended.is_ok();
            assert_eq!(served, welcome, "--allow {allow}, port {port}: {ended:?} {answer}");
        }
    }
}
