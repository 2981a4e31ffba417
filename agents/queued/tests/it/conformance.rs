//! The conformance suite of the engine. It runs over every log; a new log adds a line at the end.

use crate::simulated_log::SimulatedLog;
use kit::daemon::Context;
use kit::lifecycle::stop::Stop;
use queued::commit::Durability;
use queued::engine::contract::{
    EngineError, LeaseRequest, Leased, Limits, Look, NewItem, SettleAction, Settled, Settlement, Until,
};
use queued::engine::core::Core;
use queued::engine::item::{ItemId, ItemState};
use queued::engine::policy::PolicyChange;
use queued::engine::queue::Verdict;
use queued::metrics::QueuedMetrics;
use queued::service::opening::{self, LogSettings, Threads};
use queued::service::{Engine, Environment};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

fn item(body: &str) -> NewItem {
    NewItem { body: body.as_bytes().into(), ..NewItem::default() }
}

fn keyed(body: &str, key: &str) -> NewItem {
    NewItem { key: Some(key.into()), ..item(body) }
}

fn up_to(max: usize) -> LeaseRequest {
    LeaseRequest { max, ..LeaseRequest::default() }
}

fn end(item: &Leased, action: SettleAction) -> Vec<Settlement> {
    vec![Settlement { id: item.id, token: item.token, action }]
}

fn nack(delay_ms: Option<u64>) -> SettleAction {
    SettleAction::Nack { delay_ms, reason: Some("r".into()), release: false }
}

async fn items_come_in_order_and_go_with_their_ack(engine: Engine) {
    let ids = engine.push("q", vec![item("a"), item("b"), item("c")], false).await.unwrap();
    assert!(ids.is_sorted() && ids.iter().all(|(_, duplicate)| !duplicate));
    let leased = engine.lease("q", up_to(2)).await.unwrap();
    let got: Vec<(ItemId, &[u8], u32)> = leased.items.iter().map(|i| (i.id, &*i.body, i.attempt)).collect();
    assert_eq!(got, [(ids[0].0, &b"a"[..], 1), (ids[1].0, &b"b"[..], 1)]);
    assert_eq!((leased.ready, leased.leased, leased.verdict), (1, 2, Verdict::Working));
    let first = &leased.items[0];
    assert_eq!(engine.settle("q", end(first, SettleAction::Ack)).await.unwrap(), [Settled::Done]);
    assert_eq!(engine.settle("q", end(first, SettleAction::Ack)).await.unwrap(), [Settled::Lost]);
    assert!(matches!(engine.item("q", first.id).await, Err(EngineError::NoSuchItem(..))));
    assert_eq!(engine.queue("q").await.unwrap().backlog(), 2);
}

async fn an_ack_and_the_next_lease_are_one_request(engine: Engine) {
    engine.push("q", vec![item("a"), item("b")], true).await.unwrap();
    let first = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    let request = LeaseRequest { settlements: end(&first, SettleAction::Ack), ..up_to(1) };
    let second = engine.lease("q", request).await.unwrap();
    assert_eq!((second.results.as_slice(), &*second.items[0].body), (&[Settled::Done][..], &b"b"[..]));
    let request = LeaseRequest { settlements: end(&second.items[0], SettleAction::Ack), ..up_to(1) };
    let last = engine.lease("q", request).await.unwrap();
    assert!(last.done && last.items.is_empty() && last.verdict == Verdict::Drained && last.sealed);
}

async fn a_lease_that_was_lost_is_good_for_nothing(engine: Engine) {
    engine.push("q", vec![item("a")], false).await.unwrap();
    let short = LeaseRequest { lease_ms: Some(100), ..up_to(1) };
    let first = engine.lease("q", short).await.unwrap().items.remove(0);
    // The item expires, is delayed, and is leased again.
    let wait = LeaseRequest { wait: Duration::from_secs(30), ..up_to(1) };
    let second = engine.lease("q", wait).await.unwrap().items.remove(0);
    assert_eq!((second.id, second.attempt), (first.id, 2));
    for action in [SettleAction::Ack, nack(None), SettleAction::Extend { lease_ms: None }] {
        assert_eq!(engine.settle("q", end(&first, action)).await.unwrap(), [Settled::Lost]);
    }
    let extended =
        engine.settle("q", end(&second, SettleAction::Extend { lease_ms: Some(5000) })).await.unwrap();
    assert_eq!(extended, [Settled::Extended(5000)]);
    assert_eq!(engine.settle("q", end(&second, SettleAction::Ack)).await.unwrap(), [Settled::Done]);
    assert_eq!(engine.queue("q").await.unwrap().counters.expired, 1);
}

