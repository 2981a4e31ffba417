//! The control side: opens the engine and the doors, then waits for signals and changed files.

use crate::durable::{self, Keeping, Threads};
use crate::engine::contract::{Engine, Limits};
use crate::http::direct::Direct;
use crate::http::{self, Doors, Parts, tokens};
use crate::line::{self, LineDoor};
use crate::local::{Local, Surroundings};
use crate::log::LogError;
use crate::metrics::QueuedMetrics;
use crate::scrape::Scrape;
use crate::settings::{Flags, LIVE, Serve, is_memory};
use kit::accept::Gate;
use kit::admin::{self, Admin};
use kit::allow::AllowList;
use kit::daemon::{Context, connections_within_limit};
use kit::events::Streams;
use kit::exit::{Exit, Fatal};
use kit::settings::Settings;
use kit::watch::Files;
use kit::{listen, logs};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

/// Runs the daemon until it is drained.
pub async fn run(settings: Settings<Flags>, context: Context) -> Result<(), Fatal> {
    let serve = settings.flags.serve.clone();
    let metrics = QueuedMetrics::register(&context.metrics);
    let (engine, threads) = open_engine(&serve, &context, &metrics)?;
    context.metrics.register(|registry| registry.register_collector(Box::new(Scrape::new(engine.clone()))));
    let (allow, allow_now) = watch::channel(AllowList::new(&serve.allow));
    let (http_listener, line_listener) = listeners(&serve)?;
    let plan = Plan {
        http: hand_over(http_listener)?,
        line: line_listener.map(hand_over).transpose()?,
        allow: allow_now,
        tls: serve.tls.follow(&context.stop, &context.metrics)?,
        tokens: tokens::follow(serve.tokens.clone(), context.stop.drain.clone())?,
        engine,
        serve,
        metrics,
        context: context.clone(),
    };
    let (finished, mut data_plane) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("queued-data".to_owned()).spawn(move || {
        let _ = finished.send(serve_doors(plan));
    });
    spawned.map_err(|e| Fatal::new(Exit::System, "cannot start a thread").because(e))?;

    let mut control = Control { settings, allow };
    let mut hangups = context.stop.hangups();
    let mut config = control.settings.flags.serve.common.config.clone().map(|path| Files::new(vec![path]));
    let result = loop {
        let changed = async {
            match &mut config {
                Some(files) => files.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = &mut data_plane => {
                break result.unwrap_or_else(|_| Err(Fatal::new(Exit::Failure, "the data plane died")));
            }
            Ok(()) = hangups.changed() => control.reload(),
            () = changed => control.reload(),
        }
    };
    // Whatever was answered is written already; this writes and syncs the rest.
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
    /// Applies what changed, names what cannot be applied, and keeps the old settings when the new are bad.
    fn reload(&mut self) {
        let renewed = self.settings.renew(&LIVE, |flags| logs::set_level(&flags.serve.common.log_level));
        let Some((new, ())) = renewed else { return };
        self.allow.send_replace(AllowList::new(&new.flags.serve.allow));
        self.settings = new;
    }
}

fn open_engine(
    serve: &Serve,
    context: &Context,
    metrics: &QueuedMetrics,
) -> Result<(Local, Option<Threads>), Fatal> {
    let memory = is_memory(serve);
    let limits = Limits {
        queues_max: serve.max_queues,
        memory_bytes_max: serve.max_memory,
        spills: !memory,
        answer_bytes_max: serve.max_request_bytes,
    };
    let around = Surroundings {
        drain: context.stop.drain.clone(),
        readiness: context.readiness.clone(),
        metrics: metrics.clone(),
    };
    if memory {
        return Ok((Local::in_memory(limits, around), None));
    }
    let keeping =
        Keeping { dir: serve.data.clone(), durability: serve.durability, segment_bytes: serve.segment_bytes };
    let began = std::time::Instant::now();
    let (engine, threads) = durable::open(keeping, limits, around).map_err(|e| fatal(&e))?;
    let items = engine.shared().lock().core.usage.items;
    tracing::info!(dir = %serve.data.display(), items, took_ms = began.elapsed().as_millis(), "items read");
    Ok((engine, Some(threads)))
}

/// What the log's errors are to the process.
pub fn fatal(error: &LogError) -> Fatal {
    use std::error::Error;
    let exit = match error {
        LogError::InUse { .. } => Exit::TryAgain,
        LogError::Io { .. } => Exit::System,
        LogError::Damaged { .. } | LogError::Version { .. } => Exit::Failure,
    };
    let fatal = Fatal::new(exit, error.to_string());
    match error.source().map(ToString::to_string) {
        Some(cause) => fatal.because(cause),
        None => fatal,
    }
}

/// systemd's sockets where it passed any, the first for HTTP; else our own.
fn listeners(serve: &Serve) -> Result<(TcpListener, Option<TcpListener>), Fatal> {
    let mut passed = listen::from_systemd()?.into_iter();
    if let Some(http) = passed.next() {
        return Ok((http, passed.next()));
    }
    Ok((listen::bind(serve.http)?, serve.line.0.map(listen::bind).transpose()?))
}

/// As a plain socket: it is registered with the data plane's runtime, not with this one.
fn hand_over(listener: TcpListener) -> Result<std::net::TcpListener, Fatal> {
    listener
        .into_std()
        .map_err(|e| Fatal::new(Exit::System, "cannot hand over a listening socket").because(e))
}

fn local(listener: &std::net::TcpListener) -> String {
    listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
}

/// All that the data plane needs; everything in it is checked and open.
struct Plan {
    http: std::net::TcpListener,
    line: Option<std::net::TcpListener>,
    allow: watch::Receiver<AllowList>,
    tls: kit::http::Tls,
    tokens: watch::Receiver<tokens::Tokens>,
    engine: Local,
    serve: Serve,
    metrics: QueuedMetrics,
    context: Context,
}

/// The data plane: one thread with all doors, so that an answer crosses no thread but the log's.
fn serve_doors(plan: Plan) -> Result<(), Fatal> {
    kit::daemon::runtime()?.block_on(async {
        let Context { stop, readiness, liveness, metrics, .. } = plan.context.clone();
        tokio::spawn(liveness.answer_for("data plane"));
        tokio::spawn(plan.engine.clone().keep_time());
        tokio::spawn(plan.engine.clone().keep_turns());
        if let Some(first) = plan.serve.count_from {
            let counted = plan.engine.count_from(&plan.serve.line_queue, first).await;
            counted.map_err(|e| Fatal::new(Exit::Failure, "cannot let the queue count").because(e))?;
        }
        let doors_open = if plan.line.is_some() { 2 } else { 1 };
        let connections_max = connections_within_limit(usize::from(plan.serve.max_connections), doors_open);
        let gate = |listener: std::net::TcpListener| -> Result<Gate, Fatal> {
            let failed = |e| Fatal::new(Exit::System, "cannot use a listening socket").because(e);
            let permits = Arc::new(Semaphore::new(connections_max));
            Ok(Gate::new(TcpListener::from_std(listener).map_err(failed)?, permits, plan.allow.clone()))
        };
        let item_bytes_max = usize::try_from(plan.serve.max_item_bytes).unwrap_or(usize::MAX);
        let request_bytes_max = usize::try_from(plan.serve.max_request_bytes).unwrap_or(usize::MAX);
        let room = http::request::Room::new(plan.serve.max_memory / 4, request_bytes_max.max(item_bytes_max));
        // Room for more than a few readers, whatever the memory for items: a lease without room is taken back.
        let answers_bytes = (plan.serve.max_memory / 4).max(8 * plan.serve.max_request_bytes);
        let answers = http::request::Room::new(answers_bytes, request_bytes_max.max(item_bytes_max));
        let doors = Doors::from(Parts {
            engine: plan.engine.clone(),
            tokens: plan.tokens,
            item_bytes_max,
            request_bytes_max,
            room,
            answers,
            streams: Streams::at_most(http::events::STREAMS_MAX),
            metrics: plan.metrics.clone(),
            drain: stop.drain.clone(),
        });
        let mut router = http::router(doors.clone());
        if plan.serve.admin.is_none() {
            let stop = stop.clone();
            router =
                router.merge(admin::router(Admin { readiness: readiness.clone(), liveness, metrics, stop }));
        }
        let direct = Direct { doors, router };
        tracing::info!(address = local(&plan.http), "serving HTTP");
        let http =
            kit::http::serve_tls(gate(plan.http)?, direct, plan.tls, stop.drain.clone(), stop.abort.clone());
        let line = match plan.line {
            None => None,
            Some(listener) => {
                tracing::info!(address = local(&listener), queue = plan.serve.line_queue, "serving lines");
                let door = LineDoor {
                    engine: plan.engine.clone(),
                    queue: plan.serve.line_queue.clone(),
                    timeout: plan.serve.line_timeout,
                    metrics: plan.metrics.clone(),
                };
                Some(line::serve(gate(listener)?, door, stop.drain.clone(), stop.abort.clone()))
            }
        };
        readiness.clear("starting");
        let line = async {
            if let Some(line) = line {
                line.await;
            }
        };
        tokio::join!(http, line);
        Ok(())
    })
}
