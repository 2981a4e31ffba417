//! Opens and closes an engine whose items are kept in a directory.

use super::housekeeping::Housekeeping;
use super::{Engine, Environment};
use crate::commit::Durability;
use crate::engine::contract::Limits;
use crate::log::{LogError, opening};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    pub dir: PathBuf,
    pub durability: Durability,
    pub segment_bytes: u64,
}

/// The threads of an engine; closing waits until they have written everything.
#[derive(Debug)]
pub struct Threads {
    engine: Engine,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the thread that writes while the log is slow.
    pub fn start(engine: Engine) -> io::Result<Threads> {
        let shared = engine.0.clone();
        let writes = spawn("queued-log", move || shared.run_thread())?;
        Ok(Threads { engine, threads: vec![writes] })
    }

    /// Writes and syncs everything that is pending, then ends the threads.
    pub fn close(self) {
        self.engine.0.close();
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Reads the directory and continues from its state.
pub fn open(
    settings: LogSettings,
    limits: Limits,
    around: Environment,
) -> Result<(Engine, Threads), LogError> {
    let began = Instant::now();
    let LogSettings { dir, durability, segment_bytes } = settings;
    let (core, log) = opening::open(&dir, segment_bytes, limits.memory_bytes_max, &around.metrics)?;
    let (items, log) = (core.usage.items, Arc::new(log));
    let engine = Engine::over(log.clone(), core, durability, limits, around);
    let failed = || LogError::io("start a thread for", &dir);
    let mut threads = Threads::start(engine.clone()).map_err(failed())?;
    let (housekeeping, shared) = (Housekeeping(log), engine.0.clone());
    threads.threads.push(spawn("queued-clean", move || housekeeping.run(&shared)).map_err(failed())?);
    tracing::info!(
        event = "items_loaded",
        dir = %dir.display(),
        items,
        took_ms = began.elapsed().as_millis(),
        "loaded the items"
    );
    Ok((engine, threads))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}
