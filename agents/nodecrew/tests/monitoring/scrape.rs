//! The scrape example, as a real Prometheus reads it: the targets and their labels.

use crate::{RULES, promtool::promtool};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const SCRAPE: &str = include_str!("../../../../packaging/monitoring/prometheus.yml");
/// The line that works only in a cluster; Debian's Prometheus does not even know it.
const DISCOVERY: &str = "kubernetes_sd_configs: [{role: pod}]";

/// The labels that discovery gives a container's port, under the names that relabelling reads.
fn discovered(pod: &str, agent: &str, part_of: &str, port: &str, maker: &str) -> Value {
    let meta = |name: &str| format!("__meta_kubernetes_{name}");
    json!({"targets": [format!("10.0.0.1:{}", 7000 + pod.len())], "labels": {
        meta("namespace"): "crew",
        meta("pod_name"): pod,
        meta("pod_node_name"): "node-7",
        meta("pod_controller_kind"): maker,
        meta("pod_container_port_name"): port,
        meta("pod_label_app_kubernetes_io_name"): agent,
        meta("pod_label_app_kubernetes_io_part_of"): part_of,
    }})
}

/// The example with pods in place of discovery, in a directory with the rules.
fn configuration() -> TempDir {
    let pods = json!([
        discovered("logd-x7", "logd", "nodecrew", "admin", "DaemonSet"),
        discovered("logd-x7-lines", "logd", "nodecrew", "lines", "DaemonSet"),
        discovered("queued-0", "queued", "nodecrew", "admin", "StatefulSet"),
        discovered("somebody-else", "web", "shop", "admin", "ReplicaSet"),
    ]);
    assert_eq!(SCRAPE.matches(DISCOVERY).count(), 1);
    let directory = tempfile::tempdir().unwrap();
    let text = SCRAPE.replace(DISCOVERY, &format!("static_configs: {pods}"));
    std::fs::write(directory.path().join("prometheus.yml"), text).unwrap();
    std::fs::write(directory.path().join("rules.yaml"), RULES).unwrap();
    directory
}

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Prometheus {
    fn start(directory: &TempDir) -> (Prometheus, SocketAddr) {
        let mut child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("prometheus is not installed: {e}"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let prometheus = Prometheus(child);
        let mut said = String::new();
        let address = lines.by_ref().find_map(|line| {
            said += &format!("{line}\n");
            let (_, rest) = line.split_once("Listening on\"")?.1.split_once("address=")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        let address = address.unwrap_or_else(|| panic!("it ended: {said}"));
        // Keep reading, or a full pipe would block it.
        std::thread::spawn(move || lines.for_each(drop));
        (prometheus, address)
    }
}

#[test]
#[ignore = "needs promtool: just test-programs"]
fn scrape_example_is_valid_with_the_rules_beside_it() {
    let directory = configuration();
    let path = directory.path().join("prometheus.yml");
    let (content, said) = promtool(&["check", "config", path.to_str().unwrap()], "");
    assert!(content && said.contains("is valid"), "{said}");
}

#[test]
#[ignore = "needs prometheus: just test-programs"]
fn scrape_example_names_targets_by_agent_and_node() {
    let wanted = [
        ("kvd", "host-1"),
        ("logcd", "host-1"),
        ("logcd", "host-2"),
        ("logd", "host-1"),
        ("logd", "host-2"),
        ("logd", "node-7"),
        ("queued", "crew/queued-0"),
        ("queued", "host-1"),
    ];
    let wanted: BTreeSet<_> = wanted.map(|(job, instance)| (job.to_owned(), instance.to_owned())).into();
    let directory = configuration();
    let (_prometheus, address) = Prometheus::start(&directory);
    let mut targets = BTreeSet::new();
    // Prometheus adds the jobs one after another.
    trial::wait_until("as many targets", || {
        targets = active_targets(address);
        targets.len() >= wanted.len()
    });
    assert_eq!(targets, wanted);
}

/// The job and the instance of each target that Prometheus scrapes.
fn active_targets(address: SocketAddr) -> BTreeSet<(String, String)> {
    // Prometheus answers in chunks, which curl joins.
    let url = format!("http://{address}/api/v1/targets?state=active");
    let answer = Command::new("curl").args(["-s", &url]).output().unwrap().stdout;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let active = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
    let label = |target: &Value, name: &str| target["labels"][name].as_str().unwrap_or_default().to_owned();
    active.iter().map(|target| (label(target, "job"), label(target, "instance"))).collect()
}
