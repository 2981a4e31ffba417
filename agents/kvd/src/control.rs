//! The control side: opens the store and the doors, then waits for signals, changed files and the drain
//! marker.

use crate::drain::Drain;
use crate::hot_keys::HotKeys;
use crate::http::tokens;
use crate::keyspace::clock::host_now_ms;
use crate::keyspace::{KeyLimits, Keyspace};
use crate::metrics::{KeyFigures, KvdMetrics};
use crate::page::{self, PageSources};
use crate::server::{self, DataPlane};
use crate::settings::{Flags, LIVE, Serve};
use crate::store::contract::{KeyStore, StoreError, first_revision};
use crate::store::disk::{DiskOpenError, DiskStore, is_temporary};
use crate::store::memory::MemoryStore;
use kit::daemon::{self, Context};
use kit::exit::{Exit, Fatal};
use kit::lifecycle::readiness::Readiness;
use kit::net::allow::AllowList;
use kit::net::listen;
use kit::settings::Settings;
use kit::settings::watch::WatchedFiles;
use kit::telemetry::logs;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{oneshot, watch};

/// The reason in `/ready` while the drain marker exists.
const DRAINED: &str = "drained";

/// Runs the daemon until it is drained.
pub async fn run(settings: Settings<Flags>, context: Context) -> Result<(), Fatal> {
    let serve = settings.flags.serve.clone();
    let metrics = KvdMetrics::register(&context.metrics);
    let store = open_store(&serve)?;
    let limits = KeyLimits {
        bytes_max: serve.bytes_max(),
        history_bytes_max: serve.watch_history,
        min_free: serve.min_free,
    };
    let (keyspace, mut commits) = Keyspace::start(store, limits, context.readiness.clone(), metrics.clone())?;
    let figures = KeyFigures { keyspace: keyspace.clone() };
    context.metrics.register(|registry| registry.register_collector(Box::new(figures)));
    let drain = Drain::new(&serve.place, context.stop.drain.clone());
    let (allow, allow_now) = watch::channel(AllowList::new(&serve.allow));
    let http = match listen::from_systemd()?.into_iter().next() {
        Some(passed) => passed,
        None => listen::bind(serve.http)?,
    };
    let mut marker = WatchedFiles::new(drain.files());
    report_marker(&drain, &context.readiness);
    let hot_keys = Arc::new(HotKeys::new(Instant::now()));
    let sources = PageSources {
        keyspace: keyspace.clone(),
        bytes_max: serve.bytes_max(),
        hot_keys: hot_keys.clone(),
        metrics: metrics.clone(),
        readiness: context.readiness.clone(),
        drain: drain.clone(),
    };
    let _ = context.pages.set(page::routes(sources, serve.page.load()?));
    let plane = DataPlane {
        http,
        hot_keys,
        allow: allow_now,
        tls: serve.tls.follow(&context.stop, &context.metrics)?,
        tokens: tokens::FILE.follow(serve.tokens.clone(), context.stop.drain.clone())?,
        keyspace: keyspace.clone(),
        drain: drain.clone(),
        serve,
        metrics,
        context: context.clone(),
    };
    let (finished, mut data_plane) = oneshot::channel();
    daemon::spawn("kvd-data", move || {
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
            ended = &mut commits => return Err(broken(ended)),
            Ok(()) = hangups.changed() => control.reload(),
            () = config.changed() => control.reload(),
            () = marker.changed() => report_marker(&drain, &context.readiness),
        }
    };
    // Every answered write is in the store already. This closes the store.
    keyspace.close();
    match commits.await {
        Ok(Ok(())) => result,
        ended => Err(broken(ended)),
    }
}

/// Returns the error that ends the process: no request is answered from a store whose state is unknown. The
/// supervisor starts the process again.
fn broken(ended: Result<Result<(), StoreError>, oneshot::error::RecvError>) -> Fatal {
    match ended {
        Ok(Err(error)) => Fatal::new(Exit::System, "cannot go on").because(error),
        _ => Fatal::new(Exit::Failure, "the thread that commits died"),
    }
}

/// Opens the store. This is the only place that chooses the engine.
fn open_store(serve: &Serve) -> Result<Arc<dyn KeyStore>, Fatal> {
    let first = first_revision(host_now_ms());
    let Some(directory) = serve.place.directory() else {
        return Ok(Arc::new(MemoryStore::starting_at(first)));
    };
    let opened = DiskStore::open(directory, first).map_err(|error| {
        let exit = match &error {
            DiskOpenError::InUse(..) => Exit::TryAgain,
            DiskOpenError::Database(_, error) if is_temporary(error) => Exit::TryAgain,
            DiskOpenError::Directory(..) => Exit::Failure,
            DiskOpenError::Database(..) | DiskOpenError::Foreign(..) => Exit::Config,
        };
        Fatal::new(exit, error.to_string())
    })?;
    Ok(Arc::new(opened))
}

fn report_marker(drain: &Drain, readiness: &Readiness) {
    match drain.marker_path() {
        Some(marker) => readiness.block(DRAINED, format!("{} exists (kvd resume)", marker.display())),
        None => readiness.clear(DRAINED),
    }
}

struct Control {
    settings: Settings<Flags>,
    allow: watch::Sender<AllowList>,
}

impl Control {
    /// Applies the changed settings, and logs those that cannot be applied. Keeps the old settings if the new
    /// ones are invalid.
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
