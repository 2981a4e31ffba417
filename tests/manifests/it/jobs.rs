//! Jobs end when the work is done, and their policies name exit codes that exist.

use crate::pod::{Pod, of_every_pod, unless};
use crate::run::{self, of_every_run};
use k8s_openapi::api::batch::v1::PodFailurePolicyRule;
use kit::exit::Exit;

/// Exit codes of `queuectl run` for a command that cannot be executed, and for a missing one.
const COMMAND_REFUSED: [Exit; 2] = [Exit::Command(126), Exit::Command(127)];

/// Exit code of `queuectl run` when the queue is drained, but items are dead.
const DEAD_ITEMS: i32 = 65;

/// Lists the exit codes that fit an action. A failure that a new pod would repeat fails the Job; one that is
/// not the work's fault is not counted.
fn fitting(action: &str) -> Vec<i32> {
    let exits = match action {
        "FailJob" => [&[Exit::Usage, Exit::Data, Exit::Config][..], &COMMAND_REFUSED].concat(),
        "Ignore" => vec![Exit::TryAgain],
        _ => vec![],
    };
    exits.into_iter().map(|exit| exit.code().into()).collect()
}

#[test]
fn failure_policies_use_real_exit_codes() {
    of_every_pod(|pod| {
        let rules = pod.job.and_then(|job| job.pod_failure_policy.as_ref()).map(|policy| &policy.rules);
        let Some(rules) = rules else { return Vec::new() };
        let never = pod.spec.restart_policy.as_deref() == Some("Never");
        let mut wrong: Vec<String> = rules.iter().flat_map(|rule| misjudges(pod, rule)).collect();
        let works = pod.containers().any(|c| run::of(pod, c).is_ok_and(|run| run.works_until.is_some()));
        let fails_on_dead_items = rules.iter().any(|rule| {
            rule.action == "FailJob"
                && rule.on_exit_codes.as_ref().is_some_and(|codes| codes.values.contains(&DEAD_ITEMS))
        });
        wrong.extend(unless(
            !works || fails_on_dead_items,
            "add FailJob on 65: else a Job over dead items may be complete",
        ));
        wrong.extend(unless(never, "a podFailurePolicy needs restartPolicy: Never"));
        wrong
    });
}

fn misjudges(pod: &Pod<'_>, rule: &PodFailurePolicyRule) -> Vec<String> {
    let Some(codes) = &rule.on_exit_codes else { return Vec::new() };
    let fitting = fitting(&rule.action);
    let odd: Vec<i32> = codes.values.iter().filter(|code| !fitting.contains(code)).copied().collect();
    let there = codes.container_name.as_ref().is_none_or(|name| pod.containers().any(|c| c.name == *name));
    let wrong = [
        unless(
            odd.is_empty() && codes.operator == "In",
            format!("{} on {odd:?}: of our codes {fitting:?} fit", rule.action),
        ),
        unless(
            there,
            format!(
                "podFailurePolicy speaks of the container {:?}, which is not there",
                codes.container_name
            ),
        ),
    ];
    wrong.into_iter().flatten().collect()
}

#[test]
fn jobs_end_with_their_queue_deployments_never() {
    of_every_run(|pod, _, run| {
        let takes_items =
            run.script.as_ref().is_some_and(|script| script.contains("nc ") && script.contains(" queue "));
        if run.works_until.is_none() && !takes_items {
            return Vec::new();
        }
        let for_ever = run.works_until.as_deref() == Some("forever");
        let wrong = match pod.job {
            Some(job) => [
                unless(
                    job.completions.is_none(),
                    "remove completions: workers end together, when the queue is drained",
                ),
                unless(!for_ever, "--until forever: a Job never ends with it"),
            ],
            None => [
                unless(for_ever, "write --until forever: what ends with success is started again here"),
                None,
            ],
        };
        wrong.into_iter().flatten().collect()
    });
}

#[test]
fn only_pods_of_jobs_are_not_restarted() {
    of_every_pod(|pod| {
        let policy = pod.spec.restart_policy.as_deref().unwrap_or("Always");
        let ends = matches!(policy, "Never" | "OnFailure");
        unless(ends == pod.job.is_some(), format!("restartPolicy: {policy} does not fit"))
            .into_iter()
            .collect()
    });
}

#[test]
fn examples_include_workers_and_a_policy() {
    let pods: Vec<_> = crate::rendering::examples().flat_map(crate::rendering::Rendering::pods).collect();
    let workers = pods.iter().flat_map(|pod| pod.containers().filter_map(|c| run::of(pod, c).ok()));
    assert!(workers.filter(|run| run.works_until.is_some()).count() >= 4);
    assert!(pods.iter().any(|pod| pod.job.is_some_and(|job| job.pod_failure_policy.is_some())));
}