async fn an_item_rests_dies_and_is_redriven(engine: Engine) {
    let change = PolicyChange { max_attempts: Some(2), backoff_ms: Some(1), ..PolicyChange::default() };
    assert!(engine.configure("q", change).await.unwrap().0);
    engine.push("q", vec![item("a")], false).await.unwrap();
    let first = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    assert_eq!(engine.settle("q", end(&first, nack(Some(0)))).await.unwrap(), [Settled::Done]);
    let second = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    assert_eq!(engine.settle("q", end(&second, nack(None))).await.unwrap(), [Settled::Dead]);
    let dead = Look { state: Some(ItemState::Dead), limit: 10, ..Look::default() };
    let dead = engine.look("q", dead).await.unwrap().items;
    assert_eq!((dead[0].attempts, dead[0].reason.as_deref()), (2, Some("r")));
    assert_eq!(engine.queue("q").await.unwrap().verdict, Verdict::Drained);
    assert_eq!(engine.queue("q").await.unwrap().failed, 1);
    assert_eq!(engine.redrive_dead("q", Some(vec![first.id])).await.unwrap(), 1);
    assert_eq!(engine.queue("q").await.unwrap().failed, 0);
    let again = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    assert_eq!((again.id, again.attempt), (first.id, 1));
    engine.settle("q", end(&again, nack(Some(0)))).await.unwrap();
    let last = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    engine.settle("q", end(&last, nack(None))).await.unwrap();
    assert_eq!(engine.delete_dead("q", None).await.unwrap(), 1);
}

/// Leases and fails the only item of a queue whose items have one attempt.
async fn fail_one(engine: &Engine) {
    let item = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    assert_eq!(engine.settle("q", end(&item, nack(None))).await.unwrap(), [Settled::Dead]);
}

async fn moved_items_count_as_failed_until_the_next_round(engine: Engine) {
    let change = PolicyChange {
        max_attempts: Some(1),
        dead_letter_queue: Some(Some("dead".into())),
        ..PolicyChange::default()
    };
    engine.configure("q", change).await.unwrap();
    engine.push("q", vec![keyed("a", "k"), item("b")], true).await.unwrap();
    fail_one(&engine).await;
    fail_one(&engine).await;
    let told = engine.lease("q", up_to(1)).await.unwrap();
    assert_eq!((told.verdict, told.done, told.failed), (Verdict::Drained, true, 2));
    assert_eq!(engine.queue("dead").await.unwrap().failed, 0, "it holds work that nobody tried yet");
    assert_eq!(engine.seal("q", false).await.unwrap().failed, 0, "an unseal begins a round");
    engine.push("q", vec![item("c")], true).await.unwrap();
    fail_one(&engine).await;
    assert_eq!(engine.queue("q").await.unwrap().failed, 1);
}

async fn only_a_new_item_begins_a_round(engine: Engine) {
    let dead_letter_queue = Some(Some("dead".into()));
    let change = PolicyChange { max_attempts: Some(1), dead_letter_queue, ..PolicyChange::default() };
    engine.configure("q", change).await.unwrap();
    engine.push("q", vec![keyed("a", "k"), item("b")], false).await.unwrap();
    let first = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    engine.settle("q", end(&first, SettleAction::Ack)).await.unwrap();
    fail_one(&engine).await;
    assert_eq!(engine.queue("q").await.unwrap().verdict, Verdict::Drained);
    engine.push("q", vec![keyed("a", "k")], false).await.unwrap();
    assert_eq!(engine.queue("q").await.unwrap().failed, 1, "a duplicate is no new item");
    engine.push("q", vec![item("c")], false).await.unwrap();
    assert_eq!(engine.queue("q").await.unwrap().failed, 0);
}

