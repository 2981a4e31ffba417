//! Runs a daemon: logs, runtime, signals, admin endpoint and systemd notification, then the agent itself.

use crate::admin::{self, Admin};
use crate::exit::{Exit, Fatal};
use crate::http;
use crate::lifecycle::identity::Identity;
use crate::lifecycle::readiness::{Liveness, Readiness};
use crate::lifecycle::stop::{Stop, hold_signals};
use crate::net::accept::Gate;
use crate::net::allow::AllowList;
use crate::net::{browser_ports, listen};
use crate::page::Pages;
use crate::settings::{Common, Door};
use crate::telemetry::logs;
use crate::telemetry::metrics::Metrics;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Probes and scrapers are few; connections above this wait.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Descriptors reserved for probes, scrapers and the agent's own files.
const RESERVED_DESCRIPTORS: usize = 2 * ADMIN_CONNECTIONS_MAX;

/// Passed to an agent: the signal to stop, and the places where it reports its state.
#[derive(Clone, Debug)]
pub struct Context {
    pub stop: Stop,
    pub readiness: Readiness,
    pub liveness: Liveness,
    pub metrics: Metrics,
    pub identity: Identity,
    pub pages: Pages,
}

impl Context {
    pub fn new(agent: &'static str, stop: Stop) -> Context {
        Context {
            stop,
            readiness: Readiness::starting(),
            liveness: Liveness::default(),
            metrics: Metrics::new(agent),
            identity: Identity::of_this_process(),
            pages: Pages::default(),
        }
    }
}

/// Runs one agent as this process, from its first log line to its last.
pub fn run<F>(
    agent: &'static str,
    common: &Common,
    admin: Door,
    body: impl FnOnce(Context) -> F,
) -> Result<(), Fatal>
where
    F: Future<Output = Result<(), Fatal>>,
{
    // In process 1 of a container, the kernel drops signals that are neither caught nor held back.
    hold_signals();
    logs::start(&common.log_level, common.log_format)?;
    allow_many_descriptors();
    runtime()?.block_on(async {
        let context = Context::new(agent, Stop::on_signals(common.drain_timeout)?);
        tokio::spawn(tell_systemd(context.readiness.clone(), context.stop.clone()));
        let result = host(agent, admin, context, body).await;
        tracing::info!(event = "stopped", "stopped");
        result
    })
}

/// Raises the limit of open files. The usual soft limit of 1,024 is for programs that use select(2); the hard
/// limit is the real bound.
pub fn allow_many_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(
            event = "file_limit_raise_failed",
            %error,
            "cannot raise the limit of open files; connections beyond it will wait"
        );
    }
}

/// Returns the number of connections allowed at each of `doors` listening addresses: the wanted number, or
/// fewer if the limit of open files is low. Some descriptors stay reserved for probes and the agent's own
/// files, so that a crowd cannot make the probes fail.
pub fn connections_within_limit(wanted: usize, doors: usize) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let allowed = limit.saturating_sub(RESERVED_DESCRIPTORS).max(limit / 2) / doors.max(1);
    if allowed < wanted {
        tracing::warn!(
            event = "connections_reduced",
            wanted,
            allowed,
            limit,
            "fewer connections than --max-connections: raise the limit of open files"
        );
    }
    allowed.min(wanted)
}

/// The control runtime: one thread that mostly sleeps. Data planes bring their own.
pub fn runtime() -> Result<tokio::runtime::Runtime, Fatal> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|e| Fatal::new(Exit::System, "cannot start the runtime").because(e))
}

/// Starts a thread of the agent. The thread reports its own end.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Fatal> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|e| Fatal::new(Exit::System, "cannot start a thread").because(e))
}

/// Runs one agent with its admin endpoint. A process does this once, `nodecrew up` for each agent.
pub async fn host<F>(
    agent: &'static str,
    admin: Door,
    context: Context,
    body: impl FnOnce(Context) -> F,
) -> Result<(), Fatal>
where
    F: Future<Output = Result<(), Fatal>>,
{
    // Probes are answered until the agent is done, also while it drains.
    let done = CancellationToken::new();
    if let Door(Some(address)) = admin {
        let listener = listen::bind(address)?;
        let local = listener.local_addr().unwrap_or(address);
        tracing::info!(
            event = "listening",
            door = "admin",
            agent,
            address = %local,
            "serving the admin endpoint"
        );
        browser_ports::warn_if_blocked("--admin", local);
        let everyone = AllowList::new(&["any".parse().map_err(|e: String| Fatal::new(Exit::Failure, e))?]);
        let permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        let gate = Gate::new(listen::adopt(listener)?, permits, watch::channel(everyone).1);
        let Context { stop, readiness, liveness, metrics, pages, .. } = context.clone();
        let router = admin::endpoint(Admin { readiness, liveness, metrics, stop }, pages);
        tokio::spawn(http::serve(gate, router, done.clone(), done.clone()));
    }
    tokio::spawn(log_readiness(agent, context.readiness.clone()));
    let (readiness, drain) = (context.readiness.clone(), context.stop.drain.clone());
    tokio::spawn(async move {
        drain.cancelled().await;
        readiness.block("draining", "asked to stop");
    });
    let result = body(context).await;
    done.cancel();
    result
}

async fn log_readiness(agent: &'static str, readiness: Readiness) {
    let mut changes = readiness.changes();
    loop {
        let reasons = changes.borrow_and_update().clone();
        match reasons.iter().find(|(what, _)| !matches!(**what, "starting" | "draining")) {
            Some((what, why)) => tracing::error!(event = "not_ready", agent, what, why, "not ready"),
            None if reasons.is_empty() => tracing::info!(event = "ready", agent, "ready"),
            None => {}
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Sends READY, STATUS and STOPPING to systemd, and feeds the watchdog where the unit asks for it. An agent
/// that waits for free space has started all the same: systemd would end it when the start takes too long.
async fn tell_systemd(readiness: Readiness, stop: Stop) {
    let say = |states: &[NotifyState<'_>]| {
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!(event = "systemd_notice_failed", %error, "cannot notify systemd");
        }
    };
    let watchdog = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
    let mut changes = readiness.changes();
    loop {
        changes.mark_unchanged();
        let has_started = readiness.has_started();
        let reasons = readiness.reasons().trim().replace('\n', "; ");
        let status = if reasons.is_empty() { "ready".to_owned() } else { reasons };
        if has_started {
            say(&[NotifyState::Ready, NotifyState::Status(&status)]);
        } else {
            say(&[NotifyState::Status(&status)]);
        }
        let feed = async {
            match watchdog {
                Some(interval) => tokio::time::sleep(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = feed => say(&[NotifyState::Watchdog]),
            () = stop.drain.cancelled() => {
                say(&[NotifyState::Stopping]);
                return;
            }
        }
    }
}
