//! KEDA starts workers for available work: its documented formulas, with the values of our example.

use crate::custom::ScaledJobSpec;
use crate::object::Typed;
use crate::rendering::examples;

/// Returns the specification of the ScaledJob in the examples.
pub fn scaled_job() -> &'static ScaledJobSpec {
    let objects = examples().flat_map(|rendering| &rendering.objects);
    let mut found = objects.filter_map(|object| match &object.resource {
        Typed::ScaledJob(scaled) => Some(&scaled.spec),
        _ => None,
    });
    found.next().expect("an example for KEDA")
}

fn strategy() -> &'static str {
    &scaled_job().scaling_strategy["strategy"]
}

/// Returns the target of our example, and the one with which every item asks for a Job of its own.
fn targets() -> [u32; 2] {
    [scaled_job().triggers[0].metadata.target_value.parse().unwrap(), 1]
}

/// A queue and its workers at a poll.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    ready: u32,
    delayed: u32,
    /// Items of workers that run.
    leased: u32,
    /// Items of workers that were killed without notice, until their leases expire.
    lost: u32,
    /// Jobs whose pod has not yet asked for an item.
    pending: u32,
    found_nothing: u32,
}

impl Work {
    /// Returns the value that the trigger reads; a test of `scaling_metric` compares it with queued's.
    fn backlog(&self) -> u32 {
        self.ready + self.delayed + self.leased + self.lost
    }

    fn running_jobs(&self) -> u32 {
        self.leased + self.pending
    }

    /// Returns how many of the Jobs that are started now have no item: earlier ones take theirs first.
    fn idle_of(&self, started: u32) -> u32 {
        started.saturating_sub((self.ready + self.delayed).saturating_sub(self.pending))
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

/// Returns the number of Jobs that KEDA starts at a poll, by the formulas in its page on scaling Jobs. Those
/// of `custom` have the values of that page: 1 is deducted, and half of the running Jobs.
fn started(strategy: &str, work: &Work, target: u32) -> u32 {
    let replicas_max = i64::from(scaled_job().max_replica_count);
    let scale_max = i64::from(work.backlog().div_ceil(target)).min(replicas_max);
    let (running, pending) = (i64::from(work.running_jobs()), i64::from(work.pending));
    let jobs = match strategy {
        "default" => scale_max - running,
        "custom" => (scale_max - 1 - running / 2).min(replicas_max),
        "accurate" if scale_max + running > replicas_max => replicas_max - running,
        "accurate" => scale_max - pending,
        "eager" => scale_max.min(replicas_max - running - pending),
        other => panic!("strategy {other}: tell this test its formula"),
    };
    u32::try_from(jobs.max(0)).unwrap()
}

/// Lists queues of all kinds, with up to the maximum of running Jobs.
fn situations() -> impl Iterator<Item = Work> {
    let jobs_max = scaled_job().max_replica_count;
    let running =
        (0..=jobs_max).flat_map(move |leased| (0..=jobs_max - leased).map(move |pending| (leased, pending)));
    running.flat_map(|(leased, pending)| {
        let waiting = (0..=60).flat_map(|ready| [0, 1, 7].map(move |delayed| (ready, delayed)));
        waiting.map(move |(ready, delayed)| Work { ready, delayed, leased, pending, ..Work::default() })
    })
}

/// Returns the first situation in which a strategy starts a Job that has no item.
fn idle_start(strategy: &str, target: u32) -> Option<Work> {
    situations().find(|work| work.idle_of(started(strategy, work, target)) > 0)
}

#[test]
fn keda_starts_no_idle_job() {
    assert!(situations().count() > 10_000);
    for target in targets() {
        assert!(idle_start(strategy(), target).is_none(), "{:?}", idle_start(strategy(), target));
    }
}

#[test]
fn accurate_and_eager_would_start_idle_jobs() {
    for (strategy, target) in
        ["accurate", "eager"].into_iter().flat_map(|name| targets().map(|target| (name, target)))
    {
        assert!(idle_start(strategy, target).is_some(), "this test no longer tells {strategy} apart");
    }
}

#[test]
fn waiting_items_get_jobs_up_to_the_maximum() {
    for (target, work) in
        targets().into_iter().flat_map(|target| situations().map(move |work| (target, work)))
    {
        let jobs = work.running_jobs() + started(strategy(), &work, target);
        let wanted = work.backlog().div_ceil(target).min(scaled_job().max_replica_count);
        assert_eq!(jobs, wanted.max(work.running_jobs()), "{work:?}, a Job for every {target} items");
    }
}

#[test]
fn custom_would_leave_the_last_item() {
    let last = Work { ready: 1, ..Work::default() };
    assert_eq!(targets().map(|target| started("custom", &last, target)), [0, 0]);
    assert_eq!(targets().map(|target| started(strategy(), &last, target)), [1, 1]);
}

#[test]
fn killed_worker_costs_at_most_a_job_for_its_item() {
    let killed = Work { lost: 1, ..Work::default() };
    assert_eq!(started(strategy(), &killed, targets()[0]), 1, "say so in the example's comment");
    let killed = Work { lost: 1, leased: 1, ..Work::default() };
    assert_eq!(started(strategy(), &killed, targets()[0]), 0, "another Job runs");
}

/// Processes a backlog, with a poll after each finished item, and returns the final state.
fn worked_off(strategy: &str, items: u32) -> Work {
    let replicas_max = scaled_job().max_replica_count;
    let mut work = Work { ready: items, ..Work::default() };
    while work.ready + work.running_jobs() > 0 {
        work.pending += started(strategy, &work, targets()[0]);
        assert!(work.running_jobs() > 0, "nobody is started for {work:?}");
        assert!(work.running_jobs() <= replicas_max, "too many for {work:?}");
        work.lease();
        work.finish_one();
    }
    work
}

#[test]
fn backlog_is_worked_off_without_idle_jobs() {
    for items in 1..=100 {
        let work = worked_off(strategy(), items);
        assert_eq!(work.found_nothing, 0, "{items} items: Jobs that found nothing");
    }
    assert!(worked_off("accurate", 10).found_nothing > 0, "this test no longer tells the two apart");
}
