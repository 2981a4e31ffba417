use super::*;
use proptest::prelude::*;

const INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends a record; `waits` if a request waits for it.
    Append {
        waits: bool,
        begins_segment: bool,
        bytes: usize,
    },
    Iterate,
    Pass {
        us: u64,
    },
    /// Lets the log answer.
    Answer {
        us: u64,
        fails: bool,
    },
    Suspect,
    AskSync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), prop::bool::weighted(0.1), prop_oneof![4 => Just(100), 1 => 1usize..50_000])
            .prop_map(|(waits, begins_segment, bytes)| Step::Append { waits, begins_segment, bytes }),
        4 => Just(Step::Iterate),
        4 => (0u64..20_000).prop_map(|us| Step::Pass { us }),
        6 => (prop_oneof![2 => 50u64..500, 1 => 501u64..30_000], prop::bool::weighted(0.2))
            .prop_map(|(us, fails)| Step::Answer { us, fails }),
        1 => Just(Step::Suspect),
        1 => Just(Step::AskSync),
    ]
}

/// A record on its way to the log.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    waits: bool,
    begins_segment: bool,
    bytes: usize,
}

/// The machine with its surroundings: groups, a log, a clock.
struct World {
    machine: Machine,
    now: Instant,
    pending: Vec<Sent>,
    with_log: Vec<Sent>,
    /// Records that are appended and not synced.
    written: Vec<Sent>,
    synced: usize,
    log_works: bool,
    answered: usize,
    asked: usize,
    appended: usize,
    /// The number of records at each request for a sync; `syncing` has those that the present sync
    /// covers.
    sync_asks: Vec<usize>,
    syncing: Vec<usize>,
}

impl World {
    fn new(durability: Durability) -> World {
        World {
            machine: Machine::new(durability),
            now: Instant::now(),
            pending: Vec::new(),
            with_log: Vec::new(),
            written: Vec::new(),
            synced: 0,
            log_works: true,
            answered: 0,
            asked: 0,
            appended: 0,
            sync_asks: Vec::new(),
            syncing: Vec::new(),
        }
    }

    fn pending(&self) -> PendingGroups {
        PendingGroups {
            since: self.pending.first().map(|sent| sent.at),
            waiting: self.pending.iter().filter(|sent| sent.waits).count(),
            bytes: self.pending.iter().map(|sent| sent.bytes).sum(),
            begins_segment: self.pending.iter().any(|sent| sent.begins_segment),
            sync_asked: !self.sync_asks.is_empty(),
            asked_is_written: self.sync_asks.iter().all(|asked| *asked <= self.is_written()),
        }
    }

    fn is_written(&self) -> usize {
        self.synced + self.written.len()
    }

    fn on(&mut self, event: Event) {
        let pending = self.pending();
        let before = self.machine.phase();
        let phase = self.machine.on(event, pending, self.now);
        if let Phase::Writing(by) = phase
            && before != phase
        {
            assert!(self.with_log.is_empty(), "two writes at a time");
            let large = pending.bytes > EVENT_LOOP_BYTES_MAX;
            let slow = self.machine.took > QUICK || pending.begins_segment || large;
            assert!(by == By::Thread || !slow, "the event loop would have to wait");
        }
        if matches!(phase, Phase::Writing(_)) && !matches!(before, Phase::Writing(_))
            || matches!((phase, event), (Phase::Writing(_), Event::Done { .. }))
        {
            self.machine.begin();
            self.with_log = std::mem::take(&mut self.pending);
        }
        let begins = before != phase || matches!(event, Event::Done { .. } | Event::Failed);
        if phase == Phase::Syncing && begins {
            let written = self.is_written();
            let (covered, later) = self.sync_asks.iter().partition(|asked| **asked <= written);
            (self.syncing, self.sync_asks) = (covered, later);
        }
        match phase {
            Phase::Idle => assert!(self.pending.is_empty(), "forgotten"),
            Phase::Lingering { .. } => assert_eq!(self.pending().waiting, 0, "somebody waits"),
            Phase::Gathering { .. } | Phase::Expecting { .. } => assert!(self.pending().waiting > 0),
            Phase::Closed if self.log_works => {
                assert!(self.pending.is_empty() && self.written.is_empty(), "closed too early");
            }
            _ => {}
        }
    }

