//! Tests the walk-through of rng: a service moves from a Deployment to a DaemonSet without losing a request.

use crate::namespace::{Namespace, Pod};
use crate::node;
use std::collections::BTreeSet;

/// A client on each node that asks the Service for its server's name and for 32 bytes, in a loop.
const CLIENTS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: asker}
spec:
  selector: {matchLabels: {name: asker}}
  template:
    metadata: {labels: {name: asker}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: asker
          image: busybox:1.36
          command:
            - sh
            - -c
            - |
              while true; do
                name=$(wget -qO- "http://$RNG_SERVICE_HOST/")
                bytes=$(wget -qO- "http://$RNG_SERVICE_HOST/32" | wc -c)
                echo "$bytes $name"
              done
"#;

/// The names of the servers that answered each client, in order.
struct Answers(Vec<Vec<String>>);

impl Answers {
    /// Reads the answers from the clients' logs. Panics if a request was lost.
    #[track_caller]
    fn of(namespace: &Namespace, clients: &[Pod]) -> Answers {
        let of_client = |client: &Pod| {
            let said = namespace.says(&["logs", &client.name]);
            let server = |line: &str| {
                let name = line.strip_prefix("32 RNG running on ");
                name.unwrap_or_else(|| panic!("{} lost a request: {line:?}\n{said}", client.name)).to_owned()
            };
            said.lines().map(server).collect()
        };
        Answers(clients.iter().map(of_client).collect())
    }

    /// Returns the number of answers that each client got.
    fn counts(&self) -> Vec<usize> {
        self.0.iter().map(Vec::len).collect()
    }

    /// Returns the servers that answered after each client's first `skipped` answers. Returns `None` until
    /// each client has `count` further answers.
    fn servers_after(&self, skipped: &[usize], count: usize) -> Option<BTreeSet<String>> {
        let mut servers = BTreeSet::new();
        for (answers, skipped) in self.0.iter().zip(skipped) {
            let new = answers.get(*skipped..).filter(|new| new.len() >= count)?;
            servers.extend(new.iter().cloned());
        }
        Some(servers)
    }
}

fn names(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(|pod| pod.name.clone()).collect()
}

#[test]
fn service_moves_to_the_daemon_set_without_losing_a_request() {
    let namespace = Namespace::new("rng");
    namespace.apply_example("rng/rngDeployment.yaml");
    namespace.apply_example("rng/rngService.yaml");
    let deployed = names(&namespace.ready("app=rng", 2));
    let nodes = node::names().len();
    namespace.apply(CLIENTS);
    let clients = namespace.ready("name=asker", nodes);
    let answers = || Answers::of(&namespace, &clients);
    let none = vec![0; nodes];
    namespace
        .until("answers of both pods", || (answers().servers_after(&none, 1)? == deployed).then_some(()));

    // The Service selects both kinds of pods, so both answer.
    namespace.apply_example("rng/rngDaemonSet.yaml");
    namespace.rolled_out("daemonset/rng");
    let all = namespace.ready("app=rng", 2 + nodes);
    let before = answers().counts();
    namespace.until("answers of the Deployment's pods and the DaemonSet's", || {
        (answers().servers_after(&before, 1)? == names(&all)).then_some(())
    });

    // A new label in the template replaces the DaemonSet's pods. The Service then selects only these.
    namespace.apply_example("rng/rngDaemonSetActive.yaml");
    namespace.rolled_out("daemonset/rng");
    let active = namespace.ready("isactive=yes", nodes);
    assert_eq!(active.iter().map(|pod| &pod.node).collect::<BTreeSet<_>>().len(), nodes, "one on each node");
    namespace.apply_example("rng/rngServiceActive.yaml");
    // Each node updates its routing rules at its own time. After that, the Deployment's pods get no requests.
    let mut seen = answers().counts();
    namespace.until("fifty answers for each client, all of the DaemonSet's pods", || {
        let now = answers();
        let servers = now.servers_after(&seen, 50)?;
        if servers.is_disjoint(&deployed) {
            return Some(());
        }
        seen = now.counts();
        None
    });
    let served = |pods: &BTreeSet<String>| -> usize {
        pods.iter().map(|pod| namespace.says(&["logs", pod]).lines().count()).sum()
    };
    let (before, served_before) = (answers().counts(), served(&deployed));
    assert!(served_before > 0, "the pods' access lines");
    let servers = namespace.until("fifty answers more", || answers().servers_after(&before, 50));
    assert_eq!(servers, names(&active));
    assert_eq!(served(&deployed), served_before, "the Deployment's pods get no requests");

    // Delete the Deployment, which is no longer needed.
    namespace.says(&["delete", "deployment", "rng", "--wait=true"]);
    namespace.until("the end of its pods", || {
        let all = namespace.json(&["get", "pods", "-l", "app=rng"])["items"].as_array()?.len();
        (all == nodes).then_some(())
    });
    println!("{} requests were answered", 2 * answers().counts().iter().sum::<usize>());
    local_service_answers_from_the_same_node(&namespace, &clients, &active);
}

/// Checks that the Service with `internalTrafficPolicy: Local` answers each client from its own node.
/// Kubernetes before 1.21 drops that field, and any node may answer.
#[track_caller]
fn local_service_answers_from_the_same_node(namespace: &Namespace, clients: &[Pod], active: &[Pod]) {
    namespace.apply_example("rng/rngServiceLocal.yaml");
    let service = namespace.json(&["get", "service", "rng-local"]);
    let endpoints = namespace.until("the endpoints of the local Service", || {
        let endpoints = namespace.json(&["get", "endpoints", "rng-local"]);
        let addresses = endpoints["subsets"][0]["addresses"].as_array()?.len();
        (addresses == active.len()).then_some(endpoints)
    });
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 8001);
    let url = format!("http://{}/", service["spec"]["clusterIP"].as_str().unwrap());
    let is_local = service["spec"]["internalTrafficPolicy"] == "Local";
    for client in clients {
        let own = active.iter().find(|pod| pod.node == client.node).unwrap();
        namespace.until("the answers of the local Service", || {
            let answers: Option<BTreeSet<String>> =
                (0..10).map(|_| namespace.try_exec(&client.name, &["wget", "-qO-", &url])).collect();
            let own = format!("RNG running on {}\n", own.name);
            answers.filter(|answers| !is_local || answers.iter().all(|answer| *answer == own))
        });
    }
}
