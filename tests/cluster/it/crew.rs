//! Tests the whole crew as `kubectl apply -k k8s/` creates it: its pods, a change of its settings, and what
//! remains after its deletion.

use crate::kubectl::{kubectl, says, says_to};
use crate::lines::log;
use crate::log_compressor::archive_in;
use crate::manifest::{Changed, apply_words, for_this_cluster, of_this_registry, rendered};
use crate::namespace::{Namespace, Pod};
use crate::node;
use crate::waiting::until;
use std::collections::BTreeSet;

/// Returns the manifest of a pod on a given node that sends one line through logsend.
fn sender(name: &str, node: &str, line: &str) -> String {
    of_this_registry(format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: {node}
  restartPolicy: Never
  containers:
    - name: sender
      image: ghcr.io/nodecrew/logsend:0.1.0
      args: [--give-up, 20s, --, expr, {line}]
      env: [{{name: HOST_IP, valueFrom: {{fieldRef: {{fieldPath: status.hostIP}}}}}}]
"#
    ))
}

#[track_caller]
pub fn ended(namespace: &Namespace, pod: &str) -> String {
    namespace.until(&format!("the end of {pod}"), || {
        let phase = namespace.says(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"]);
        (phase == "Succeeded" || phase == "Failed").then_some(phase)
    })
}

#[track_caller]
fn apply(text: &str) {
    says_to(&apply_words(), &for_this_cluster(text));
}

/// The deployed crew. It is deleted on drop, even if the test fails: other tests need its port.
pub struct Crew(String);

impl Crew {
    #[track_caller]
    pub fn apply(manifest: String) -> Crew {
        apply(&manifest);
        Crew(manifest)
    }

    #[track_caller]
    fn delete(&self) {
        let words = ["delete", "-f", "-", "--ignore-not-found", "--wait=true", "--timeout=600s"];
        says_to(&words, &for_this_cluster(&self.0));
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.delete();
    }
}

/// Lists the crew's objects in the whole cluster.
fn of_the_crew() -> String {
    let kinds = "namespaces,daemonsets,statefulsets,pods,services,configmaps,networkpolicies,poddisruptionbudgets,resourcequotas,persistentvolumeclaims";
    says(&["get", kinds, "-A", "-o", "name", "-l", "app.kubernetes.io/part-of=nodecrew"])
}

#[test]
fn crew_is_installed_reconfigured_and_removed() {
    let _nodes = node::exclusive();
    let crew = Crew::apply(rendered("crew"));
    let (nodes, queue) = (Namespace::of_a_manifest("nodecrew"), Namespace::of_a_manifest("nodecrew-queue"));
    let everywhere: BTreeSet<_> = node::names().into_iter().collect();
    let daemons = |name: &str| -> Vec<Pod> {
        nodes.rolled_out(&format!("daemonset/{name}"));
        let pods = nodes.ready(&format!("name={name}"), everywhere.len());
        assert_eq!(pods.iter().map(|pod| pod.node.clone()).collect::<BTreeSet<_>>(), everywhere);
        pods
    };
    let (logds, logcds) = (daemons("logd"), daemons("logcd"));
    queue.rolled_out("statefulset/queued");
    let queued = queue.ready("name=queued", 1).remove(0);

    // The running pods apply a changed ConfigMap: lines longer than 16 bytes are now cut.
    let logd = &logds[0];
    let users = Namespace::new("crew");
    let long = "abcdefghijklmnopqrstuvwxyzabcdef";
    let sent = |name: &str| {
        users.apply(&sender(name, &logd.node, long));
        assert_eq!(ended(&users, name), "Succeeded");
    };
    let before = log(&nodes, logd).len();
    sent("whole");
    assert_eq!(log(&nodes, logd)[before..], [long]);
    apply(&crew.0.clone().with("max-held = \"16MiB\"", "max-held = \"16MiB\"\n    max-line = \"16\""));
    let said = "settings_reloaded";
    nodes.until("word of the changed settings in every pod", || {
        let logs = |pod: &Pod| nodes.says(&["logs", &pod.name]);
        logds.iter().all(|pod| logs(pod).contains(said)).then_some(())
    });
    let before = log(&nodes, logd).len();
    sent("cut");
    assert_eq!(log(&nodes, logd)[before..], [&long[..16], &long[16..]]);
    let after = nodes.ready("name=logd", logds.len());
    assert!(
        after.iter().all(|pod| pod.restarts == 0 && logds.iter().any(|old| old.uid == pod.uid)),
        "{after:?}"
    );

    // A wrong setting is logged, and the pods keep their settings.
    apply(&crew.0.clone().with("keep-days = 31", "keep-days = \"thirty\""));
    nodes.until("the wrong setting named", || {
        let said = nodes.says(&["logs", &logcds[0].name]);
        said.contains("keep-days").then_some(())
    });
    assert!(nodes.ready("name=logcd", logcds.len()).iter().all(|pod| pod.restarts == 0));
    let logcd = logcds.iter().find(|logcd| logcd.node == logd.node).unwrap();
    let path = archive_in("/var/lib/logcd", &nodes, logcd);
    nodes.exec(&logcd.name, &["logcd", "verify", &path]);
    // logcd also archives the lines that logd stores.
    nodes.until("logd's lines in the archive", || {
        let kept = nodes.try_exec(&logcd.name, &["logcd", "cat", &path, "var/lib/logd/node_log"])?;
        kept.contains(long).then_some(())
    });
    assert_eq!(queue.ready("name=queued", 1)[0].uid, queued.uid);

    // Deletion removes everything that was applied. Data on the nodes stays.
    crew.delete();
    until("nothing of the crew", || {
        let left = of_the_crew();
        left.is_empty().then_some(())
    });
    // A volume is deleted some time after its claim.
    until("no volume of the queue", || {
        let path = "jsonpath={.items[*].spec.claimRef.namespace}";
        let volumes = says(&["get", "persistentvolumes", "-o", path]);
        (!volumes.contains("nodecrew-queue")).then_some(())
    });
    users.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: look}}
spec:
  nodeName: {}
  restartPolicy: Never
  containers:
    - name: look
      image: busybox:1.36
      command: [sh, -ec, "grep -c {long} /node/lib/logd/node_log; ls /node/lib/logcd/*.tar.gz"]
      volumeMounts: [{{name: node, mountPath: /node, readOnly: true}}]
  volumes: [{{name: node, hostPath: {{path: /var}}}}]
"#,
        logd.node
    ));
    assert_eq!(ended(&users, "look"), "Succeeded");
    let kept = users.says(&["logs", "look"]);
    let archive_name = path.rsplit('/').next().unwrap();
    assert!(kept.starts_with('1') && kept.contains(archive_name), "{kept}");
    assert!(kubectl(&["get", "namespace", "nodecrew"]).status.code() == Some(1), "the namespace is gone");
}
