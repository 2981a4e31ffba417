//! Jobs that need no agent: the plain ones of the walk-through.

use crate::namespace::Namespace;
use std::time::{Duration, Instant};

#[test]
fn two_times_prints_2_to_20() {
    let namespace = Namespace::new("two-times");
    namespace.apply_example("jobs/two-times.yaml");
    namespace.complete("two-times");
    let expected: Vec<_> = (1..=10).map(|n| (n * 2).to_string()).collect();
    assert_eq!(namespace.logs("job-name=two-times"), expected.join("\n"));
}

#[test]
fn even_seconds_succeeds_six_times_in_even_seconds() {
    let namespace = Namespace::new("even-seconds");
    namespace.apply_example("jobs/even-seconds.yaml");
    namespace.complete("even-seconds");
    let succeeded: Vec<_> =
        namespace.pods("job-name=even-seconds").into_iter().filter(|pod| pod.phase == "Succeeded").collect();
    assert_eq!(succeeded.len(), 6);
    for pod in succeeded {
        let second: u64 = namespace.says(&["logs", &pod.name]).parse().unwrap();
        assert_eq!(second % 2, 0);
    }
}

/// Takes two minutes, all of it waiting.
#[test]
fn cron_job_runs_and_stops_while_suspended() {
    let namespace = Namespace::new("simple");
    namespace.apply_example("jobs/simple.yaml");
    let pod = namespace.until("a run", || {
        let pods = namespace.json(&["get", "pods"])["items"].as_array().unwrap().clone();
        pods.into_iter().find(|pod| pod["status"]["phase"] == "Succeeded")
    });
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (name, node) = (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]));
    let said = namespace.says(&["logs", &name]);
    assert!(said.ends_with(&format!("{name} on {node}")) && said.starts_with("20"), "{said}");

    let cron_job = || namespace.json(&["get", "cronjob", "simple"]);
    namespace.says(&["patch", "cronjob/simple", "--patch", r#"{"spec":{"suspend":true}}"#]);
    let suspended = cron_job()["status"]["lastScheduleTime"].clone();
    // It takes a while to see that nothing happens.
    let since = Instant::now();
    namespace.until("a minute and more", || (since.elapsed() > Duration::from_secs(80)).then_some(()));
    assert_eq!(cron_job()["status"]["lastScheduleTime"], suspended, "it ran while it was suspended");
}
