//! The procedures of OPERATIONS.md in a cluster, read from that file and run by a shell.

use crate::crew::Crew;
use crate::kubectl::{RunningCommand, says};
use crate::manifest::{Changed, for_this_cluster, rendered};
use crate::namespace::Namespace;
use crate::node;
use crate::waiting::until;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use trial::commands_under;

const OPERATIONS: &str = include_str!("../../../OPERATIONS.md");

/// A person at a shell, in a directory with the manifests as this cluster needs them.
struct Person(TempDir);

impl Person {
    fn new() -> Person {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("k8s/rendered/crew.yaml", &for_this_cluster(&rendered("crew")));
        write(
            "k8s/examples/queued/restore.yaml",
            &for_this_cluster(&crate::manifest::example("queued/restore.yaml")),
        );
        Person(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs the commands under a heading, each of which must succeed.
    #[track_caller]
    fn follows(&self, heading: &str) -> String {
        let mut script = commands_under(heading, OPERATIONS);
        if !crate::kubectl::serves("policy/v1") {
            script = script.replace("kubectl apply ", "kubectl apply --validate=false ");
        }
        let output = Command::new("bash").args(["-ec", &script]).current_dir(self.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{heading}: {said}\n{errors}");
        said
    }
}

/// A forwarded port to queued's HTTP listener, open until this is dropped.
struct Queue {
    _forwarded: RunningCommand,
    url: String,
}

impl Queue {
    fn new(namespace: &Namespace) -> Queue {
        let (forwarded, address) = namespace.forward("pod/queued-0", 8080);
        Queue { _forwarded: forwarded, url: format!("http://{address}/v1/queues/kept") }
    }

    #[track_caller]
    fn push(&self, item: &str) {
        let url = format!("{}/items", self.url);
        let output = Command::new("curl").args(["-fsS", "-d", item, &url]).output().unwrap();
        assert!(output.status.success(), "{item}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn items(&self) -> String {
        let url = format!("{}/items", self.url);
        let output = Command::new("curl").args(["-fsS", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn second_day_in_a_cluster_goes_as_written() {
    let _nodes = node::exclusive();
    let crew = Crew::apply(rendered("crew"));
    let (nodes, queue) = (Namespace::of_a_manifest("nodecrew"), Namespace::of_a_manifest("nodecrew-queue"));
    for daemon in ["daemonset/logd", "daemonset/logcd"] {
        nodes.rolled_out(daemon);
    }
    queue.rolled_out("statefulset/queued");
    let person = Person::new();

    let before = Queue::new(&queue);
    before.push("first");
    person.follows("Back up queued in a cluster");
    before.push("second");
    drop(before);
    person.follows("Restore queued in a cluster");
    let after = Queue::new(&queue);
    let items = after.items();
    assert!(items.contains("first") && !items.contains("second"), "{items}");
    drop(after);

    let said = person.follows("First look in a cluster");
    assert!(said.contains("queued-0") && said.contains("logd"), "{said}");

    // A new version is a changed template: here, a longer grace period.
    let grace = |daemon: &str| {
        let path = "jsonpath={.spec.template.spec.terminationGracePeriodSeconds}";
        nodes.says(&["get", daemon, "-o", path])
    };
    let changed =
        rendered("crew").with("terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 41");
    std::fs::write(person.path().join("k8s/rendered/crew.yaml"), for_this_cluster(&changed)).unwrap();
    person.follows("Upgrade in a cluster");
    assert_eq!(grace("daemonset/logd"), "41");
    person.follows("Go back in a cluster");
    assert_eq!(grace("daemonset/logd"), "40");
    nodes.rolled_out("daemonset/logd");
    queue.rolled_out("statefulset/queued");
    assert!(Queue::new(&queue).items().contains("first"));

    person.follows("Uninstall in a cluster");
    until("the namespaces to be gone", || {
        let left = says(&["get", "namespaces", "-o", "name", "-l", "app.kubernetes.io/part-of=nodecrew"]);
        left.is_empty().then_some(())
    });
    drop(crew);
}