    fn answer(&mut self, us: u64, fails: bool) {
        match self.machine.phase() {
            Phase::Writing(_) if fails => {
                let mut back = std::mem::take(&mut self.with_log);
                back.append(&mut self.pending);
                self.pending = back;
                self.on(Event::Failed);
            }
            Phase::Writing(_) => {
                self.now += Duration::from_micros(us);
                let done = std::mem::take(&mut self.with_log);
                let answered = done.iter().filter(|sent| sent.waits).count();
                self.answered += answered;
                match self.machine.durability {
                    Durability::Always => self.synced += done.len(),
                    _ => self.written.extend(done),
                }
                self.on(Event::Done { took: Some(Duration::from_micros(us)), answered });
            }
            Phase::Syncing => {
                self.synced += self.written.len();
                self.written.clear();
                let synced = self.synced;
                let kept = self.syncing.drain(..).all(|asked| asked <= synced);
                assert!(fails || kept, "a sync is answered that does not cover what was there");
                self.on(if fails { Event::Failed } else { Event::Done { took: None, answered: 0 } });
            }
            _ => {}
        }
    }

    /// Lets time pass, and reports what is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let before = self.machine.phase();
            self.on(Event::Due);
            let after = self.machine.phase();
            assert!(before != after || self.machine.due().is_none_or(|next| next > due), "{before:?} stays");
        }
        self.now = until;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { waits, begins_segment, bytes } => {
                self.asked += usize::from(waits);
                self.appended += 1;
                self.pending.push(Sent { at: self.now, waits, begins_segment, bytes });
                self.on(Event::Appended);
            }
            Step::Iterate => self.on(Event::Iterated),
            Step::Pass { us } => self.pass(Duration::from_micros(us)),
            Step::Answer { us, fails } => self.answer(us, fails),
            Step::Suspect => self.on(Event::Suspected),
            Step::AskSync => {
                self.sync_asks.push(self.appended);
                self.on(Event::Appended);
            }
        }
    }

    /// Runs with a working log until nothing is left to do; returns the time that took.
    fn settle(&mut self) -> Duration {
        let began = self.now;
        for _ in 0..100 {
            match self.machine.phase() {
                Phase::Idle if self.machine.due().is_none() => break,
                Phase::Closed => break,
                Phase::Gathering { .. } => self.on(Event::Iterated),
                Phase::Writing(_) | Phase::Syncing => self.answer(100, false),
                _ => {
                    let due = self.machine.due().expect("a phase that waits has a time");
                    self.pass(due.saturating_duration_since(self.now));
                }
            }
        }
        self.now - began
    }
}

fn durability() -> impl Strategy<Value = Durability> {
    prop::sample::select(vec![Durability::Always, Durability::Interval(INTERVAL), Durability::None])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Once the log works, every request is answered in bounded time, whatever happened before.
    #[test]
    fn every_request_is_answered(durability in durability(), steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(durability);
        steps.into_iter().for_each(|step| world.step(step));
        let took = world.settle();
        prop_assert_eq!(world.answered, world.asked);
        prop_assert!(world.pending.is_empty() && world.with_log.is_empty());
        prop_assert!(world.sync_asks.is_empty() && world.syncing.is_empty(), "a sync is not answered");
        prop_assert!(took <= RETRY_AFTER + LINGER + EXPECT_MAX + INTERVAL + Duration::from_millis(2), "{:?}", took);
        if durability != Durability::None {
            prop_assert!(world.written.is_empty(), "not synced");
        }
    }

    /// Closing writes and syncs everything, from any state.
    #[test]
    fn closing_keeps_everything(durability in durability(), steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(durability);
        steps.into_iter().for_each(|step| world.step(step));
        world.on(Event::Closing);
        world.settle();
        prop_assert_eq!(world.machine.phase(), Phase::Closed);
        prop_assert_eq!((world.answered, world.written.len()), (world.asked, 0));
    }

    /// Closing ends even if the log never works again.
    #[test]
    fn closing_ends_on_a_failing_log(durability in durability(), steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(durability);
        steps.into_iter().for_each(|step| world.step(step));
        world.log_works = false;
        world.on(Event::Closing);
        for _ in 0..4 {
            world.answer(100, true);
        }
        prop_assert_eq!(world.machine.phase(), Phase::Closed);
    }
}