async fn a_sealed_queue_without_items_is_drained(engine: Engine) {
    assert_eq!(engine.configure("q", PolicyChange::default()).await.unwrap().1.verdict, Verdict::Pending);
    let request = LeaseRequest { wait: Duration::from_secs(30), ..up_to(1) };
    let waiting = [Until::Drained, Until::Empty, Until::Sealed]
        .map(|until| tokio::spawn(lease_from(engine.clone(), LeaseRequest { until, ..request.clone() })));
    wait_after(&engine, 3, |_| ()).await;
    assert_eq!(engine.push("q", Vec::new(), true).await.unwrap(), []);
    for told in waiting {
        let told = told.await.unwrap();
        assert_eq!((told.verdict, told.done, told.failed), (Verdict::Drained, true, 0));
    }
    assert_eq!(engine.seal("q", false).await.unwrap().verdict, Verdict::Pending, "nothing ever came");
}

async fn paused_queue_leases_nothing_until_resumed(engine: Engine) {
    assert!(matches!(engine.pause("q", true).await, Err(EngineError::NoSuchQueue(_))));
    engine.push("q", vec![item("a"), item("b")], false).await.unwrap();
    let held = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    let view = engine.pause("q", true).await.unwrap();
    assert_eq!((view.paused, view.verdict), (true, Verdict::Working));
    let nothing = engine.lease("q", up_to(1)).await.unwrap();
    assert!(nothing.items.is_empty() && nothing.paused && !nothing.done);
    let request = LeaseRequest { wait: Duration::from_secs(30), ..up_to(1) };
    let waiting = tokio::spawn(lease_from(engine.clone(), request));
    wait_after(&engine, 1, |_| ()).await;
    // Still allowed: pushes and settlements.
    engine.push("q", vec![item("c")], false).await.unwrap();
    assert_eq!(engine.settle("q", end(&held, SettleAction::Ack)).await.unwrap(), [Settled::Done]);
    let view = engine.queue("q").await.unwrap();
    assert_eq!((view.waiting, view.backlog()), (1, 2));
    assert!(!engine.pause("q", false).await.unwrap().paused);
    assert_eq!(&*waiting.await.unwrap().items[0].body, b"b");
}

async fn items_are_found_by_key_and_text(engine: Engine) {
    let items =
        vec![keyed("one apple", "k1"), keyed("two pears", "apple-2"), item("three"), item("apple tart")];
    let ids: Vec<ItemId> = engine.push("q", items, false).await.unwrap().iter().map(|(id, _)| *id).collect();
    let found = async |look: Look| {
        let looked = engine.look("q", look).await.unwrap();
        (looked.items.iter().map(|item| item.id).collect::<Vec<_>>(), looked.next)
    };
    let text = |text: &str, limit| Look { text: Some(text.into()), limit, ..Look::default() };
    assert_eq!(found(text("apple", 10)).await, (vec![ids[0], ids[1], ids[3]], None));
    assert_eq!(found(text("apple", 1)).await, (vec![ids[0]], Some(ids[0])));
    assert_eq!(found(Look { after: Some(ids[0]), ..text("apple", 1) }).await, (vec![ids[1]], Some(ids[1])));
    assert_eq!(found(text("Apple", 10)).await, (vec![], None));
    let key = |key: &str| Look { key: Some(key.into()), limit: 10, ..Look::default() };
    assert_eq!(found(key("k1")).await, (vec![ids[0]], None));
    assert_eq!(found(key("k")).await, (vec![], None));
    assert_eq!(found(Look { state: Some(ItemState::Dead), ..key("k1") }).await, (vec![], None));
    let leased = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    engine.settle("q", end(&leased, SettleAction::Ack)).await.unwrap();
    assert_eq!(found(key("k1")).await, (vec![], None), "its key is remembered, but it is gone");
}

