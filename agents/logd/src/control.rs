//! The control side: opens what the data plane needs, then waits for signals, changed files and rotations.

use crate::connection::ConnectionLimits;
use crate::file::appender::Appender;
use crate::file::housekeeping;
use crate::file::rotation::RotationPolicy;
use crate::metrics::{LogdMetrics, gauge};
use crate::page::{self, PageSources};
use crate::peers::Peers;
use crate::server::{self, DataPlane, FileRequest};
use crate::settings::{Flags, LIVE, Serve, SyncMode};
use kit::daemon::{self, Context, connections_within_limit};
use kit::exit::{Exit, Fatal};
use kit::net::allow::AllowList;
use kit::net::listen;
use kit::settings::Settings;
use kit::telemetry::logs;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot, watch};

/// Runs the daemon until it is drained.
pub async fn run(settings: Settings<Flags>, context: Context) -> Result<(), Fatal> {
    let serve = settings.flags.serve.clone();
    let metrics = LogdMetrics::register(&context.metrics);
    let (mut appender, torn) = Appender::open(&serve.file, serve.policy())?;
    if torn {
        metrics.torn_tails.inc();
        tracing::warn!(
            event = "unfinished_line_closed",
            path = %serve.file.display(),
            "ended the unfinished line that the last run left"
        );
    }
    if serve.sync == SyncMode::Never {
        appender.never_syncs();
    }
    let (limits, limits_now) = watch::channel(limits(&serve));
    let (allow, allow_now) = watch::channel(AllowList::new(&serve.allow));
    let (requests, requests_received) = mpsc::channel(16);
    let (finished, mut finished_now) = watch::channel(appender.newest_finished());
    let peers = Peers::default();
    let (policy, policy_now) = watch::channel(serve.policy());
    let sources = PageSources {
        file: serve.file.clone(),
        policy: policy_now,
        metrics: metrics.clone(),
        peers: peers.clone(),
        readiness: context.readiness.clone(),
        lines: serve.show_lines,
    };
    let _ = context.pages.set(page::routes(sources, serve.page.load()?));
    let plane = DataPlane {
        listeners: listeners(&serve)?,
        appender,
        format: serve.format,
        sync: serve.sync,
        connections_max: connections_within_limit(usize::from(serve.max_connections), 1),
        held_bytes_max: usize::try_from(serve.max_held).unwrap_or(usize::MAX),
        keepalive: serve.keepalive,
        proxy_protocol: serve.proxy_protocol,
        limits: limits_now,
        allow: allow_now,
        tls: serve.tls.follow(&context.stop, &context.metrics)?,
        requests: requests_received,
        newest_finished: finished,
        metrics: metrics.clone(),
        peers,
        context: context.clone(),
    };
    let addresses: Vec<_> = plane.listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
    let (finished, mut data_plane) = oneshot::channel();
    daemon::spawn("logd-data", move || {
        let _ = finished.send(server::run(plane));
    })?;
    for address in addresses {
        tracing::info!(
            event = "listening",
            door = "lines",
            %address,
            file = %serve.file.display(),
            "taking lines"
        );
    }

    let mut control = Control { settings, file: serve.file, limits, allow, policy, requests, metrics };
    let mut hangups = context.stop.hangups();
    let mut config = control.settings.flags.serve.common.file();
    // Finish the work of an earlier run: files not compressed yet, bounds that were lowered meanwhile.
    finished_now.mark_changed();
    // At most one round runs at a time, and no other work waits for it: a large file takes long.
    let mut tidying = None;
    loop {
        let tidy_now = tidying.is_none();
        let tidied = async {
            match &mut tidying {
                Some(report) => report.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = &mut data_plane => {
                return result.unwrap_or_else(|_| Err(Fatal::new(Exit::Failure, "the data plane died")));
            }
            Ok(()) = hangups.changed() => {
                let _ = control.requests.send(FileRequest::Reopen).await;
                control.reload().await;
            }
            () = config.changed() => control.reload().await,
            Ok(()) = finished_now.changed(), if tidy_now => {
                tidying = Some(control.tidy(*finished_now.borrow_and_update())?);
            }
            report = tidied => {
                tidying = None;
                control.count(report);
            }
        }
    }
}

/// The pending report of a round of housekeeping.
type Tidied = oneshot::Receiver<io::Result<housekeeping::TidyReport>>;

struct Control {
    settings: Settings<Flags>,
    /// The file that is written. A different path in changed settings needs a restart.
    file: PathBuf,
    limits: watch::Sender<ConnectionLimits>,
    allow: watch::Sender<AllowList>,
    policy: watch::Sender<RotationPolicy>,
    requests: mpsc::Sender<FileRequest>,
    metrics: LogdMetrics,
}

impl Control {
    /// Applies changed settings, names those that need a restart, and keeps the old settings if the new ones
    /// are invalid.
    async fn reload(&mut self) {
        let renewed = self.settings.renew(&LIVE, |flags| logs::set_level(&flags.serve.common.log_level));
        let Some((new, ())) = renewed else { return };
        let serve = &new.flags.serve;
        self.limits.send_replace(limits(serve));
        self.allow.send_replace(AllowList::new(&serve.allow));
        self.policy.send_replace(serve.policy());
        let _ = self.requests.send(FileRequest::Apply(serve.policy())).await;
        self.settings = new;
    }

    /// Runs one round of housekeeping on a thread of its own, since its priority is lowered permanently.
    fn tidy(&self, newest: u64) -> Result<Tidied, Fatal> {
        let serve = &self.settings.flags.serve;
        let (path, policy, compress) = (self.file.clone(), serve.policy(), !serve.no_gzip);
        let (finished, report) = oneshot::channel();
        daemon::spawn("logd-tidy", move || {
            kit::lifecycle::priority::lower_this_thread();
            let _ = finished.send(housekeeping::tidy(&path, newest, &policy, compress));
        })?;
        Ok(report)
    }

    fn count(&self, report: Result<io::Result<housekeeping::TidyReport>, oneshot::error::RecvError>) {
        match report {
            Ok(Ok(report)) => {
                self.metrics.compressed_files.inc_by(report.compressed);
                self.metrics.removed_files.inc_by(report.removed);
                self.metrics.rotated_files.set(gauge(report.kept_files as u64));
                self.metrics.rotated_bytes.set(gauge(report.kept_bytes));
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    event = "housekeeping_failed",
                    %error,
                    "cannot clean up the rotated files, retrying after the next rotation"
                );
            }
            Err(_) => tracing::error!(event = "housekeeping_died", "the housekeeping ended with a panic"),
        }
    }
}

fn limits(serve: &Serve) -> ConnectionLimits {
    ConnectionLimits { line_bytes_max: serve.line_bytes_max(), idle_timeout: serve.idle_timeout }
}

/// Returns systemd's sockets if it passed any, otherwise our own.
fn listeners(serve: &Serve) -> Result<Vec<TcpListener>, Fatal> {
    let mut sockets = listen::from_systemd()?;
    if sockets.is_empty() {
        sockets.push(listen::bind(serve.listen)?);
    }
    Ok(sockets)
}
