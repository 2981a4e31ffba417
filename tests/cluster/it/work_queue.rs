//! The work queue with kuard's API, its consumers, and Jobs of the same program.

use crate::kubectl::kubectl;
use crate::manifest::{Changed, example, rendered};
use crate::namespace::{Namespace, Pod};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Smaller keys than the walk-through's, so that two processors generate them soon.
const SMALL: &str = "keygen, --bits, \"1024\"]";

fn curl(words: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(words).output().unwrap();
    assert!(output.status.success(), "curl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn load(url: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s/examples/memq/load-queue.sh");
    let output = Command::new(script).arg(format!("http://{url}")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fingerprints(said: &str) -> usize {
    let mut lines: Vec<_> = said.lines().collect();
    assert!(lines.iter().all(|line| line.contains("SHA256:")), "{said}");
    lines.sort_unstable();
    lines.dedup();
    lines.len()
}

#[test]
fn job_completes_with_the_hundredth_key() {
    let namespace = Namespace::new("memq");
    namespace.apply_example("memq/queue.yaml");
    namespace.ready("component=queue", 1);
    let (_forwarded, url) = namespace.forward("rs/queue", 8080);
    let messages = load(&url);
    assert_eq!(
        messages.lines().filter(|line| line.contains(r#""kind":"message""#)).count(),
        100,
        "{messages}"
    );
    let stats = || curl(&[&format!("http://{url}/memq/server/stats")]);
    let full = r#"{"kind":"stats","queues":[{"name":"keygen","depth":100,"enqueued":100,"dequeued":0,"drained":0}]}"#;
    assert_eq!(stats().trim_end(), full);

    namespace.apply(&example("memq/job-consumers.yaml").with("keygen]", SMALL));
    namespace.until("the job's end", || {
        let succeeded = namespace.json(&["get", "job", "consumers"])["status"]["succeeded"].as_u64();
        // Checked in this order: a worker that has ended by now left no work.
        if succeeded.unwrap_or(0) > 0 {
            let backlog = queue(&namespace, "keygen")?["backlog"].clone();
            assert_eq!(backlog, 0, "a worker ended before the work did");
        }
        namespace.job_end("consumers")
    });
    namespace.complete("consumers");
    assert_eq!(fingerprints(&namespace.printed("job-name=consumers")), 100);
    let pods = namespace.pods("job-name=consumers");
    assert!(
        pods.len() == 5 && pods.iter().all(|pod| pod.phase == "Succeeded" && pod.restarts == 0),
        "{pods:?}"
    );
    let done = r#"{"kind":"stats","queues":[{"name":"keygen","depth":0,"enqueued":100,"dequeued":100,"drained":0}]}"#;
    assert_eq!(stats().trim_end(), done);
}

#[test]
fn keygen_jobs_end_as_expected() {
    let namespace = Namespace::new("oneshot");
    let small = |name: &str| example(name).with("args: [", "args: [--bits, \"1024\", ");
    namespace.apply(&small("memq/job-oneshot.yaml"));
    namespace.complete("oneshot");
    assert_eq!(fingerprints(&namespace.printed("job-name=oneshot")), 10);
    namespace.says(&["delete", "job/oneshot"]);

    namespace.apply(&small("memq/job-parallel.yaml"));
    namespace.complete("parallel");
    assert_eq!(fingerprints(&namespace.printed("job-name=parallel")), 100);
    let pods = namespace.pods("job-name=parallel");
    assert!(pods.len() == 10 && pods.iter().all(|pod| pod.phase == "Succeeded"), "{pods:?}");

    namespace.apply(&small("memq/job-oneshot-failure1.yaml"));
    namespace.until("its container started again", || {
        namespace.pods("job-name=oneshot").iter().any(|pod| pod.restarts > 0).then_some(())
    });
    namespace.says(&["delete", "job/oneshot"]);

    namespace.apply(&small("memq/job-oneshot-failure2.yaml"));
    let end = namespace.until("the job's end", || namespace.job_end("oneshot"));
    assert_eq!(end, ("Failed".to_owned(), "BackoffLimitExceeded".to_owned()));
    let failed = namespace.pods("job-name=oneshot").iter().filter(|pod| pod.phase == "Failed").count();
    assert_eq!(failed, 3, "each is there to be looked at");
}

/// Kills the crew's queued, which has a volume, then evicts a worker and deletes queued again. The Job must
/// complete, and each item must be done.
#[test]
fn killed_queue_and_worker_lose_no_item() {
    let namespace = Namespace::new("fire");
    let (server, workers) = five_at_work(&namespace);
    worked_off(&namespace, 10);
    namespace.says(&["delete", "pod", &server.name, "--grace-period=0", "--force"]);
    let again = namespace.until("the queue again", || {
        namespace.pods("name=queued").into_iter().find(|pod| pod.ready && pod.uid != server.uid)
    });
    worked_off(&namespace, 30);
    namespace.says(&["delete", "pod", &workers[4].name, "--wait=false"]);
    namespace.says(&["delete", "pod", &again.name, "--wait=false"]);
    namespace.complete("consumers");
    all_is_done(&namespace);
}

/// Reads the statistics of a queue from the namespace's queued, if it is reachable.
fn queue(namespace: &Namespace, name: &str) -> Option<Value> {
    let path = format!("/api/v1/namespaces/{}/services/queue:http/proxy/v1/queues/{name}", namespace.name());
    let output = kubectl(&["get", "--raw", &path]);
    serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
}

/// Starts the crew's queued, five workers, and then a hundred items for which the workers need some seconds
/// of processor time. They wait for the items, so that no worker ends before all of them run.
#[track_caller]
pub fn five_at_work(namespace: &Namespace) -> (Pod, Vec<Pod>) {
    namespace.apply(&of_the_queue(&rendered("crew")));
    let server = namespace.ready("name=queued", 1).remove(0);
    let job = example("memq/job-consumers.yaml").with(
        "run, -q, keygen, --, keygen]",
        "run, -q, numbers, --, keygen, --bits, \"1024\", --count, \"4\"]",
    );
    namespace.apply(&job);
    let workers = namespace.ready("name=consumers", 5);
    namespace.apply_example("multiplier/numbersLoad.yaml");
    (server, workers)
}

#[track_caller]
pub fn worked_off(namespace: &Namespace, count: u64) {
    let acked = || queue(namespace, "numbers")?["acked"].as_u64();
    namespace.until("work to go on", || (acked()? >= count).then_some(()));
}

/// Checks that all hundred items were acked once.
#[track_caller]
pub fn all_is_done(namespace: &Namespace) {
    let queue = namespace.until("an answer of the queue", || queue(namespace, "numbers"));
    for (field, expected) in [("backlog", 0), ("dead", 0), ("acked", 100)] {
        assert_eq!(queue[field], expected, "{field} of {queue}");
    }
}

/// Selects queued's objects from the crew's manifests, without their namespace.
pub fn of_the_queue(crew: &str) -> String {
    let documents: Vec<_> = crew
        .split("\n---\n")
        .filter(|document| {
            document.contains("\n  namespace: nodecrew-queue") && !document.contains("name: default-deny")
        })
        .map(|document| document.replace("\n  namespace: nodecrew-queue", ""))
        .collect();
    assert!(documents.len() >= 5, "{crew}");
    documents.join("\n---\n")
}