/// Brings a new machine to `Idle` after a commit of this duration that answered this number of requests.
fn after_commit(took: Duration, answered: usize) -> World {
    let mut world = World::new(Durability::Always);
    for _ in 0..answered {
        world.step(WAITS);
    }
    while matches!(world.machine.phase(), Phase::Gathering { .. }) {
        world.step(Step::Iterate);
    }
    world.answer(u64::try_from(took.as_micros()).unwrap(), false);
    assert_eq!(world.machine.phase(), Phase::Idle);
    world
}

const WAITS: Step = Step::Append { waits: true, begins_segment: false, bytes: 100 };

#[test]
fn interval_is_kept_under_constant_load() {
    let mut world = World::new(Durability::Interval(INTERVAL));
    for _ in 0..5000 {
        world.step(WAITS);
        while matches!(world.machine.phase(), Phase::Gathering { .. }) {
            world.step(Step::Iterate);
        }
        world.answer(100, false);
        let oldest = world.written.first().map_or(world.now, |sent| sent.at);
        assert!(world.now - oldest <= INTERVAL + Duration::from_millis(1));
    }
}

#[test]
fn large_group_is_left_to_the_thread() {
    for (bytes, by) in [(EVENT_LOOP_BYTES_MAX, By::EventLoop), (EVENT_LOOP_BYTES_MAX + 1, By::Thread)] {
        let mut world = after_commit(Duration::from_micros(100), 1);
        world.step(Step::Append { waits: true, begins_segment: false, bytes });
        world.step(Step::Iterate);
        assert_eq!(world.machine.phase(), Phase::Writing(by));
    }
}

/// Lets a request be written, or fail to.
fn write(world: &mut World, fails: bool) {
    world.step(WAITS);
    while matches!(world.machine.phase(), Phase::Gathering { .. }) {
        world.step(Step::Iterate);
    }
    world.answer(100, fails);
}

#[test]
fn written_groups_are_synced_while_writes_fail() {
    let mut world = World::new(Durability::Interval(INTERVAL));
    write(&mut world, false);
    write(&mut world, true);
    world.pass(INTERVAL);
    assert_eq!(world.machine.phase(), Phase::Syncing);
    world.answer(100, false);
    assert!(matches!(world.machine.phase(), Phase::Failing { .. }));
    assert!(world.written.is_empty() && !world.pending.is_empty());
}

#[test]
fn written_groups_are_synced_before_a_failing_log_is_closed() {
    let mut world = World::new(Durability::None);
    write(&mut world, false);
    write(&mut world, true);
    world.on(Event::Closing);
    assert_eq!(world.machine.phase(), Phase::Writing(By::Thread), "the last attempt");
    world.log_works = false;
    world.answer(100, true);
    assert_eq!(world.machine.phase(), Phase::Syncing);
    world.answer(100, false);
    assert_eq!((world.machine.phase(), world.written.len()), (Phase::Closed, 0));
}

#[test]
fn lone_client_is_written_at_once() {
    let mut world = after_commit(Duration::from_micros(100), 1);
    world.step(WAITS);
    world.step(Step::Iterate);
    assert_eq!(world.machine.phase(), Phase::Writing(By::EventLoop));
}

#[test]
fn clients_that_come_back_together_share_a_commit() {
    let mut world = after_commit(Duration::from_micros(100), 3);
    world.step(WAITS);
    world.step(Step::Iterate);
    world.step(Step::Iterate);
    world.step(WAITS);
    assert_eq!(world.machine.phase(), Phase::Gathering { seen: Some(1) });
    world.step(Step::Iterate);
    world.step(WAITS);
    world.step(Step::Iterate);
    assert_eq!(world.machine.phase(), Phase::Writing(By::EventLoop));
    assert_eq!(world.with_log.len(), 3);
}

#[test]
fn slow_commit_waits_for_the_clients_it_answered() {
    let mut world = after_commit(Duration::from_millis(3), 2);
    world.step(WAITS);
    assert!(matches!(world.machine.phase(), Phase::Expecting { .. }));
    world.step(WAITS);
    world.step(Step::Iterate);
    world.step(Step::Iterate);
    assert_eq!(world.machine.phase(), Phase::Writing(By::Thread));
    let mut world = after_commit(Duration::from_millis(3), 2);
    world.step(WAITS);
    world.pass(Duration::from_micros(1500));
    assert_eq!(world.machine.phase(), Phase::Writing(By::Thread), "nobody is expected for longer");
}
