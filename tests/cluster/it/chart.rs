//! The Helm chart: what it renders is applied into namespaces of its own, and so are the pods of `helm test`.

use crate::crew::{Crew, ended};
use crate::lines::log;
use crate::manifest::of_this_registry;
use crate::namespace::Namespace;
use crate::node;
use std::path::Path;
use std::process::Command;

/// Renders the objects of a release (`--hooks none`) or the pods of `helm test` (`--hooks only`).
#[track_caller]
fn rendered(nodes: &str, queue: &str, hooks: &str) -> String {
    let values = tempfile::NamedTempFile::new().unwrap();
    let text = format!("namespace: {{create: true}}\nqueued: {{namespace: {{name: {queue}}}}}\n");
    std::fs::write(values.path(), text).unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s/helm"))
        .args(["template", "nodecrew", "--namespace", nodes, "--hooks", hooks, "--values"])
        .arg(values.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    of_this_registry(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn rendered_chart_keeps_a_line_and_finishes_an_item() {
    let _nodes = node::exclusive();
    let id = format!("{:06x}", fastrand::u32(..0x100_0000));
    let (nodes, queue) = (format!("e2e-chart-{id}"), format!("e2e-chart-queue-{id}"));
    let _crew = Crew::apply(rendered(&nodes, &queue, "none"));
    let tests = rendered(&nodes, &queue, "only");
    let (nodes, queue) = (Namespace::of_a_manifest(&nodes), Namespace::of_a_manifest(&queue));
    nodes.rolled_out("daemonset/logd");
    nodes.rolled_out("daemonset/logcd");
    queue.rolled_out("statefulset/queued");
    let logds = nodes.ready("name=logd", node::names().len());
    nodes.ready("name=logcd", node::names().len());
    let line = "helm test of nodecrew, revision 1";
    let kept =
        || logds.iter().map(|logd| log(&nodes, logd).iter().filter(|kept| *kept == line).count()).sum();
    let before: usize = kept();

    let _tests = Crew::apply(tests);
    assert_eq!(ended(&nodes, "nodecrew-test-logd"), "Succeeded");
    assert_eq!(ended(&queue, "nodecrew-test-queued"), "Succeeded", "{}", queue.story());
    assert_eq!(kept(), before + 1);
    let worker = queue.says(&["logs", "nodecrew-test-queued", "-c", "work"]);
    assert!(worker.lines().any(|said| said == "1"), "expr found the item unequal: {worker}");
}
