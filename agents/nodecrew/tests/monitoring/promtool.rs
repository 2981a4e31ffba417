//! Checks the rules, the dashboard and the metrics of running agents with Prometheus' own tools.

use crate::agent;
use crate::{DASHBOARD, RULES, alerts, expressions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use trial::{DEADLINE, Process, ask, self_signed, tell};

/// The minutes for which samples continue, longer than any alert waits.
const MINUTES: u32 = 120;

/// Runs promtool. Returns true if it succeeded, and its output.
pub(crate) fn promtool(words: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool is not installed: {e}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The dashboard's expressions with their variables filled in.
fn filled_in() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let fill = |expression: String| {
        expression.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$queue", ".*")
    };
    expressions(&dashboard).into_iter().map(fill).collect()
}

#[test]
#[ignore = "needs promtool: just test-programs"]
fn promtool_accepts_rules_and_dashboard() {
    let directory = tempfile::tempdir().unwrap();
    let expressions = filled_in();
    let records = expressions.iter().enumerate();
    let records: Vec<Value> =
        records.map(|(n, expression)| json!({"record": format!("panel:{n}"), "expr": expression})).collect();
    // Every JSON document is YAML too.
    let of_dashboard = json!({"groups": [{"name": "dashboard", "rules": records}]}).to_string();
    for (name, text, wanted) in
        [("rules", RULES, alerts().len()), ("dashboard", &of_dashboard, expressions.len())]
    {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let (content, said) = promtool(&["check", "rules", path.to_str().unwrap()], "");
        assert!(content && said.contains(&format!("{wanted} rules found")), "{said}");
    }
}

/// The metrics of running agents that have counted every kind of event.
fn scraped() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    std::fs::write(logs.join("a.log"), "a line\n").unwrap();
    [logd(&directory), logcd(&directory, &logs), queued(&directory), kvd(&directory)].concat()
}

