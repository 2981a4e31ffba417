//! Tests queued's page in a browser.

use crate::agent;
use crate::webdriver::Browser;
use crate::{HOSTILE, assert_unharmed, pictures};
use serde_json::{Value, json};
use std::net::SocketAddr;
use trial::{Process, ask, tell};

/// A running queued with the tokens `boss` (admin, work) and `producer` (push).
struct Queued {
    directory: tempfile::TempDir,
    agent: Option<Process>,
    address: SocketAddr,
}

impl Queued {
    fn start(more: &[&str]) -> Queued {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("tokens"), "boss admin,work\nproducer push\n").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut queued = Queued { directory, agent: None, address };
        queued.run(more);
        queued
    }

    /// Starts queued; a restart uses the same port.
    fn run(&mut self, more: &[&str]) {
        let http = self.address.to_string();
        let mut arguments = vec!["--http", &http, "--line", "none"];
        arguments.extend_from_slice(more);
        let agent = agent::start(self.directory.path(), "queued", &arguments);
        self.address = agent.address("http");
        self.agent = Some(agent);
    }

    fn call(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Value {
        let answer = tell(self.address, method, path, "boss", body.as_ref());
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer.json()
    }

    fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Value {
        self.call("POST", path, body)
    }

    /// Pushes an item and fails its only attempt, so that it is dead.
    fn bury(&self, queue: &str, body: &[u8], reason: &str) {
        self.call("PUT", &format!("/v1/queues/{queue}"), r#"{"max_attempts":1}"#);
        self.post(&format!("/v1/queues/{queue}/items"), body);
        let item = self.post(&format!("/v1/queues/{queue}/lease"), "")["items"][0].clone();
        let nack = json!({"id": item["id"], "token": item["token"], "reason": reason});
        assert_eq!(
            self.post(&format!("/v1/queues/{queue}/nack"), nack.to_string())["results"][0]["status"],
            "dead"
        );
    }

    fn page(&self, hash: &str) -> Browser {
        let browser = Browser::open();
        browser.go(&format!("http://{}/{hash}", self.address));
        browser
    }
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn queue_changes_appear_by_themselves() {
    let queued = Queued::start(&[]);
    let browser = queued.page("");
    browser.until_text("#state", "live");
    browser.until_text("#queues-caption", "No queue yet");
    browser.run("window.same = true");
    queued.post("/v1/queues/keygen/batch", "one\ntwo\nthree");
    browser.until_text("#rows", "keygen");
    browser.until("the depth", |b| b.text("#rows tr td:nth-child(3)") == "3");
    let outline =
        "return [...document.querySelectorAll('.plot path.s1')].map((p) => p.getAttribute('d')).join()";
    let before = browser.run(outline);
    assert_ne!(before, "");
    browser.until("pushes a second", |b| {
        queued.post("/v1/queues/keygen/items", "more");
        b.text(".plot .key").trim_start_matches("pushed").trim().parse::<f64>().is_ok_and(|rate| rate > 0.0)
    });
    assert_ne!(browser.run(outline), before);

    browser.click("#rows button");
    browser.until_text("#detail-title", "Queue keygen");
    let item = queued.post("/v1/queues/keygen/lease", r#"{"worker":"pod-7"}"#)["items"][0].clone();
    browser.until_text("#workers", "pod-7");
    browser.until_text("#workers", "one");
    browser.until("for how long", |b| b.text("#workers td:nth-child(4)").ends_with(" s"));
    queued.post("/v1/queues/keygen/ack", json!({"id": item["id"], "token": item["token"]}).to_string());
    browser.until_text("#workers-empty", "Nobody holds");
    assert_eq!(browser.run("return window.same"), true, "it was loaded again");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn dead_items_change_only_after_consent() {
    let queued = Queued::start(&[]);
    queued.bury("q", b"first", "bad luck");
    queued.bury("q", b"second", "no disk");
    let browser = queued.page("#queue=q");
    browser.until_text("#dead", "bad luck");
    browser.click("#dead button[aria-label='Redrive first']");
    browser.until_text("#notice", "1 item ready again");
    browser.until("only the other is dead", |b| {
        !b.text("#dead").contains("first") && b.text("#dead").contains("second")
    });
    assert_eq!(queued.call("GET", "/v1/queues/q", "")["ready"], 1);

    browser.click("#dead button[aria-label='Delete second']");
    browser.click("#sure button[value=no]");
    browser.click("#dead button[aria-label='Delete second']");
    assert_eq!(queued.call("GET", "/v1/queues/q", "")["dead"], 1, "no is no");
    browser.click("#sure button[value=yes]");
    browser.until_text("#dead-empty", "None");
    assert_eq!(queued.call("GET", "/v1/queues/q", "")["dead"], 0);
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn page_works_with_the_keyboard_alone() {
    let queued = Queued::start(&[]);
    let browser = queued.page("");
    browser.until_text("#state", "live");
    let (tab, enter, space) = ("\u{E004}", "\u{E007}", " ");
    let focused =
        |browser: &Browser| browser.run("return document.activeElement.id").as_str().unwrap().to_owned();
    browser.until("the field of the queue", |b| {
        b.keys(&[tab]);
        focused(b) == "push-queue"
    });
    browser.keys(&["h", "a", "n", "d", tab, tab, "h", "i", tab]);
    assert_eq!(focused(&browser), "push-button");
    browser.keys(&[enter]);
    browser.until_text("#notice", "Pushed 1 item into hand");
    browser.until_text("#rows", "hand");
    assert_eq!(queued.call("GET", "/v1/queues/hand/items", "")["items"][0]["body"], "hi");

    browser.until("the queue's name", |b| {
        b.keys(&[tab]);
        b.run("return document.activeElement.textContent") == "hand"
    });
    browser.keys(&[enter]);
    browser.until("the focus follows", |b| focused(b) == "detail-title");
    browser.keys(&[tab, space]);
    browser.until_text("#notice", "hand is sealed");
    browser.until_text("#seal", "Unseal");
    assert_eq!(queued.call("GET", "/v1/queues/hand", "")["sealed"], true);
    browser.keys(&[space]);
    browser.until_text("#notice", "open again");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn lost_connection_is_shown_and_refreshed() {
    let mut queued = Queued::start(&["--data", "memory"]);
    queued.post("/v1/queues/before/items", "x");
    let browser = queued.page("");
    browser.until_text("#rows", "before");
    queued.agent = None;
    browser.until_text("#state", "connection lost");
    queued.run(&["--data", "memory"]);
    queued.post("/v1/queues/after/items", "x");
    browser.until_text("#state", "live");
    browser.until_text("#rows", "after");
    browser.until("the queue that is gone", |b| !b.text("#rows").contains("before"));
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn items_are_searched_moved_and_deleted() {
    let queued = Queued::start(&[]);
    queued.post("/v1/queues/work/batch", "apple\nbanana\ncherry");
    let browser = queued.page("#queue=work");
    browser.until_text("#rows", "work");
    browser.click("#items-look");
    browser.until_text("#items", "banana");

    browser.type_into("#items-what", "herr\u{E007}");
    browser.until("only the item that matches", |b| {
        b.text("#items").contains("cherry") && !b.text("#items").contains("apple")
    });
    browser.click("#items input");
    browser.type_into("#items-to", "other");
    browser.click("#items-move");
    browser.until_text("#notice", "1 of 1 items moved into other");
    assert_eq!(queued.call("GET", "/v1/queues/other", "")["ready"], 1);

    browser.run("document.getElementById('items-what').value = ''");
    browser.click("#items-look");
    browser.until_text("#items", "apple");
    browser.click("#items-all");
    browser.until_text("#items-selected", "2 selected");
    browser.click("#items-delete");
    browser.click("#sure-yes");
    browser.until_text("#notice", "2 of 2 items deleted");
    assert_eq!(queued.call("GET", "/v1/queues/work", "")["backlog"], 0);
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn an_items_attempts_are_shown() {
    let queued = Queued::start(&[]);
    queued.bury("work", b"apple", "exit status 9");
    queued.post("/v1/queues/work/items", "banana");
    queued.post("/v1/queues/work/lease", r#"{"worker":"<b>pod</b>/7"}"#);
    let browser = queued.page("#queue=work");
    browser.until_text("#rows", "work");
    browser.until_text("#dead", "apple");
    browser.click("#dead .link");
    browser.until_text("#attempts", "failed, the item died");
    browser.until_text("#attempts", "exit status 9");
    browser.click("#attempts-dialog button");

    browser.click("#items-look");
    browser.until_text("#items", "banana");
    browser.click("#items tr:last-child .link");
    browser.until_text("#attempts", "<b>pod</b>/7");
    browser.until_text("#attempts", "still held");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn queue_is_paused_configured_and_deleted() {
    let queued = Queued::start(&[]);
    queued.post("/v1/queues/work/items", "apple");
    let browser = queued.page("#queue=work");
    browser.until_text("#rows", "work");
    browser.click("#pause");
    browser.until_text("#pause", "Resume");
    assert_eq!(queued.post("/v1/queues/work/lease", "")["items"], json!([]));
    browser.click("#pause");
    browser.until("the queue runs again", |b| b.text("#pause") == "Pause");

    browser.click("#settings");
    browser.run("document.getElementById('set-max_attempts').value = '7'");
    browser.click("#settings-dialog [value=save]");
    browser.until_text("#notice", "are changed");
    assert_eq!(queued.call("GET", "/v1/queues/work", "")["settings"]["max_attempts"], 7);

    browser.click("#delete-queue");
    browser.click("#sure-yes");
    browser.until_text("#queues-caption", "No queue yet");
    assert_eq!(ask(queued.address, "GET", "/v1/queues/work").status, 404);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn token_is_requested_and_kept() {
    let queued = Queued::start(&["--tokens", "tokens"]);
    queued.post("/v1/queues/q/items", "x");
    queued.bury("dead", b"y", "why");
    let browser = queued.page("#queue=dead");
    browser.until_text("#token-form", "A token is needed");
    browser.type_into("#token", "nonsense\u{E007}");
    browser.until_text("#notice", "does not know this token");
    browser.type_into("#token", "producer\u{E007}");
    browser.until_text("#state", "live");
    browser.until_text("#rows", "q");
    assert_eq!(browser.text("#token-form"), "");
    browser.until_text("#dead", "why");
    browser.click("#redrive-all");
    browser.until_text("#notice", "lacks the right");
    browser.go(&format!("http://{}/", queued.address));
    browser.until_text("#state", "live");
    assert_eq!(browser.run("return localStorage.length + document.cookie.length"), 0);
    browser.click("#forget");
    browser.until_text("#token-form", "A token is needed");
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn foreign_text_is_only_shown() {
    let queued = Queued::start(&[]);
    queued.bury("dead", HOSTILE.as_bytes(), HOSTILE);
    queued.bury("dead", &vec![b'm'; 1 << 20], &"r".repeat(1024));
    queued.bury("dead", &[0xff, 0xfe, 0], "no text");
    let key = "key=%3Cimg%20src%3Dx%20onerror%3D%27window.broken%3D1%27%3E";
    queued.post(&format!("/v1/queues/dead/items?{key}"), HOSTILE);
    queued.post("/v1/queues/dead/lease", json!({ "worker": HOSTILE }).to_string());
    let browser = queued.page("#queue=dead");
    browser
        .until("three dead letters", |b| b.run("return document.querySelectorAll('#dead tr').length") == 3);
    for place in [
        "#dead tr:nth-child(1) td:nth-child(1)",
        "#dead tr:nth-child(1) td:nth-child(2)",
        "#workers th",
        "#workers td",
    ] {
        browser.until_text(place, "<script>window.broken=1</script>");
        let text = browser.text(place);
        assert!(text.contains("␛[31m␀\\u{202e}end"), "{place}: {text:?}");
    }
    let long = browser.text("#dead tr:nth-child(2)");
    assert!(long.contains("the beginning of 1.0 MiB") && long.len() < 3000, "{long}");
    browser.until_text("#dead tr:nth-child(3)", "base64 //4A");
    browser.until_text("#workers", "key <img src=x");

    // No queue can have such a name, but the address and the form can contain it.
    browser.go(&format!(
        "http://{}/#queue=%3Cimg%20src%3Dx%20onerror%3D'window.broken%3D1'%3E%E2%80%AE",
        queued.address
    ));
    browser.until_text("#detail-title", "There is no queue <img src=x onerror='window.broken=1'>\\u{202e}");
    browser.go(&format!("http://{}/#queue=%E0%A4%A", queued.address));
    browser.until_text("#plots-title", "all queues");
    assert_unharmed(&browser);
    browser.type_into("#push-queue", "<b>name</b>");
    browser.type_into("#push-body", "x");
    browser.click("#push-button");
    browser.until_text("#notice", "Refused (422)");
    assert_eq!(browser.run("return document.querySelectorAll('b').length"), 2, "the plots' titles");
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn page_fits_phones_and_both_schemes() {
    let queued = Queued::start(&[]);
    queued.bury("keygen", b"work-item-13", "exit code 1: cannot write /out/13.pem: No space left on device");
    queued.bury("keygen", b"work-item-28", "the lease expired, and it was the last attempt");
    queued.post("/v1/queues/mail/batch?seal=true", "a\nb");
    queued.post("/v1/queues/thumbnails/items?delay_ms=600000", "cat.png");
    let browser = queued.page("#queue=keygen");
    browser.until_text("#state", "live");
    let items: Vec<String> = (100..190).map(|n| format!("work-item-{n}")).collect();
    queued.post("/v1/queues/keygen/batch", items.join("\n"));
    for worker in ["keygen-x2v9p", "keygen-7hqzt", "keygen-kk2d8"] {
        queued.post("/v1/queues/keygen/lease", json!({ "worker": worker, "lease_ms": 120_000 }).to_string());
    }
    // Push and ack for some seconds, so that the plots have something to show.
    let points = "return document.querySelector('.plot path.s1').getAttribute('d').split('L').length";
    let mut seen = 0;
    browser.until("a plot of some seconds", |b| {
        let now = b.run(points).as_u64().unwrap();
        for turn in std::mem::replace(&mut seen, now)..now {
            queued.post("/v1/queues/keygen/batch", "a\nb\nc\nd\n".repeat(1 + usize::from(turn % 3 == 0)));
            for _ in 0..3 + turn % 4 {
                let item = queued.post("/v1/queues/keygen/lease", r#"{"worker":"keygen-zzzzz"}"#)["items"][0]
                    .clone();
                queued.post(
                    "/v1/queues/keygen/ack",
                    json!({"id": item["id"], "token": item["token"]}).to_string(),
                );
            }
        }
        now > 12
    });
    browser
        .until("the three workers", |b| b.run("return document.querySelectorAll('#workers tr').length") == 3);
    browser.until("the dead letters", |b| b.run("return document.querySelectorAll('#dead tr').length") == 2);
    pictures(&browser, "queued");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn every_control_has_an_accessible_name() {
    let queued = Queued::start(&[]);
    queued.bury("q", b"x", "why");
    let browser = queued.page("#queue=q");
    browser.until_text("#dead", "why");
    let nameless = browser.run(
        "const named = (e) => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length || e.textContent.trim();
         return [...document.querySelectorAll('button, input, textarea, svg, table, section, [role=region]')]
           .filter((e) => e.matches('table') ? !e.caption : !named(e)).map((e) => e.outerHTML);",
    );
    assert_eq!(nameless, json!([]));
    let live = browser.run("return [...document.querySelectorAll('[role=status]')].map((e) => e.id)");
    assert_eq!(live, json!(["state", "notice"]));
    let label = browser.run("return document.querySelector('.plot svg').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().starts_with("Items per second, now: pushed "), "{label}");
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn pages_forbid_foreign_scripts_and_frames() {
    let queued = Queued::start(&[]);
    for path in ["/", "/page/agent.js", "/page/items.js", "/page/kit.js", "/page/kit.css", "/page/icon.svg"] {
        let answer = ask(queued.address, "GET", path);
        assert_eq!(answer.status, 200, "{path}");
        let head = answer.head.to_lowercase();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.contains(part), "{path}: no {part} in {head}");
        }
    }
}
