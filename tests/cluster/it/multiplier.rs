//! The multiplier: a queue that counts or holds numbers, and workers that share them.

use crate::manifest::{Changed, example};
use crate::namespace::Namespace;

#[track_caller]
fn each_even_number_once(namespace: &Namespace) {
    let said = namespace.printed("job-name=multiplier");
    let number = |line: &str| line.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let mut numbers: Vec<u32> = said.lines().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).map(|n| n * 2).collect::<Vec<_>>());
}

/// Runs workers with `nc -w 1 queue 1080`, three and then, in another namespace, twelve. Each request finds
/// the counter where the one before left it.
#[test]
fn shell_workers_print_2_to_200_once() {
    for (test, workers) in [("multiplier-3", 3), ("multiplier-12", 12)] {
        let namespace = Namespace::new(test);
        namespace.apply_example("multiplier/queue.yaml");
        namespace.ready("name=queue", 1);
        let job = example("multiplier/multiplier.yaml");
        namespace.apply(&job.with("parallelism: 3", &format!("parallelism: {workers}")));
        namespace.complete("multiplier");
        each_even_number_once(&namespace);
        assert_eq!(namespace.pods("job-name=multiplier").len(), workers, "none failed, none was replaced");
    }
}

#[test]
fn early_queuectl_workers_print_2_to_200_once() {
    let namespace = Namespace::new("queuectl");
    namespace.apply_example("multiplier/multiplierQueuectl.yaml");
    namespace.ready("job-name=multiplier", 3);
    namespace.apply_example("multiplier/numbersLoad.yaml");
    let queue = example("multiplier/queue.yaml").with(r#", --count-from, "1""#, "");
    namespace.apply(&queue);
    namespace.complete("numbers-load");
    namespace.complete("multiplier");
    each_even_number_once(&namespace);
    let pods = namespace.pods("job-name=multiplier");
    assert!(
        pods.len() == 3 && pods.iter().all(|pod| pod.phase == "Succeeded" && pod.restarts == 0),
        "{pods:?}"
    );
}

#[test]
fn job_past_its_deadline_says_why() {
    let namespace = Namespace::new("deadline");
    namespace.apply_example("multiplier/queue.yaml");
    namespace.ready("name=queue", 1);
    namespace.apply_example("multiplier/multiplierDeadline.yaml");
    let end = namespace.until("the job's end", || namespace.job_end("multiplier"));
    assert_eq!(end, ("Failed".to_owned(), "DeadlineExceeded".to_owned()));
}
