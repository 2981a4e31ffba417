//! `nodecrew logs`: the lines of all nodes in one stream, also those of pods that are gone.

use crate::container_logs::logcd_of_the_crew;
use crate::crew::Crew;
use crate::namespace::Namespace;
use crate::node;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Output};

/// Lines of each pod.
const LINES: usize = 300;

/// A pod on a given node that prints numbered lines.
const WRITER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: NODE
  restartPolicy: Never
  containers:
    - name: writer
      image: busybox:1.36
      command: [sh, -c, 'i=0; while [ $i -lt LINES ]; do echo "line $i"; i=$((i+1)); usleep 5000; done']
"#;

/// Runs the plugin of kubectl: nodecrew under the name `kubectl-nodecrew`, in the `PATH`.
fn logs(flags: &[&str]) -> Output {
    Command::new("kubectl").args(["nodecrew", "logs"]).args(flags).output().unwrap()
}

/// Returns the lines as objects.
fn objects(output: &Output) -> Vec<Value> {
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_of_all_nodes_are_ordered_by_time() {
    let _nodes = node::exclusive();
    let _crew = Crew::apply(logcd_of_the_crew());
    let agents = Namespace::of_a_manifest("nodecrew");
    agents.rolled_out("daemonset/logcd");
    let users = Namespace::new("all-nodes");
    let pods: BTreeMap<String, String> =
        node::names().into_iter().map(|node| (format!("writer-{node}"), node)).collect();
    for (pod, node) in &pods {
        let manifest = WRITER.replace("NAME", pod).replace("NODE", node);
        users.apply(&manifest.replace("LINES", &LINES.to_string()));
    }
    let gone = pods.keys().next().unwrap();
    users.until("the end of the first pod", || {
        let phase = users.says(&["get", "pod", gone, "-o", "jsonpath={.status.phase}"]);
        (phase == "Succeeded").then_some(())
    });
    users.says(&["delete", "pod", gone]);

    let flags = ["-n", users.name(), "--output", "json"];
    let printed = users.until("all lines of all pods", || {
        let output = logs(&flags);
        (objects(&output).len() >= pods.len() * LINES).then_some(output)
    });
    assert_eq!((printed.status.code(), str::from_utf8(&printed.stderr).unwrap()), (Some(0), ""));
    let lines = objects(&printed);
    // The nodes share the clock of this machine.
    assert!(lines.is_sorted_by_key(|line| line["time"].as_str().unwrap().parse::<Timestamp>().unwrap()));
    for (pod, node) in &pods {
        let own: Vec<&Value> = lines.iter().filter(|line| line["pod"] == **pod).collect();
        let expected = (0..LINES).map(|number| format!("line {number}"));
        assert!(own.iter().map(|line| line["line"].as_str().unwrap()).eq(expected), "{pod}: {own:?}");
        assert!(own.iter().all(|line| line["node"] == **node && line["container"] == "writer"), "{own:?}");
    }

    let some = logs(&["-n", users.name(), "--pod", gone, "--grep", "line 1[0-9]$", "-o", "raw"]);
    let expected: String = (10..20).map(|number| format!("line {number}\n")).collect();
    assert_eq!((some.status.code(), String::from_utf8(some.stdout).unwrap()), (Some(0), expected));

    let wrong = logs(&["--node", "nosuch"]);
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        wrong.status.code() == Some(75) && said.contains("nosuch: ") && said.contains("no agent runs there"),
        "{said}"
    );
}
