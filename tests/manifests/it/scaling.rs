//! KEDA starts workers for available work: its documented formula, with the values of our example.

use crate::custom::ScaledJobSpec;
use crate::object::Typed;
use crate::rendering::examples;

fn scaled_job() -> &'static ScaledJobSpec {
    let objects = examples().flat_map(|rendering| &rendering.objects);
    let mut found = objects.filter_map(|object| match &object.resource {
        Typed::ScaledJob(scaled) => Some(&scaled.spec),
        _ => None,
    });
    found.next().expect("an example for KEDA")
}

/// A queue and its workers between two polls.
#[derive(Debug, Default)]
struct Work {
    ready: u32,
    leased: u32,
    /// Jobs whose pod has not yet asked for an item.
    pending: u32,
    found_nothing: u32,
}

impl Work {
    /// Returns the value that the trigger reads from `/v1/queues/NAME`.
    fn value(&self, location: &str) -> u32 {
        match location {
            "backlog" => self.ready + self.leased,
            "ready" => self.ready,
            other => panic!("valueLocation {other}: tell this test what it counts"),
        }
    }

    fn running_jobs(&self) -> u32 {
        self.leased + self.pending
    }

    /// Each pending worker leases an item, or ends because there is none.
    fn lease(&mut self) {
        let leased = self.pending.min(self.ready);
        self.found_nothing += self.pending - leased;
        self.ready -= leased;
        self.leased += leased;
        self.pending = 0;
    }

    /// One worker finishes its item, and continues with the next or ends.
    fn finish_one(&mut self) {
        match self.ready.checked_sub(1) {
            Some(ready) => self.ready = ready,
            None => self.leased = self.leased.saturating_sub(1),
        }
    }
}

/// Returns the number of Jobs that KEDA starts at a poll, by the formula of each strategy in its reference of
/// ScaledJob.
fn started(strategy: &str, work: &Work, value: u32, target: u32, replicas_max: u32) -> u32 {
    let scale_max = value.div_ceil(target).min(replicas_max);
    let running = work.running_jobs();
    match strategy {
        "default" => scale_max.saturating_sub(running),
        "accurate" if scale_max + running > replicas_max => replicas_max.saturating_sub(running),
        "accurate" => scale_max.saturating_sub(work.pending),
        other => panic!("strategy {other}: tell this test its formula"),
    }
}

/// Processes a backlog, with a poll after each finished item, and returns the final state.
fn worked_off(strategy: &str, items: u32) -> Work {
    let spec = scaled_job();
    let trigger = &spec.triggers[0].metadata;
    let target = trigger.target_value.parse().unwrap();
    let mut work = Work { ready: items, ..Work::default() };
    while work.ready + work.running_jobs() > 0 {
        let value = work.value(&trigger.value_location);
        work.pending += started(strategy, &work, value, target, spec.max_replica_count);
        assert!(work.running_jobs() > 0, "nobody is started for {work:?}");
        assert!(work.running_jobs() <= spec.max_replica_count, "too many for {work:?}");
        work.lease();
        work.finish_one();
    }
    work
}

#[test]
fn keda_starts_no_idle_job() {
    let strategy = &scaled_job().scaling_strategy["strategy"];
    for items in 1..=100 {
        let work = worked_off(strategy, items);
        assert_eq!(work.found_nothing, 0, "{strategy}, {items} items: Jobs that found nothing");
    }
}

#[test]
fn accurate_strategy_would_start_idle_jobs() {
    assert!(worked_off("accurate", 10).found_nothing > 0, "this test no longer tells the two apart");
}
