//! Runs the commands of two walk-throughs: kuard's queue (`k8s/examples/memq`), whose answers are compared
//! byte for byte, and the multiplier (`k8s/examples/multiplier`).

use crate::daemon::Queued;
use std::collections::BTreeSet;
use std::net::Shutdown;

fn is_rfc3339(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z')
}

#[test]
fn kuard_api_answers_like_the_original() {
    let daemon = Queued::start(&[]);
    let mut curl = daemon.http();
    let base = "/memq/server/queues/keygen";
    let created = curl.call("PUT", base, "").expect(200);
    assert_eq!((created.text(), created.head.contains("content-length: 0\r\n")), ("", true));
    assert_eq!(curl.call("PUT", base, "").expect(400).text(), "already exists\n");
    let mut ids = BTreeSet::new();
    for n in 0..100 {
        // `curl -d` sends this content type.
        let body = format!("work-item-{n}");
        curl.send("POST", &format!("{base}/enqueue"), "application/x-www-form-urlencoded", body.as_bytes())
            .unwrap();
        let answer = curl.receive().unwrap().expect(200);
        for header in [
            "content-type: application/json\r\n",
            "expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n",
            "cache-control: no-cache, private, max-age=0\r\n",
            "pragma: no-cache\r\n",
        ] {
            assert!(answer.head.contains(header), "{}", answer.head);
        }
        let json = answer.json();
        let (id, created) = (json["id"].as_str().unwrap(), json["creationTimestamp"].as_str().unwrap());
        let expected = format!(
            "{{\"kind\":\"message\",\"id\":\"{id}\",\"body\":\"{body}\",\"creationTimestamp\":\"{created}\"}}\n"
        );
        assert_eq!(answer.text(), expected);
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && is_rfc3339(created));
        assert!(ids.insert(id.to_owned()));
    }
    let stats = "{\"kind\":\"stats\",\"queues\":[{\"name\":\"keygen\",\"depth\":100,\"enqueued\":100,\"dequeued\":0,\"drained\":0}]}\n";
    assert_eq!(curl.get("/memq/server/stats").expect(200).text(), stats);
    let first = curl.post(&format!("{base}/dequeue"), "").expect(200).json();
    assert_eq!((first["kind"].as_str(), first["body"].as_str()), (Some("message"), Some("work-item-0")));
    assert!(ids.contains(first["id"].as_str().unwrap()));
    assert_eq!(curl.post(&format!("{base}/drain"), "").expect(200).text(), "");
    let empty = curl.post(&format!("{base}/dequeue"), "").expect(204);
    assert_eq!(empty.text(), "");
    let stats = "{\"kind\":\"stats\",\"queues\":[{\"name\":\"keygen\",\"depth\":0,\"enqueued\":100,\"dequeued\":1,\"drained\":99}]}\n";
    assert_eq!(curl.get("/memq/server/stats").expect(200).text(), stats);
    assert_eq!(curl.call("DELETE", base, "").expect(200).text(), "");
    for (method, path, line) in [
        ("DELETE", base, "does not exist\n"),
        ("POST", "/memq/server/queues/keygen/drain", "does not exist\n"),
        ("POST", "/memq/server/queues/keygen/enqueue", "does not exist\n"),
        ("POST", "/memq/server/queues/keygen/dequeue", "does not exist\n"),
        ("PUT", "/memq/server/queues/", "empty name\n"),
        ("DELETE", "/memq/server/queues/", "empty name\n"),
        ("POST", "/memq/server/queues//enqueue", "empty name\n"),
        ("POST", "/memq/server/queues//dequeue", "empty name\n"),
    ] {
        let answer = curl.call(method, path, "x").expect(400);
        assert_eq!(answer.text(), line, "{method} {path}");
        assert!(answer.head.contains("content-type: text/plain; charset=utf-8\r\n"));
        assert!(answer.head.contains("x-content-type-options: nosniff\r\n"));
    }
    assert_eq!(curl.get("/memq/server/stats").text(), "{\"kind\":\"stats\",\"queues\":[]}\n");
}

