//! Opens rng's socket and serves it, applies changed settings, and stops in order.

use crate::access_log::AccessLog;
use crate::answer::{Names, Service, answer};
use crate::metrics::RngMetrics;
use crate::random::Random;
use crate::settings::{Flags, LIVE};
use axum::Router;
use kit::admin::{self, Admin};
use kit::daemon::{Context, connections_within_limit};
use kit::exit::Fatal;
use kit::net::accept::Gate;
use kit::net::allow::AllowList;
use kit::net::{browser_ports, listen};
use kit::settings::Settings;
use kit::telemetry::logs;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Runs the daemon until it is drained.
pub async fn run(settings: Settings<Flags>, context: Context) -> Result<(), Fatal> {
    let flags = settings.flags.clone();
    let (delay, delay_now) = watch::channel(flags.delay);
    let (allow, allow_now) = watch::channel(AllowList::new(&flags.allow));
    let (access_log, mut lines_written) = AccessLog::start(std::io::stdout())?;
    let service = Service {
        names: Names::of(&context.identity)?,
        random: Random::open()?,
        delay: delay_now,
        serial: flags.serial.then(|| Arc::new(Semaphore::new(1))),
        access_log,
        metrics: RngMetrics::register(&context.metrics),
    };
    let listener = listen::bind(flags.http)?;
    let address = listener.local_addr().unwrap_or(flags.http);
    let connections_max = connections_within_limit(usize::from(flags.max_connections), 1);
    let gate = Gate::new(listen::adopt(listener)?, Arc::new(Semaphore::new(connections_max)), allow_now);
    tracing::info!(event = "listening", door = "http", %address, "serving HTTP");
    browser_ports::warn_if_blocked("--http", address);
    let closing = context.stop.after_linger(flags.linger);
    let router = router(service, &flags, &context);
    let mut served = pin!(kit::http::serve(gate, router, closing, context.stop.abort.clone()));
    context.readiness.clear("starting");

    let mut control = Control { settings, delay, allow };
    let mut hangups = context.stop.hangups();
    let mut config = flags.common.file();
    loop {
        tokio::select! {
            () = &mut served => break,
            Ok(()) = hangups.changed() => control.reload(),
            () = config.changed() => control.reload(),
        }
    }
    // The last access lines may still be on their way to a slow reader.
    tokio::select! {
        _ = &mut lines_written => {}
        () = context.stop.abort.cancelled() => {}
    }
    Ok(())
}

/// Returns all routes: the probes, and every other path.
fn router(service: Service, flags: &Flags, context: &Context) -> Router {
    let Context { stop, readiness, liveness, metrics, .. } = context.clone();
    let admin = Admin { readiness, liveness, metrics, stop };
    let routes = if flags.admin.is_some() { admin::probes(admin) } else { admin::router(admin) };
    Router::new().fallback(answer).with_state(service).merge(routes)
}

struct Control {
    settings: Settings<Flags>,
    delay: watch::Sender<Duration>,
    allow: watch::Sender<AllowList>,
}

impl Control {
    /// Applies the changed settings, and names those that need a restart.
    fn reload(&mut self) {
        let renewed = self.settings.renew(&LIVE, |flags| {
            flags.check()?;
            logs::set_level(&flags.common.log_level)
        });
        let Some((new, ())) = renewed else { return };
        self.delay.send_replace(new.flags.delay);
        self.allow.send_replace(AllowList::new(&new.flags.allow));
        self.settings = new;
    }
}
