//! `queuectl run`: leases items, runs the command for each, and reports the results.

use crate::api::Client;
use crate::children::Children;
use crate::failure::Failure;
use crate::flags::Run;
use crate::keeper::Keeper;
use crate::output::Echo;
use crate::process::{Conclusion, Workshop};
use crate::queue_notices::QueueNotices;
use crate::retry::Retry;
use crate::tally::Tally;
use crate::verdict;
use crate::wire::{Item, Lease, LeaseAnswer, LeaseRequest, Nack, SettleResult, Status, millis};
use kit::caller::CallError;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::identity::Identity;
use kit::lifecycle::stop::Stop;
use nix::sys::signal::Signal;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The worker pauses after an answer without items that comes sooner than this.
const TOO_SOON: Duration = Duration::from_secs(1);

struct Worker {
    client: Client,
    run: Run,
    name: String,
    keeper: Keeper,
    notices: QueueNotices,
    workshop: Workshop,
    stop: Stop,
    tally: Tally,
}

/// Results of items that the server has not confirmed yet.
#[derive(Default)]
struct Report {
    ack: Vec<Lease>,
    nack: Vec<Nack>,
    /// True if the answer to this report was lost: the server may have applied it already.
    was_sent: bool,
}

enum NextWork {
    Items(VecDeque<(Item, CancellationToken)>),
    /// The queue is done, and `failed` of its items died.
    Done {
        failed: u64,
    },
    Stopped,
}

pub(crate) async fn run(
    client: Client,
    run: &Run,
    stop: &Stop,
    drain_timeout: Duration,
) -> Result<Exit, Fatal> {
    let many = run.jobs > 1;
    let children = Children::start(run.jobs.into())?;
    let ((out, out_written), (err, err_written)) =
        (Echo::start(std::io::stdout(), many), Echo::start(std::io::stderr(), many));
    // A command that does not end must leave time to release its item.
    let grace = run.grace.min(drain_timeout.mul_f64(0.8));
    let workshop = Workshop { children: children.clone(), echo: [out, err], stop: stop.clone(), grace };
    let worker = Arc::new(Worker {
        client,
        run: run.clone(),
        name: format!("{}/{}", Identity::of_this_process().name, std::process::id()),
        keeper: Keeper::default(),
        notices: QueueNotices::new(run.which.queue.clone()),
        workshop,
        stop: stop.clone(),
        tally: Tally::default(),
    });
    let mut slots = JoinSet::new();
    for _ in 0..run.jobs {
        let worker = worker.clone();
        slots.spawn(async move { worker.work().await });
    }
    let work = async {
        let mut result = Ok(0);
        while let Some(slot) = slots.join_next().await {
            match slot.unwrap_or_else(|e| Err(Fatal::new(Exit::System, "a slot failed").because(e))) {
                Ok(failed) => result = result.map(|before: u64| before.max(failed)),
                Err(fatal) => {
                    // The error would end every slot, so the others release their items.
                    stop.begin_drain();
                    result = result.and(Err(fatal));
                }
            }
        }
        result
    };
    let result = tokio::select! {
        result = work => result,
        () = worker.keeper.keep(&worker.client, &worker.run.which.queue) => Ok(0),
        () = stop.abort.cancelled() => {
            children.signal_all(Signal::SIGKILL);
            Ok(0)
        }
    };
    worker.tally.say();
    let exit = match result {
        Err(fatal) => Err(fatal),
        Ok(_) if stop.drain.is_cancelled() => Ok(Exit::TryAgain),
        Ok(failed) => verdict::conclude(&worker.client, run, failed).await,
    };
    drop(slots);
    drop(worker);
    tokio::select! {
        _ = async { tokio::join!(out_written, err_written) } => {}
        () = stop.abort.cancelled() => {}
    }
    exit
}

