//! Tests the walk-through of logcd: a log compressor on each node, its variants, and its archives.

use crate::kubectl::{kubectl, says};
use crate::manifest::{Changed, example};
use crate::namespace::{Namespace, Pod};
use crate::node;

/// Waits for an archive in `/var/log` of the pod, where the walk-through keeps it, and returns the newest.
#[track_caller]
pub fn archive(namespace: &Namespace, logcd: &Pod) -> String {
    archive_in("/var/log", namespace, logcd)
}

/// Waits for an archive in a directory of the pod, and returns the path of the newest.
#[track_caller]
pub fn archive_in(directory: &str, namespace: &Namespace, logcd: &Pod) -> String {
    let beginning = format!("{directory}/all-logs-");
    namespace.until(&format!("an archive on {}", logcd.node), || {
        let found = namespace.try_exec(&logcd.name, &["find", directory, "-name", "*.gz"])?;
        let mut archives: Vec<_> = found.lines().filter(|path| path.starts_with(&beginning)).collect();
        archives.sort_unstable();
        archives.pop().map(str::to_owned)
    })
}

#[test]
fn archives_hold_their_own_nodes_logs() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("logcd");
    namespace.apply_example("logcd/logCompressor.yaml");
    let compressors = namespace.ready("name=logcd", node::names().len());
    namespace.apply_example("logcd/logCompressorClient.yaml");
    let clients = namespace.ready("name=client2", 4);
    for client in &clients {
        let logcd = compressors.iter().find(|logcd| logcd.node == client.node).unwrap();
        let entry = format!("var/log/{}.log", client.name);
        namespace.until(&format!("{entry} in the archive of {}", client.node), || {
            let path = archive(&namespace, logcd);
            let listing = namespace.exec(&logcd.name, &["tar", "-tf", &path]);
            listing.lines().any(|line| line == entry).then_some(())
        });
        let path = archive(&namespace, logcd);
        let log = namespace.exec(&logcd.name, &["tar", "-xzOf", &path, &entry]);
        let greeting = format!(" - Greetings from {}", client.name);
        assert!(!log.is_empty() && log.lines().all(|line| line.ends_with(&greeting)), "{log:?}");
        for other in clients.iter().filter(|other| other.node != client.node) {
            let listing = namespace.exec(&logcd.name, &["tar", "-tf", &path]);
            assert!(!listing.contains(&other.name), "{} is another node's", other.name);
        }
        namespace.exec(&logcd.name, &["logcd", "verify", &path]);
    }
    // Remove the files that the pods wrote to the nodes.
    namespace.says(&["delete", "deployment/client2"]);
    for client in &clients {
        let logcd = compressors.iter().find(|logcd| logcd.node == client.node).unwrap();
        let log = format!("/var/log/{}.log", client.name);
        namespace.exec(&logcd.name, &["find", &log, "-name", "*.log", "-delete"]);
    }
}

#[test]
fn node_selector_follows_the_label() {
    struct Label(String);
    impl Drop for Label {
        fn drop(&mut self) {
            kubectl(&["label", "node", &self.0, "env-"]);
        }
    }
    let _nodes = node::exclusive();
    let namespace = Namespace::new("label");
    namespace.apply_example("logcd/logCompressorProd.yaml");
    let scheduled = |count: u64| {
        namespace.until(&format!("{count} scheduled"), || {
            let status = namespace.json(&["get", "daemonset", "logcd"])["status"].clone();
            (status["observedGeneration"] == 1 && status["desiredNumberScheduled"] == count).then_some(())
        });
        namespace.ready("name=logcd", usize::try_from(count).unwrap())
    };
    assert!(scheduled(0).is_empty());
    let node = Label(node::names().remove(0));
    says(&["label", "node", &node.0, "env=prod", "--overwrite"]);
    assert_eq!(scheduled(1)[0].node, node.0);
    says(&["label", "node", &node.0, "env-"]);
    assert!(scheduled(0).is_empty());
}

#[test]
fn rolling_update_keeps_every_archive_whole() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("rolling");
    namespace.apply_example("logcd/logCompressorRolling.yaml");
    let count = node::names().len();
    namespace.rolled_out("daemonset/logcd");
    let old = namespace.ready("name=logcd", count);
    namespace.apply(&example("logcd/logCompressorRolling.yaml").with(
        "ports: [{name: admin",
        "env: [{name: LOGCD_LOG_LEVEL, value: debug}]\n          ports: [{name: admin",
    ));
    let unavailable = || {
        let status = namespace.json(&["get", "daemonset", "logcd"])["status"].clone();
        assert!(status["numberUnavailable"].as_u64().unwrap_or(0) <= 1, "{status}");
        status
    };
    namespace.until("the new template everywhere", || {
        let status = unavailable();
        (status["observedGeneration"] == 2
            && status["updatedNumberScheduled"] == count
            && status["numberAvailable"] == count)
            .then_some(())
    });
    assert!(namespace.rolled_out("daemonset/logcd").contains("successfully rolled out"));
    let new = namespace.ready("name=logcd", count);
    assert!(new.iter().all(|new| old.iter().all(|old| old.uid != new.uid)));
    for logcd in &new {
        let path = archive(&namespace, logcd);
        namespace.exec(&logcd.name, &["logcd", "verify", &path]);
    }
}

#[test]
fn weekly_archive_is_suspended_and_resumed() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("weekly");
    namespace.apply_example("logcd/logCompressorWeekly.yaml");
    let patch = |suspend: bool| {
        let patch = format!(r#"{{"spec":{{"suspend":{suspend}}}}}"#);
        namespace.says(&["patch", "cronjob/logcd-weekly", "--patch", &patch]);
        assert_eq!(namespace.json(&["get", "cronjob", "logcd-weekly"])["spec"]["suspend"], suspend);
    };
    patch(true);
    patch(false);
    namespace.says(&["create", "job", "now", "--from=cronjob/logcd-weekly"]);
    namespace.complete("now");
    let said = namespace.logs("job-name=now");
    assert!(said.contains("archive_bytes="), "{said}");
}
