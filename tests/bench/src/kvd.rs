//! kvd with very many random keys: its memory beside the kernel's cache, the size of its files, and the time until
//! it answers after SIGKILL.

use crate::disk::bytes_below;
use crate::process::Contender;
use crate::rank::median;
use crate::report::{Cell, Report, Table};
use crate::wire::Wire;
use anyhow::{Context, bail};
use fastrand::Rng;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Ten thousand keys instead of a million
    #[arg(long)]
    quick: bool,
    /// Number of keys, in thousands
    #[arg(long, value_name = "N", default_value_t = 1000)]
    thousands: u32,
    /// The release binary
    #[arg(long, value_name = "PATH", default_value = "target/release/kvd")]
    kvd: PathBuf,
}

const KEY_BYTES: usize = 100;

/// Keys that one batch puts.
const BATCH_KEYS: u32 = 1000;

/// Requests of one client that are timed one by one.
const REQUESTS: u32 = 5000;

/// Restarts after SIGKILL.
const RESTARTS: usize = 5;

/// The bounds of a pod whose memory limit is small.
const RESIDENT_MIB_MAX: f64 = 64.0;
const RESTART_MS_MAX: f64 = 1000.0;

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.kvd.exists() {
        bail!("{} is not there: cargo build --release -p kvd", options.kvd.display());
    }
    // Absolute, because kvd is started in a directory of its own.
    let kvd = options.kvd.canonicalize()?;
    let thousands = if options.quick { 10 } else { options.thousands };
    let mut report = Report::new("kvd", "random keys");
    report.note(&format!(
        "keys of {KEY_BYTES} random letters with values of 8 bytes, put in batches of {BATCH_KEYS} by one client, each \
         batch on the disk before its answer; then {REQUESTS} single puts and gets; memory is that of the process, \
         without the kernel's cache of the file"
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    report.add(runtime.block_on(measure(thousands, &kvd))?);
    report.finish()
}

/// Random keys, the same in each run.
struct Keys(Rng);

impl Keys {
    fn new() -> Keys {
        Keys(Rng::with_seed(1))
    }

    fn next(&mut self) -> String {
        (0..KEY_BYTES).map(|_| char::from(self.0.u8(b'a'..=b'z'))).collect()
    }
}

async fn call(wire: &mut Wire, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: k\r\nContent-Length: {length}\r\n\r\n{body}");
    wire.send(request.as_bytes()).await?;
    Ok(String::from_utf8_lossy(wire.http_answer().await?).into_owned())
}

fn start(kvd: &Path, directory: &Path) -> anyhow::Result<Contender> {
    Contender::on_a_free_port("kvd", |port| {
        let mut command = Command::new(kvd);
        command.current_dir(directory).args(["--data", "data", "--http", &format!("127.0.0.1:{port}")]);
        Ok(command)
    })
}

async fn fill(wire: &mut Wire, thousands: u32) -> anyhow::Result<()> {
    let mut keys = Keys::new();
    for thousand in 0..thousands {
        let put = |_| format!("{{\"op\":\"put\",\"key\":\"{}\",\"value\":\"{thousand:08}\"}}", keys.next());
        let operations: Vec<String> = (0..BATCH_KEYS).map(put).collect();
        let body = format!("{{\"operations\":[{}]}}", operations.join(","));
        call(wire, "POST", "/v1/batch", &body).await?;
        if thousand % 1000 == 999 {
            let _ = writeln!(std::io::stderr(), "{} million keys", (thousand + 1) / 1000);
        }
    }
    Ok(())
}

/// Returns the requests of one client in a second.
async fn pace(wire: &mut Wire, method: &str, body: &str) -> anyhow::Result<f64> {
    let mut keys = Keys::new();
    let began = Instant::now();
    for _ in 0..REQUESTS {
        call(wire, method, &format!("/v1/keys/{}", keys.next()), body).await?;
    }
    Ok(f64::from(REQUESTS) / began.elapsed().as_secs_f64())
}

async fn measure(thousands: u32, kvd: &Path) -> anyhow::Result<Table> {
    let directory = tempfile::tempdir()?;
    let server = start(kvd, directory.path())?;
    let mut wire = Wire::connect("kvd", server.port).await?;
    let keys = f64::from(thousands) * f64::from(BATCH_KEYS);
    let began = Instant::now();
    fill(&mut wire, thousands).await?;
    let filled = keys / began.elapsed().as_secs_f64();
    let gets = pace(&mut wire, "GET", "").await?;
    let puts = pace(&mut wire, "PUT", "87654321").await?;
    let full = server.cost()?;
    drop(server);
    let disk_bytes = bytes_below(directory.path())?;
    let (mut restarts, mut resident_mib) = (Vec::new(), f64::NAN);
    for _ in 0..RESTARTS {
        let began = Instant::now();
        let server = start(kvd, directory.path())?;
        let mut wire = Wire::connect("kvd", server.port).await?;
        let first = call(&mut wire, "GET", &format!("/v1/keys/{}", Keys::new().next()), "").await?;
        restarts.push(began.elapsed().as_secs_f64() * 1000.0);
        if first != "87654321" {
            bail!("the first key is {first:?} after the restart");
        }
        let stats = call(&mut wire, "GET", "/v1/stats", "").await?;
        let count = stats.split("\"keys\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
        let count: u32 = count.context("no number of keys")?.trim().parse()?;
        if count != thousands * BATCH_KEYS {
            bail!("{count} keys are left of {keys}");
        }
        // A write, so that the next restart reads a log that was not closed.
        call(&mut wire, "PUT", &format!("/v1/keys/{}", Keys::new().next()), "87654321").await?;
        resident_mib = server.cost()?.resident_mib;
    }
    let restart_ms = median(&restarts, |ms| *ms)?;
    let columns =
        ["keys/s, batches", "gets/s", "puts/s", "MiB resident", "peak", "after a restart", "of 64 MiB"];
    let mut table = Table::new(
        &format!("{thousands} thousand keys"),
        &[&columns[..], &["disk bytes a key", "restart ms", "of 1 s"]].concat(),
    );
    let cells =
        [(filled, 0), (gets, 0), (puts, 0), (full.resident_mib, 1), (full.peak_mib, 1), (resident_mib, 1)];
    let more = [
        (full.peak_mib / RESIDENT_MIB_MAX, 2),
        (disk_bytes / keys, 0),
        (restart_ms, 0),
        (restart_ms / RESTART_MS_MAX, 3),
    ];
    table.row(
        "kvd",
        cells.into_iter().chain(more).map(|(value, decimals)| Cell::number(value, decimals)).collect(),
    );
    Ok(table)
}