impl Worker {
    /// Runs one slot: one item after the other, until the server's verdict or the signal to stop. Returns the
    /// number of items of the queue that died, as far as the verdict says.
    async fn work(&self) -> Result<u64, Fatal> {
        let mut report = Report::default();
        loop {
            match self.next(&mut report).await? {
                NextWork::Items(items) => report = self.work_through(items).await?,
                NextWork::Done { failed } => return Ok(failed),
                NextWork::Stopped => return self.tell(report).await.map(|()| 0),
            }
        }
    }

    /// Works on a batch. The result of its last item goes with the next lease request; the others are sent
    /// while the next item is being worked on.
    async fn work_through(&self, mut items: VecDeque<(Item, CancellationToken)>) -> Result<Report, Fatal> {
        let mut report = Report::default();
        while let Some((item, lost)) = items.pop_front() {
            if self.stop.drain.is_cancelled() {
                self.note(&mut report, item.lease(), Conclusion::Release);
                continue;
            }
            let waiting = &mut items;
            let over = CancellationToken::new();
            let processed = async {
                let _over = over.clone().drop_guard();
                self.workshop.process(&self.run, &item, &lost).await
            };
            let meanwhile = async {
                self.tell(std::mem::take(&mut report)).await?;
                tokio::select! {
                    () = over.cancelled() => Ok(()),
                    // Stopped: items that are not started need not wait for the present item's command.
                    () = self.stop.drain.cancelled() => {
                        let mut back = Report::default();
                        for (item, _) in waiting.drain(..) {
                            self.note(&mut back, item.lease(), Conclusion::Release);
                        }
                        self.tell(back).await
                    }
                }
            };
            let (conclusion, told) = tokio::join!(processed, meanwhile);
            match conclusion {
                Ok(conclusion) => self.note(&mut report, item.lease(), conclusion),
                Err(fatal) => {
                    for (item, _) in [(item, lost)].into_iter().chain(items) {
                        self.note(&mut report, item.lease(), Conclusion::Release);
                    }
                    self.tell(report).await?;
                    return Err(fatal);
                }
            }
            told?;
        }
        Ok(report)
    }

    fn note(&self, report: &mut Report, lease: Lease, conclusion: Conclusion) {
        match conclusion {
            Conclusion::Ack => report.ack.push(lease),
            Conclusion::Nack(reason) => {
                tracing::info!(
                    event = "item_failed",
                    item = lease.id,
                    reason,
                    "the command failed: the item is retried or dies"
                );
                report.nack.push(Nack { lease, reason: Some(reason), release: false });
            }
            Conclusion::Release => report.nack.push(Nack { lease, reason: None, release: true }),
            Conclusion::Lost => {
                self.tally.count(&Conclusion::Lost);
                tracing::warn!(
                    event = "lease_lost",
                    item = lease.id,
                    "the lease was lost: stopped the command"
                );
                self.keeper.forget([&lease]);
            }
        }
    }

    /// Delivers `report` and waits for items in one request, which is retried until it is answered.
    async fn next(&self, report: &mut Report) -> Result<NextWork, Fatal> {
        let mut retry = Retry::of(&self.client);
        let stopping = &self.stop.drain;
        while !stopping.is_cancelled() {
            let request = LeaseRequest {
                max: self.run.batch,
                wait_ms: millis(self.notices.wait()),
                lease_ms: self.run.lease.map(millis),
                until: self.run.until,
                worker: &self.name,
                ack: &report.ack,
                nack: &report.nack,
            };
            let asked_at = Instant::now();
            match self.client.lease(&self.run.which.queue, &request, stopping).await {
                Ok(answer) => {
                    retry.succeeded();
                    self.notices.exists(answer.paused);
                    self.delivered(report, &answer.results);
                    let LeaseAnswer { items, done, verdict, failed, .. } = answer;
                    if done {
                        return Ok(NextWork::Done { failed });
                    }
                    if !items.is_empty() {
                        let hold = |item: Item| {
                            let lost = self.keeper.hold(&item);
                            (item, lost)
                        };
                        return Ok(NextWork::Items(items.into_iter().map(hold).collect()));
                    }
                    tracing::debug!(event = "queue_idle", verdict, "no items to lease");
                }
                Err(failure) if failure.word() == "no_such_queue" => {
                    // The queue is gone, and with it the leases of this worker.
                    retry.succeeded();
                    self.delivered(report, &[]);
                    stopping.run_until_cancelled(self.notices.missing(&self.client)).await;
                }
                Err(Failure::WaitEnded) => {
                    report.was_sent = true;
                    break;
                }
                Err(failure) if failure.may_pass() => {
                    report.was_sent |= may_be_carried_out(&failure);
                    stopping.run_until_cancelled(retry.after(&failure)).await;
                    continue;
                }
                Err(failure) => return Err(self.refused(failure)),
            }
            if asked_at.elapsed() < TOO_SOON {
                stopping.run_until_cancelled(retry.pause()).await;
            }
        }
        Ok(NextWork::Stopped)
    }