fn page(address: SocketAddr) -> String {
    let answer = ask(address, "GET", "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("application/openmetrics-text"), "{}", answer.head);
    answer.text().to_owned()
}

/// Fetches the page until it has all these parts, since an event is counted a moment after its answer.
fn page_with(address: SocketAddr, parts: &[&str]) -> String {
    let began = Instant::now();
    loop {
        let page = page(address);
        let missing: Vec<_> = parts.iter().filter(|part| !page.contains(**part)).collect();
        if missing.is_empty() {
            return page;
        }
        assert!(began.elapsed() < DEADLINE, "no {missing:?} in {page}");
    }
}

fn logd(directory: &TempDir) -> Vec<String> {
    let flags =
        ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--max-line", "10", "--idle-timeout", "1ms"];
    let logd = agent::start(directory.path(), "logd", &flags);
    let admin = logd.address("admin");
    let mut senders = Vec::new();
    // A connection may be reset as idle before its line is sent. Then another one sends it.
    trial::wait_until("a split line", || {
        let mut sender = TcpStream::connect(logd.address("lines")).unwrap();
        let _ = sender.write_all(b"far more than ten bytes\n");
        senders.push(sender);
        page(admin).contains("logd_splits_total{reason=\"max_line\"}")
    });
    // Idle for too long: the connections end without a receipt.
    let page = page_with(admin, &["logd_resets_total{reason=\"idle\"}"]);
    drop(senders);
    vec![page, refusing(directory)]
}

/// A logd with TLS that admits nobody.
fn refusing(directory: &TempDir) -> String {
    certificate(directory);
    let flags =
        ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--allow", "10.0.0.0/8", "--file", "other_log"];
    let logd = agent::start(directory.path(), "logd", &[&flags[..], &TLS].concat());
    drop(TcpStream::connect(logd.address("lines")).unwrap());
    page_with(logd.address("admin"), &["logd_refused_total{reason=\"not_allowed\"} 1"])
}

const TLS: [&str; 4] = ["--tls-cert", "tls.crt", "--tls-key", "tls.key"];

/// Writes a certificate that expires in a hundred years, too late for any alert.
fn certificate(directory: &TempDir) {
    let expires = SystemTime::now() + Duration::from_hours(24 * 36_500);
    self_signed(directory.path(), "tls", "agent.test", expires);
}

/// Three instances of logcd: one works, one has too little disk, and one has lost its logs.
fn logcd(directory: &TempDir, logs: &Path) -> Vec<String> {
    let [out, other_out, gone, pods] =
        ["out", "other_out", "gone", "pods"].map(|name| directory.path().join(name));
    let container = pods.join("shop_web_1/app");
    for made in [&out, &other_out, &gone, &container] {
        std::fs::create_dir_all(made).unwrap();
    }
    std::fs::write(container.join("0.log"), "2026-11-28T10:00:00Z stdout F a line\n").unwrap();
    std::fs::write(gone.join("a.log"), "a line\n").unwrap();
    let start = |logs: &Path, out: &Path, flags: &[&str]| {
        let (logs, out) = (logs.to_str().unwrap(), out.to_str().unwrap());
        let common = ["--dir", logs, "--out", out, "--interval", "10ms", "--admin", "127.0.0.1:0"];
        let mut command = agent::command(directory.path(), "logcd", &[&common, flags].concat());
        let logcd = Process::start(&mut command);
        let admin = logcd.address("admin");
        (logcd, admin)
    };
    let (pods, pods_out) = (pods.to_str().unwrap(), directory.path().join("pods_out"));
    // An archive of a day that is over is removed.
    std::fs::create_dir_all(pods_out.join("old")).unwrap();
    std::fs::write(pods_out.join("old/2020-01-01T00.tar.gz"), "old").unwrap();
    let of_pods = ["--pods", pods, "--pods-out", pods_out.to_str().unwrap(), "--publish-within", "20ms"];
    // The disk of this machine may be nearly full.
    let anyway = ["--min-free", "1"];
    let (_works, works) = start(logs, logs, &[&of_pods[..], &anyway].concat());
    let (_full, full) = start(logs, &out, &["--min-free", "1000PiB"]);
    let (fails, failing) = start(&gone, &other_out, &anyway);
    fails.wait_for("ready");
    std::fs::remove_dir_all(gone).unwrap();
    let cycles = |result: &str| format!("logcd_cycles_total{{result=\"{result}\"}}");
    vec![
        page_with(works, &[&cycles("published"), "logcd_pods_evicted_bytes_total{namespace=\"old\"}"]),
        page_with(full, &[&cycles("disk_full")]),
        page_with(failing, &[&cycles("failed")]),
    ]
}

fn queued(directory: &TempDir) -> Vec<String> {
    let flags = ["--data", "queues", "--http", "127.0.0.1:0", "--line", "127.0.0.1:0"];
    let queued = agent::start(directory.path(), "queued", &flags);
    let http = queued.address("http");
    assert_eq!(tell(http, "POST", "/v1/queues/q/items", "", b"item").status, 201);
    let apart =
        ["--data", "memory", "--http", "127.0.0.1:0", "--line", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let over_tls = agent::start(directory.path(), "queued", &[&apart[..], &TLS].concat());
    vec![page(http), page(over_tls.address("admin"))]
}

fn kvd(directory: &TempDir) -> Vec<String> {
    let kvd = agent::start(directory.path(), "kvd", &["--data", "keys", "--http", "127.0.0.1:0"]);
    let http = kvd.address("http");
    assert_eq!(tell(http, "PUT", "/v1/keys/a", "", b"value").status, 201);
    vec![page_with(http, &["kvd_mutations_total{kind=\"put\"} 1", "kvd_requests_total{"])]
}

/// Converts the page to the older format, in which Prometheus stores it and its linter reads it. The older
/// format has no `info`, and its metadata names a counter's samples instead of the counter.
fn in_the_older_format(page: &str) -> String {
    let kind = |name: &str| {
        let of = format!("# TYPE {name} ");
        page.lines().find_map(|line| line.strip_prefix(&of)).unwrap_or_default()
    };
    let lines = page.lines().filter(|line| *line != "# EOF").map(|line| {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match (words.as_slice(), words.get(2).map(|name| kind(name))) {
            (["#", what, name, rest], Some("counter")) => format!("# {what} {name}_total {rest}\n"),
            (["#", "TYPE", name, _], Some("info")) => format!("# TYPE {name}_info gauge\n"),
            (["#", what, name, rest], Some("info")) => format!("# {what} {name}_info {rest}\n"),
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[test]
#[ignore = "needs promtool: just test-programs"]
fn promtool_lints_the_metrics_clean() {
    for page in scraped() {
        let (content, said) = promtool(&["check", "metrics"], &in_the_older_format(&page));
        assert!(content && said.is_empty(), "{said}\n{page}");
    }
}

/// Samples by name and labels, as on the page. Each agent is an instance of its own, and up.
fn samples(pages: &[String]) -> Vec<(String, String, String)> {
    let pages = pages.iter().enumerate();
    let of_page = |(instance, page): (usize, &String)| -> Vec<_> {
        let job = page.split("nodecrew_build_info{agent=\"").nth(1).and_then(|rest| rest.split('"').next());
        let target = format!("instance=\"{instance}\",job=\"{}\"", job.unwrap());
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' ')).chain([("up", "1")]);
        let series = |sample: &str| match sample.strip_suffix('}') {
            Some(open) => format!("{open},{target}}}"),
            None => format!("{sample}{{{target}}}"),
        };
        samples.map(|(sample, value)| (sample.to_owned(), series(sample), value.to_owned())).collect()
    };
    pages.flat_map(of_page).collect()
}

/// Continues each sample at its scraped value, or on the course given for it. A course for any other sample
/// is an error.
#[track_caller]
fn series(samples: &[(String, String, String)], courses: &[(&str, &str)]) -> Vec<Value> {
    let mut courses = courses.to_vec();
    let series = samples.iter().map(|(sample, series, value)| {
        let course = courses.iter().position(|(other, _)| other == sample).map(|at| courses.remove(at).1);
        let course = course.map_or_else(|| format!("{value}+0x{MINUTES}"), |c| format!("{c}x{MINUTES}"));
        json!({"series": series, "values": course})
    });
    let series = series.collect();
    assert!(courses.is_empty(), "no agent serves {courses:?}");
    series
}

/// A promtool test: at the end of these series, each expression has the expected samples.
fn of(series: &[Value], expected: Vec<(String, Value)>) -> Value {
    let expected = expected.into_iter();
    let expected: Vec<Value> = expected
        .map(|(expr, samples)| json!({"expr": expr, "eval_time": format!("{MINUTES}m"), "exp_samples": samples}))
        .collect();
    json!({"interval": "1m", "input_series": series, "promql_expr_test": expected})
}

/// Runs the tests with the alert rules loaded.
fn hold(tests: &[Value]) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.yaml"), RULES).unwrap();
    let all = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests});
    let path = directory.path().join("tests.yaml");
    std::fs::write(&path, all.to_string()).unwrap();
    let (content, said) = promtool(&["test", "rules", path.to_str().unwrap()], "");
    assert!(content && said.contains("SUCCESS"), "{said}");
}

/// The courses that make each alert fire alone. A course is a metric and its values from the first on.
const FIRED_BY: [(&str, &[(&str, &str)]); 23] = [
    ("NodecrewTargetDown", &[("up", "0+0")]),
    ("LogdTakesNothing", &[("logd_blocked", "1+0")]),
    ("LogdCannotSync", &[("logd_sync_errors_total", "0+1")]),
    ("LogdRotationFails", &[("logd_rotation_errors_total", "0+1")]),
    ("LogdConnectionsWait", &[("logd_accept_errors_total", "0+1")]),
    (
        "LogdSendersGetNoReceipt",
        &[("logd_resets_total{reason=\"idle\"}", "0+2"), ("logd_connections_total", "0+10")],
    ),
    ("LogdCertificateExpires", &[("logd_certificate_expires_timestamp_seconds", "600000+0")]),
    ("LogcdDiskFull", &[("logcd_cycles_total{result=\"disk_full\"}", "0+1")]),
    ("LogcdCyclesFail", &[("logcd_cycles_total{result=\"failed\"}", "0+1")]),
    ("LogcdArchiveIsLate", &[("logcd_waiting_bytes", "5+0"), ("logcd_published_timestamp_seconds", "60+0")]),
    ("LogcdSkipsLogs", &[("logcd_skipped_files{reason=\"unreadable\"}", "2+0")]),
    ("LogcdFindsNoLogs", &[("logcd_empty_directories", "1+0"), ("logcd_files", "0+0")]),
    ("LogcdContainerLogsLost", &[("logcd_pods_lost_logs_total", "0+1")]),
    ("LogcdContainerLogsLost", &[("logcd_pods_lost_logs_total", "_x100 3+0")]),
    ("LogcdContainerLogsWait", &[("logcd_pods_waiting_since_timestamp_seconds", "60+0")]),
    ("LogcdEvictsWithinShare", &[("logcd_pods_evicted_within_share_bytes_total", "0+1")]),
    ("QueuedNoSpace", &[("queued_no_space", "1+0")]),
    ("QueuedCannotWrite", &[("queued_write_errors_total", "0+1")]),
    ("QueuedDeadLetters", &[("queued_failed_items{queue=\"q\"}", "3+0")]),
    ("QueuedNobodyWorks", &[("queued_oldest_ready_seconds{queue=\"q\"}", "0+60")]),
    (
        "QueuedLeasesExpire",
        &[("queued_expired_total{queue=\"q\"}", "0+2"), ("queued_leased_total{queue=\"q\"}", "0+10")],
    ),
    ("QueuedCertificateExpires", &[("queued_certificate_expires_timestamp_seconds", "600000+0")]),
    ("KvdRefusesWrites", &[("kvd_refuses_writes", "1+0")]),
];

/// Alerts that fire when a metric or target is missing.
const FIRED_BY_ABSENCE: [&str; 2] = ["NodecrewMetricsAbsent", "NodecrewNotScraped"];

/// Expects exactly these alerts to fire at the end, once each.
fn firing(alerts: &[&str]) -> Vec<(String, Value)> {
    let samples: Vec<Value> = alerts
        .iter()
        .map(|alert| json!({"labels": format!("{{alertname=\"{alert}\"}}"), "value": 1}))
        .collect();
    vec![("count by (alertname) (ALERTS{alertstate=\"firing\"})".to_owned(), json!(samples))]
}

#[test]
#[ignore = "needs promtool: just test-programs"]
fn alert_fires_only_for_its_reason() {
    let tested = FIRED_BY.iter().map(|(alert, _)| *alert).chain(FIRED_BY_ABSENCE);
    assert_eq!(tested.collect::<BTreeSet<_>>(), alerts());
    let samples = samples(&scraped());
    let mut tests = vec![of(&series(&samples, &[]), firing(&[]))];
    for (alert, courses) in FIRED_BY {
        tests.push(of(&series(&samples, courses), firing(&[alert])));
    }
    hold(&tests);
}

#[test]
#[ignore = "needs promtool: just test-programs"]
fn vanished_agents_raise_an_alert() {
    let info = |agent: &str, node: u32, values: &str| {
        let labels = format!("agent=\"{agent}\",instance=\"node-{node}\",job=\"{agent}\"");
        json!({"series": format!("nodecrew_build_info{{{labels}}}"), "values": values})
    };
    let (stays, goes) = (format!("1+0x{MINUTES}"), format!("1+0x20 _x{}", MINUTES - 20));
    let other = json!({"series": "up{job=\"other\"}", "values": stays});
    hold(&[
        of(&[info("logd", 1, &goes), info("logd", 2, &stays), info("queued", 1, &stays)], firing(&[])),
        of(&[info("logd", 1, &goes), info("queued", 1, &stays)], firing(&["NodecrewMetricsAbsent"])),
        of(&[info("logd", 1, &goes)], firing(&FIRED_BY_ABSENCE)),
        of(&[other], firing(&["NodecrewNotScraped"])),
    ]);
}

#[test]
#[ignore = "needs promtool: just test-programs"]
fn every_panel_has_data() {
    let samples = samples(&scraped());
    let shows =
        |expression: String| (format!("count({expression}) > bool 0"), json!([{"labels": "{}", "value": 1}]));
    hold(&[of(&series(&samples, &[]), filled_in().into_iter().map(shows).collect())]);
}
