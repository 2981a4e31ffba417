//! The control side: opens the engine and the doors, then waits for signals and changed files.

use crate::engine::contract::Limits;
use crate::http::tokens;
use crate::metrics::QueuedMetrics;
use crate::scrape::Scrape;
use crate::server::{self, DataPlane};
use crate::service::opening::{self, LogSettings, Threads};
use crate::service::{Engine, Environment};
use crate::settings::{Flags, LIVE, Serve, is_memory};
use kit::daemon::{self, Context};
use kit::exit::{Exit, Fatal};
use kit::net::allow::AllowList;
use kit::net::listen;
use kit::settings::Settings;
use kit::telemetry::logs;
use std::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// Runs the daemon until it is drained.
pub async fn run(settings: Settings<Flags>, context: Context) -> Result<(), Fatal> {
    let serve = settings.flags.serve.clone();
    let metrics = QueuedMetrics::register(&context.metrics);
    let (engine, threads) = open_engine(&serve, &context, &metrics)?;
    context.metrics.register(|registry| registry.register_collector(Box::new(Scrape::new(engine.clone()))));
    let (allow, allow_now) = watch::channel(AllowList::new(&serve.allow));
    let (http, line) = listeners(&serve)?;
    let plane = DataPlane {
        http,
        line,
        allow: allow_now,
        tls: serve.tls.follow(&context.stop, &context.metrics)?,
        tokens: tokens::FILE.follow(serve.tokens.clone(), context.stop.drain.clone())?,
        engine,
        serve,
        metrics,
        context: context.clone(),
    };
    let (finished, mut data_plane) = oneshot::channel();
    daemon::spawn("queued-data", move || {
        let _ = finished.send(server::run(plane));
    })?;

    let mut control = Control { settings, allow };
    let mut hangups = context.stop.hangups();
    let mut config = control.settings.flags.serve.common.file();
    let result = loop {
        tokio::select! {
            result = &mut data_plane => {
                break result.unwrap_or_else(|_| Err(Fatal::new(Exit::Failure, "the data plane died")));
            }
            Ok(()) = hangups.changed() => control.reload(),
            () = config.changed() => control.reload(),
        }
    };
    // All answered changes are written already; this writes and syncs the rest.
    if let Some(threads) = threads {
        threads.close();
    }
    result
}

struct Control {
    settings: Settings<Flags>,
    allow: watch::Sender<AllowList>,
}

impl Control {
    /// Applies the changed settings, and names those that cannot be applied. Keeps the old settings if the
    /// new ones are invalid.
    fn reload(&mut self) {
        let renewed = self.settings.renew(&LIVE, |flags| {
            flags.serve.check()?;
            logs::set_level(&flags.serve.common.log_level)
        });
        let Some((new, ())) = renewed else { return };
        self.allow.send_replace(AllowList::new(&new.flags.serve.allow));
        self.settings = new;
    }
}

/// Opens the engine. No other place chooses between memory and a directory.
fn open_engine(
    serve: &Serve,
    context: &Context,
    metrics: &QueuedMetrics,
) -> Result<(Engine, Option<Threads>), Fatal> {
    let memory = is_memory(serve);
    let limits = Limits {
        queues_max: serve.max_queues,
        checkpoint_bytes_max: if memory { u64::MAX } else { serve.segment_bytes / 4 },
        memory_bytes_max: serve.max_memory,
        spills: !memory,
        answer_bytes_max: serve.max_request_bytes,
    };
    let around = Environment {
        drain: context.stop.drain.clone(),
        readiness: context.readiness.clone(),
        metrics: metrics.clone(),
    };
    if memory {
        return Ok((Engine::in_memory(limits, around), None));
    }
    let keeping = LogSettings {
        dir: serve.data.clone(),
        durability: serve.durability,
        segment_bytes: serve.segment_bytes,
    };
    let (engine, threads) = opening::open(keeping, limits, around)?;
    Ok((engine, Some(threads)))
}

/// Returns systemd's sockets if it passed any, the first for HTTP; otherwise opens our own.
fn listeners(serve: &Serve) -> Result<(TcpListener, Option<TcpListener>), Fatal> {
    let mut passed = listen::from_systemd()?.into_iter();
    if let Some(http) = passed.next() {
        return Ok((http, passed.next()));
    }
    Ok((listen::bind(serve.http)?, serve.line.0.map(listen::bind).transpose()?))
}