async fn chosen_items_are_deleted_or_moved_except_leased_ones(engine: Engine) {
    let items =
        vec![item("held"), item("a"), NewItem { delay_ms: 60_000, ..keyed("b", "k") }, keyed("c", "known")];
    let ids: Vec<ItemId> = engine.push("q", items, false).await.unwrap().iter().map(|(id, _)| *id).collect();
    engine.push("other", vec![keyed("first", "known")], false).await.unwrap();
    let held = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    assert!(matches!(engine.move_items("q", "q", ids.clone()).await, Err(EngineError::Invalid(_))));
    assert!(matches!(engine.move_items("q", "no/name", ids.clone()).await, Err(EngineError::Invalid(_))));
    let twice = [ids.clone(), ids.clone()].concat();
    assert_eq!(engine.move_items("q", "other", twice).await.unwrap(), 2);
    let other = engine.look("other", Look { limit: 10, ..Look::default() }).await.unwrap().items;
    let moved: Vec<_> = other.iter().map(|item| (&*item.body, item.state, item.key.as_deref())).collect();
    let expected = [
        (&b"first"[..], ItemState::Ready, Some("known")),
        (b"a", ItemState::Ready, None),
        (b"b", ItemState::Delayed, Some("k")),
    ];
    assert_eq!(moved, expected);
    assert_eq!(engine.delete_items("q", ids).await.unwrap(), 1, "the one whose key is known there");
    let view = engine.queue("q").await.unwrap();
    assert_eq!((view.backlog(), view.counters.removed, view.failed), (1, 3, 0));
    assert_eq!(engine.settle("q", end(&held, SettleAction::Ack)).await.unwrap(), [Settled::Done]);
    engine.seal("other", true).await.unwrap();
    let more = engine.push("q", vec![item("d")], false).await.unwrap()[0].0;
    assert_eq!(engine.move_items("q", "other", vec![more]).await, Err(EngineError::Sealed("other".into())));
    assert_eq!(engine.queue("q").await.unwrap().backlog(), 1, "it is where it was");
}

async fn a_release_is_no_attempt(engine: Engine) {
    engine.push("q", vec![item("a")], false).await.unwrap();
    for _ in 0..20 {
        let leased = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
        assert_eq!(leased.attempt, 1);
        let action = SettleAction::Nack { delay_ms: None, reason: None, release: true };
        assert_eq!(engine.settle("q", end(&leased, action)).await.unwrap(), [Settled::Done]);
    }
}

