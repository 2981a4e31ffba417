//! keygen, a sample workload that takes a while and proves that it ran: makes RSA keys, prints each one's
//! fingerprint and throws it away.

mod fingerprint;
mod flags;

pub use fingerprint::{authorized_key, fingerprint};
use flags::Flags;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use rsa::RsaPrivateKey;
use rsa::rand_core::OsRng;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Returns the command line definition, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("KEYGEN")
}

/// Runs the whole program. `argv` starts with the program's name.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<Exit, Fatal> {
    let flags = kit::settings::load::<Flags>("KEYGEN", argv)?.flags;
    let runtime = kit::daemon::runtime()?;
    let result = runtime.block_on(run(&flags));
    // A key that is being made cannot be interrupted, so do not wait for it.
    runtime.shutdown_background();
    result
}

async fn run(flags: &Flags) -> Result<Exit, Fatal> {
    // Handle signals: process 1 ignores one without a handler, and the pod would wait out its grace period.
    let stop = Stop::on_signals(Duration::ZERO)?;
    if !io::stdin().is_terminal() {
        // Read stdin (an item or anything else) and drop it, so that its writer gets no broken pipe.
        tokio::task::spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink()));
    }
    let (begun, mut made) = (Instant::now(), 0);
    while flags.wants_more(made, begun.elapsed()) {
        let bits = flags.bits;
        let key = tokio::task::spawn_blocking(move || RsaPrivateKey::new(&mut OsRng, bits));
        let Some(key) = stop.drain.run_until_cancelled(key).await else { return Ok(Exit::TryAgain) };
        let failed = |e| Fatal::new(Exit::Failure, format!("cannot make a key of {bits} bits")).because(e);
        let key = key.map_err(|e| Fatal::new(Exit::System, "cannot make a key").because(e))?;
        let line = fingerprint(&key.map_err(failed)?.to_public_key());
        match writeln!(io::stdout().lock(), "{line}") {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(Exit::Ok),
            other => other.map_err(|e| Fatal::new(Exit::Failure, "cannot write to stdout").because(e))?,
        }
        made += 1;
    }
    Ok(if flags.exit_code == 0 { Exit::Ok } else { Exit::Command(flags.exit_code) })
}