    /// Delivers `report` without waiting for items.
    async fn tell(&self, report: Report) -> Result<(), Fatal> {
        let (queue, mut retry) = (&self.run.which.queue, Retry::of(&self.client));
        let Report { ack, nack, was_sent } = report;
        let mut acks = Report { ack, nack: Vec::new(), was_sent };
        let mut nacks = Report { ack: Vec::new(), nack, was_sent };
        // Released items go first, since another worker may be waiting for them.
        for part in [&mut nacks, &mut acks] {
            while !part.ack.is_empty() || !part.nack.is_empty() {
                let answer = if part.nack.is_empty() {
                    self.client.ack(queue, &part.ack).await
                } else {
                    self.client.nack(queue, &part.nack).await
                };
                match answer {
                    Ok(outcomes) => self.delivered(part, &outcomes.results),
                    Err(failure) if failure.word() == "no_such_queue" => self.delivered(part, &[]),
                    Err(failure) if failure.may_pass() => {
                        part.was_sent |= may_be_carried_out(&failure);
                        retry.after(&failure).await;
                    }
                    Err(failure) => return Err(self.refused(failure)),
                }
            }
        }
        retry.succeeded();
        Ok(())
    }

    /// Counts and clears a report that the server has judged.
    fn delivered(&self, report: &mut Report, results: &[SettleResult]) {
        let mut lost = HashSet::new();
        for outcome in results {
            match outcome.status {
                Status::Ok => {}
                Status::Lost if report.was_sent => tracing::warn!(
                    event = "report_too_late",
                    item = outcome.id,
                    "too late: the lease was lost, or the server's answer to an earlier report was"
                ),
                Status::Lost => {
                    tracing::warn!(
                        event = "report_too_late",
                        item = outcome.id,
                        "too late: the lease was lost"
                    );
                    lost.insert(outcome.id.as_str());
                }
                Status::Dead => {
                    tracing::warn!(
                        event = "item_died",
                        item = outcome.id,
                        "the last attempt failed: the item is dead"
                    );
                }
            }
        }
        let Report { ack, nack, .. } = std::mem::take(report);
        let acked = ack.iter().map(|lease| (lease, Conclusion::Ack));
        let nacked = nack.iter().map(|Nack { lease, reason, release }| match (release, reason) {
            (true, _) => (lease, Conclusion::Release),
            (false, reason) => (lease, Conclusion::Nack(reason.clone().unwrap_or_default())),
        });
        for (lease, conclusion) in acked.chain(nacked) {
            let is_lost = lost.contains(lease.id.as_str());
            self.tally.count(if is_lost { &Conclusion::Lost } else { &conclusion });
            self.keeper.forget([lease]);
        }
    }

    fn refused(&self, failure: Failure) -> Fatal {
        failure.fatal(format!("cannot work on queue {} of {}", self.run.which.queue, self.client.server()))
    }
}

/// True if the server may have applied the request although its answer was lost.
fn may_be_carried_out(failure: &Failure) -> bool {
    match failure {
        Failure::Call(CallError::NoConnection(_) | CallError::Token(..)) => false,
        // The proxy got no answer from the server.
        Failure::Call(CallError::Refused { status, .. }) => matches!(status, 502 | 504),
        _ => true,
    }
}