async fn pushes_with_the_same_key_are_one_item(engine: Engine) {
    let first =
        engine.push("q", vec![keyed("a", "k"), keyed("b", "k"), keyed("c", "l")], true).await.unwrap();
    assert_eq!(first.iter().map(|(_, duplicate)| *duplicate).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(first[0].0, first[1].0);
    // The key still gives the first item after the seal, and after the item's ack.
    let again = engine.push("q", vec![keyed("a", "k")], false).await.unwrap();
    assert_eq!(again, [(first[0].0, true)]);
    let leased = engine.lease("q", up_to(1)).await.unwrap().items.remove(0);
    engine.settle("q", end(&leased, SettleAction::Ack)).await.unwrap();
    assert_eq!(engine.push("q", vec![keyed("a", "k")], false).await.unwrap(), [(first[0].0, true)]);
    assert_eq!(engine.push("q", vec![keyed("d", "m")], false).await, Err(EngineError::Sealed("q".into())));
}

async fn bounds_are_kept_and_a_batch_is_whole(engine: Engine) {
    let change = PolicyChange { max_items: Some(2), max_bytes: Some(10), ..PolicyChange::default() };
    engine.configure("q", change).await.unwrap();
    let full = engine.push("q", vec![item("a"), item("b"), item("c")], false).await;
    assert!(matches!(full, Err(EngineError::Full(_))));
    assert_eq!(engine.queue("q").await.unwrap().backlog(), 0);
    assert!(matches!(engine.push("q", vec![item("0123456789a")], false).await, Err(EngineError::Full(_))));
    engine.push("q", vec![item("a"), item("b")], false).await.unwrap();
    assert!(matches!(engine.push("q", vec![item("c")], false).await, Err(EngineError::Full(_))));
    assert!(matches!(engine.push("no/name", vec![item("c")], false).await, Err(EngineError::Invalid(_))));
}

async fn refused_pushes_hold_up_no_later_one(engine: Engine) {
    engine.seal("sealed", true).await.unwrap();
    // Besides its reserve, a segment has room for one of these.
    let large = || vec![item(&"x".repeat(50_000))];
    for _ in 0..5 {
        engine.push("q", large(), false).await.unwrap();
        assert!(matches!(engine.push("sealed", large(), false).await, Err(EngineError::Sealed(_))));
    }
}

async fn waiting_workers_are_served_in_order(engine: Engine) {
    engine.configure("q", PolicyChange::default()).await.unwrap();
    let wait = |engine: &_| {
        let engine = Clone::clone(engine);
        tokio::spawn(async move {
            let wait = Duration::from_secs(30);
            lease_from(engine, LeaseRequest { wait, ..up_to(1) }).await
        })
    };
    let (first, second) = (wait(&engine), wait_after(&engine, 1, wait).await);
    while engine.queue("q").await.unwrap().waiting < 2 {
        tokio::task::yield_now().await;
    }
    engine.push("q", vec![item("a")], false).await.unwrap();
    let got = first.await.unwrap();
    engine.settle("q", end(&got.items[0], SettleAction::Ack)).await.unwrap();
    let told = second.await.unwrap();
    assert!(told.done && told.items.is_empty());
}

async fn wait_after<T>(engine: &Engine, waiting: u64, then: impl Fn(&Engine) -> T) -> T {
    while engine.queue("q").await.unwrap().waiting < waiting {
        tokio::task::yield_now().await;
    }
    then(engine)
}

async fn lease_from(engine: Engine, request: LeaseRequest) -> queued::engine::contract::LeaseAnswer {
    engine.lease("q", request).await.unwrap()
}

async fn a_wait_that_was_given_up_costs_nothing(engine: Engine) {
    engine.configure("q", PolicyChange::default()).await.unwrap();
    let request = LeaseRequest { wait: Duration::from_secs(30), until: Until::Forever, ..up_to(1) };
    for _ in 0..20 {
        let waiting = tokio::spawn(lease_from(engine.clone(), request.clone()));
        wait_after(&engine, 1, |_| ()).await;
        // The item arrives at the moment at which the wait ends.
        let push = engine.push("q", vec![item("a")], false);
        waiting.abort();
        push.await.unwrap();
        let _ = waiting.await;
        let leased =
            engine.lease("q", LeaseRequest { wait: Duration::from_secs(30), ..up_to(1) }).await.unwrap();
        assert_eq!((leased.items.len(), leased.items[0].attempt), (1, 1));
        engine.settle("q", end(&leased.items[0], SettleAction::Ack)).await.unwrap();
    }
}

/// Polls a future once, and lets no other task run.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

async fn client_that_leaves_during_a_sync_keeps_no_items(engine: Engine) {
    engine.push("q", vec![item("a")], false).await.unwrap();
    let first = engine.lease("q", up_to(1)).await.unwrap();
    let settlements = end(&first.items[0], SettleAction::Ack);
    let request =
        LeaseRequest { wait: Duration::from_secs(30), until: Until::Forever, settlements, ..up_to(1) };
    {
        let mut lease = pin!(engine.lease("q", request));
        assert_eq!(poll_once(&mut lease).await, None, "it waits for an item");
        assert_eq!(poll_once(&mut pin!(engine.push("q", vec![item("b")], false))).await, None);
        assert_eq!(engine.figures().0[0].tally(ItemState::Leased), 1, "the item is in the answer");
        assert_eq!(poll_once(&mut lease).await, None, "it waits until the ack is durable");
    }
    let leased = engine.lease("q", up_to(1)).await.unwrap();
    assert_eq!((leased.items.len(), leased.items[0].attempt), (1, 1));
}

async fn a_queue_that_counts_never_ends(engine: Engine) {
    engine.count_from("q", 5).await.unwrap();
    let leased = engine.lease("q", up_to(3)).await.unwrap();
    let bodies: Vec<&[u8]> = leased.items.iter().map(|item| &*item.body).collect();
    assert_eq!(bodies, [b"5", b"6", b"7"]);
    let action = SettleAction::Nack { delay_ms: None, reason: None, release: true };
    engine.settle("q", end(&leased.items[1], action)).await.unwrap();
    engine.count_from("q", 100).await.unwrap();
    let leased = engine.lease("q", up_to(2)).await.unwrap();
    let bodies: Vec<&[u8]> = leased.items.iter().map(|item| &*item.body).collect();
    assert_eq!(bodies, [b"6", b"8"], "what came back first, and no second beginning");
}

async fn queues_are_listed_drained_deleted(engine: Engine) {
    for name in ["b", "a"] {
        engine.push(name, vec![item("x"), NewItem { delay_ms: 60_000, ..item("y") }], false).await.unwrap();
    }
    let names: Vec<_> = engine.queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
    assert_eq!(names, ["a".into(), "b".into()]);
    assert_eq!(engine.drain("a").await.unwrap(), 2);
    engine.delete("a").await.unwrap();
    assert_eq!(engine.delete("a").await, Err(EngineError::NoSuchQueue("a".into())));
    assert_eq!(engine.queues().await.unwrap().len(), 1);
    let look = Look { state: Some(ItemState::Delayed), limit: 5, ..Look::default() };
    let delayed = engine.look("b", look).await.unwrap().items;
    assert_eq!((delayed.len(), &*delayed[0].body), (1, &b"y"[..]));
    assert!(delayed[0].due_ms.is_some_and(|due_ms| due_ms > 0));
}

/// Runs the suite, each test on a fresh engine.
macro_rules! suite {
    ($module:ident, $with:expr, $($test:ident),* $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async { $with(async |engine| super::$test(engine).await).await });
                }
            )*
        }
    };
}