#[test]
fn kuard_api_escapes_like_go() {
    let daemon = Queued::start(&["--data", "memory"]);
    let mut curl = daemon.http();
    curl.call("PUT", "/memq/server/queues/q", "").expect(200);
    let body = "<a href=\"x\">&\u{2028}é</a>\n";
    let answer = curl.post("/memq/server/queues/q/enqueue", body).expect(200);
    assert!(answer.text().contains(r#""body":"\u003ca href=\"x\"\u003e\u0026\u2028é\u003c/a\u003e\n""#));
    assert_eq!(curl.post("/memq/server/queues/q/dequeue", "").json()["body"].as_str(), Some(body));
    let answer = curl.post("/memq/server/queues/q/enqueue", [0xff, 0xfe]).expect(400);
    assert_eq!(answer.text(), "not UTF-8\n");
}

/// The multiplier: each worker takes numbers until it gets one above 100, and doubles them. Together they get
/// each number from 1 to 100 once.
fn multiplier(workers: usize, half_close: bool) {
    let daemon = Queued::start(&["--count-from", "1"]);
    let got: Vec<u64> = std::thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            loop {
                let mut stream = std::net::TcpStream::connect(daemon.line_address()).unwrap();
                if half_close {
                    // busybox nc and ncat do this at the end of their stdin.
                    stream.shutdown(Shutdown::Write).unwrap();
                }
                let mut number = String::new();
                std::io::Read::read_to_string(&mut stream, &mut number).unwrap();
                let number: u64 = number.parse().unwrap();
                if number >= 101 {
                    return mine;
                }
                mine.push(number * 2);
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut sorted = got.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=100).map(|n| n * 2).collect::<Vec<_>>(), "{workers} workers");
}

#[test]
fn three_workers_get_every_number_once() {
    multiplier(3, false);
    multiplier(3, true);
}

#[test]
fn thirty_workers_get_every_number_once() {
    multiplier(30, false);
    multiplier(30, true);
}

#[test]
fn three_hundred_workers_get_every_number_once() {
    multiplier(300, false);
    multiplier(300, true);
}

/// Runs the multiplier as a shell loop, with each kind of `nc`. The clients wait for an answer up to a minute
/// instead of a second, because the machine may be busy.
#[test]
#[ignore = "needs nc, busybox and ncat: just test-programs"]
fn shells_with_nc_get_every_number_once() {
    for client in ["nc -w 60", "nc -N -w 60", "busybox nc -w 60", "ncat -w 60"] {
        for workers in [3, 30, 300] {
            // ncat takes a third of a second of CPU to start: three hundred would only test the machine.
            if client.starts_with("ncat") && workers > 30 {
                continue;
            }
            let daemon = Queued::start(&["--count-from", "1"]);
            let port = daemon.line_address().port();
            let script = format!(
                "while true; do n=$({client} 127.0.0.1 {port} </dev/null); \
                 [ -z \"$n\" ] && echo empty && exit 1; [ $n -ge 101 ] && exit 0; echo $((n*2)); done"
            );
            let start = |_| {
                let mut shell = std::process::Command::new("sh");
                shell.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap()
            };
            let shells: Vec<_> = (0..workers).map(start).collect();
            let mut lines: Vec<u64> = Vec::new();
            for shell in shells {
                let output = shell.wait_with_output().unwrap();
                assert!(output.status.success(), "{client}: {output:?}");
                lines.extend(
                    String::from_utf8(output.stdout).unwrap().lines().map(|l| l.parse::<u64>().unwrap()),
                );
            }
            lines.sort_unstable();
            assert_eq!(lines, (1..=100).map(|n| n * 2).collect::<Vec<_>>(), "{client}, {workers} workers");
        }
    }
}

/// Runs the commands of kuard's walk-through with the real curl.
#[test]
#[ignore = "needs curl: just test-programs"]
fn the_walk_through_with_curl() {
    let daemon = Queued::start(&[]);
    let run = |script: &str| {
        let script = script.replace("localhost:8080", &daemon.http_address().to_string());
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("curl -sS -X PUT localhost:8080/memq/server/queues/keygen"), "");
    let pushed = run("for i in work-item-{0..99}; do \
         curl -sS -X POST localhost:8080/memq/server/queues/keygen/enqueue -d \"$i\"; done");
    let messages: Vec<serde_json::Value> = pushed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(messages.len(), 100);
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(
            (&message["kind"], &message["body"]),
            (&"message".into(), &format!("work-item-{n}").into())
        );
        assert_eq!(message["id"].as_str().unwrap().len(), 32);
        assert!(is_rfc3339(message["creationTimestamp"].as_str().unwrap()));
    }
    assert_eq!(
        run("curl -sS localhost:8080/memq/server/stats"),
        "{\"kind\":\"stats\",\"queues\":[{\"name\":\"keygen\",\"depth\":100,\"enqueued\":100,\"dequeued\":0,\"drained\":0}]}\n"
    );
    let oldest = run("curl -sS -X POST localhost:8080/memq/server/queues/keygen/dequeue");
    assert_eq!(oldest.trim_end(), pushed.lines().next().unwrap());
    assert_eq!(run("curl -sS -X POST localhost:8080/memq/server/queues/keygen/drain"), "");
    let empty = "curl -sS -w '%{http_code}' -X POST localhost:8080/memq/server/queues/keygen/dequeue";
    assert_eq!(run(empty), "204");
    assert_eq!(run("curl -sS -X DELETE localhost:8080/memq/server/queues/keygen"), "");
    let gone = "curl -sS -w '%{http_code}' -X DELETE localhost:8080/memq/server/queues/keygen";
    assert_eq!(run(gone), "does not exist\n400");
    for probe in ["healthy", "ready"] {
        let asked = run(&format!("curl -sS -o /dev/null -w '%{{http_code}}' localhost:8080/{probe}"));
        assert_eq!(asked, "200", "{probe}");
    }
}
