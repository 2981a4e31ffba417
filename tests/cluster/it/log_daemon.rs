//! A log daemon on each node, and the fate of lines while it is replaced.

use crate::kubectl::says;
use crate::lines::{Senders, log};
use crate::manifest::{Changed, example};
use crate::namespace::{Namespace, Pod};
use crate::node;
use std::collections::BTreeSet;

#[track_caller]
fn daemons(namespace: &Namespace) -> Vec<Pod> {
    namespace.ready("name=logd", node::names().len())
}

#[test]
fn each_logd_holds_its_own_nodes_lines() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("logd");
    namespace.apply_example("logd/logDaemon.yaml");
    let daemons = daemons(&namespace);
    let nodes: BTreeSet<_> = daemons.iter().map(|pod| pod.node.clone()).collect();
    assert_eq!(nodes, node::names().into_iter().collect(), "one on each");

    namespace.apply_example("logd/logDaemonClient.yaml");
    namespace.apply_example("logd/logDaemonClientShell.yaml");
    let clients = [namespace.ready("name=client", 4), namespace.ready("name=client-shell", 4)].concat();
    for client in &clients {
        let logd = daemons.iter().find(|logd| logd.node == client.node).unwrap();
        let greeting = format!(" - Greetings from {}", client.name);
        let line = namespace.until(&format!("{greeting:?} on {}", client.node), || {
            log(&namespace, logd).into_iter().find(|line| line.ends_with(&greeting))
        });
        // As date(1) prints it: Sat Nov 21 09:15:30 UTC 2026
        let date = line.strip_suffix(&greeting).unwrap();
        assert_eq!(date.split_whitespace().count(), 6, "{line:?}");
    }
    for logd in &daemons {
        for line in log(&namespace, logd) {
            let Some((_, from)) = line.split_once(" - Greetings from ") else { continue };
            let Some(client) = clients.iter().find(|client| client.name == from) else { continue };
            assert_eq!(client.node, logd.node, "{line:?} is in the log of {}", logd.node);
        }
    }
}

#[test]
fn rolling_update_loses_no_line() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("rolling");
    namespace.apply_example("logd/logDaemon.yaml");
    let old = daemons(&namespace);
    let senders = Senders::start(&namespace, &old, 12, 2000);
    namespace.says(&["rollout", "restart", "daemonset/logd"]);
    namespace.rolled_out("daemonset/logd");
    let new = daemons(&namespace);
    assert!(new.iter().all(|new| old.iter().all(|old| old.uid != new.uid)), "all were replaced");
    senders.nothing_is_lost(&new);
}

#[test]
fn deleted_logd_pod_loses_no_line() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("deleted");
    namespace.apply_example("logd/logDaemon.yaml");
    let old = daemons(&namespace);
    let senders = Senders::start(&namespace, &old, 12, 1500);
    // One pod is asked to stop, one is killed.
    namespace.says(&["delete", "pod", &old[0].name, "--wait=false"]);
    let killed = old.last().unwrap();
    namespace.says(&["delete", "pod", &killed.name, "--grace-period=0", "--force"]);
    let new = namespace.until("new pods in their place", || {
        let new = namespace.pods("name=logd");
        let both = [&old[0], killed].iter().all(|gone| new.iter().all(|new| new.uid != gone.uid));
        (both && new.len() == old.len() && new.iter().all(|pod| pod.ready)).then_some(new)
    });
    senders.nothing_is_lost(&new);
}

/// Fills a disk of 256 KiB, a tmpfs on the node. Senders wait, and once there is room all their lines are
/// there.
#[test]
fn full_node_disk_loses_no_line() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("full");
    let path = format!("/var/lib/{}", namespace.name());
    // The mount must reach the node before logd's pod is created.
    let disk = DISK.replace("PATH", &path);
    namespace.apply(&disk);
    let mounted = namespace.until("the small disk", || {
        let pods = namespace.pods("name=disk");
        (pods.len() == node::names().len() && pods.iter().all(|pod| pod.ready)).then_some(pods)
    });
    let logd =
        example("logd/logDaemon.yaml").with("/var/lib/logd", &path).with("DirectoryOrCreate", "Directory");
    namespace.apply(&logd);
    let daemons = daemons(&namespace);
    let senders = Senders::start(&namespace, &daemons, 6, 1500);
    for disk in &mounted {
        namespace.exec(
            &disk.name,
            &["sh", "-c", &format!("dd if=/dev/zero of={path}/filler bs=1k 2>/dev/null; true")],
        );
    }
    let full = namespace.until("a logd that says that its disk is full", || {
        let pods = namespace.pods("name=logd");
        pods.iter().any(|pod| !pod.ready).then_some(pods)
    });
    assert!(full.iter().all(|pod| pod.restarts == 0));
    for disk in &mounted {
        namespace.exec(&disk.name, &["rm", &format!("{path}/filler")]);
        // More room than before, for the waiting lines.
        namespace.exec(&disk.name, &["mount", "-o", "remount,size=16m", &path]);
    }
    senders.nothing_is_lost(&daemons);
    let after = namespace.ready("name=logd", daemons.len());
    assert!(after.iter().all(|pod| pod.restarts == 0), "it went on by itself: {after:?}");
    says(&["delete", "daemonset/logd", "-n", namespace.name(), "--wait=true"]);
}

const DISK: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: disk}
spec:
  selector: {matchLabels: {name: disk}}
  template:
    metadata: {labels: {name: disk}}
    spec:
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 5
      containers:
        - name: disk
          image: busybox:1.36
          command: [sh, -c, "mkdir -p PATH && mount -t tmpfs -o size=256k tmpfs PATH && touch /tmp/mounted && trap 'umount -l PATH; rmdir PATH; exit' TERM; while :; do sleep 1; done"]
          readinessProbe: {exec: {command: [test, -e, /tmp/mounted]}, periodSeconds: 1}
          securityContext: {privileged: true}
          volumeMounts: [{name: lib, mountPath: /var/lib, mountPropagation: Bidirectional}, {name: tmp, mountPath: /tmp}]
      volumes:
        - {name: lib, hostPath: {path: /var/lib}}
        - {name: tmp, emptyDir: {}}
"#;