macro_rules! for_every_log {
    ($($test:ident),* $(,)?) => {
        suite!(in_the_memory, super::in_memory, $($test),*);
        suite!(on_the_disk, super::on_disk, $($test),*);
        suite!(on_a_simulated_log, super::on_simulated_log, $($test),*);
    };
}

for_every_log!(
    items_come_in_order_and_go_with_their_ack,
    an_ack_and_the_next_lease_are_one_request,
    a_lease_that_was_lost_is_good_for_nothing,
    an_item_rests_dies_and_is_redriven,
    moved_items_count_as_failed_until_the_next_round,
    only_a_new_item_begins_a_round,
    a_sealed_queue_without_items_is_drained,
    paused_queue_leases_nothing_until_resumed,
    items_are_found_by_key_and_text,
    chosen_items_are_deleted_or_moved_except_leased_ones,
    a_release_is_no_attempt,
    pushes_with_the_same_key_are_one_item,
    bounds_are_kept_and_a_batch_is_whole,
    refused_pushes_hold_up_no_later_one,
    waiting_workers_are_served_in_order,
    a_wait_that_was_given_up_costs_nothing,
    a_queue_that_counts_never_ends,
    queues_are_listed_drained_deleted,
);

// In the memory every answer is durable at once.
suite!(on_the_disk_only, super::on_disk, client_that_leaves_during_a_sync_keeps_no_items);

fn around() -> Environment {
    let context = Context::new("queued", Stop::by_hand(Duration::from_secs(25)));
    Environment {
        drain: context.stop.drain.clone(),
        metrics: QueuedMetrics::register(&context.metrics),
        readiness: context.readiness,
    }
}

const LIMITS: Limits = Limits {
    queues_max: 10,
    checkpoint_bytes_max: u64::MAX,
    memory_bytes_max: 1 << 20,
    spills: true,
    answer_bytes_max: 1 << 20,
};

async fn in_memory(test: impl AsyncFnOnce(Engine)) {
    let engine = Engine::in_memory(Limits { spills: false, ..LIMITS }, around());
    engine.start();
    test(engine).await;
}

async fn on_disk(test: impl AsyncFnOnce(Engine)) {
    let dir = tempfile::tempdir().unwrap();
    let keeping =
        LogSettings { dir: dir.path().to_owned(), durability: Durability::Always, segment_bytes: 64 << 10 };
    let (engine, threads) = opening::open(keeping, LIMITS, around()).unwrap();
    engine.start();
    test(engine).await;
    threads.close();
}

/// Afterwards the log is read back: it holds what the engine says.
async fn on_simulated_log(test: impl AsyncFnOnce(Engine)) {
    let log = Arc::new(SimulatedLog::default());
    let engine = Engine::over(log.clone(), Core::new(1, 1), Durability::Always, LIMITS, around());
    let threads = Threads::start(engine.clone()).unwrap();
    engine.start();
    test(engine.clone()).await;
    threads.close();
    let read = log.fold();
    let of_log =
        read.queues().map(|queue| (queue.name.clone(), queue.backlog(), queue.failed(), queue.counters));
    let views = engine.figures().0;
    let of_engine = views.iter().map(|view| (view.name.clone(), view.backlog(), view.failed, view.counters));
    assert_eq!(of_log.collect::<Vec<_>>(), of_engine.collect::<Vec<_>>());
}
