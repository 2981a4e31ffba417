//! A great many items that wait: what they cost in memory and on the disk, and how long a restart takes.

use super::BODY;
use super::client::Client;
use super::server::{Keeping, Peer};
use std::path::Path;
use std::time::Instant;

pub fn report(queued: &Path, thousands: u32) -> anyhow::Result<String> {
    let directory = tempfile::tempdir()?;
    let start = || Peer::Queued.start(Keeping::Durable, directory.path(), queued);
    let server = start()?;
    let empty = server.cost()?.resident_mib;
    let lines = [BODY.as_slice(), b"\n"].concat().repeat(1000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect(Peer::Queued, Keeping::Durable, server.port, 0).await?;
        for _ in 0..thousands {
            client.push_lines(&lines).await?;
        }
        anyhow::Ok(())
    })?;
    let full = server.cost()?.resident_mib;
    // SIGKILL: what is read is the log, as it is.
    drop(server);
    let mut disk_bytes = 0;
    for entry in std::fs::read_dir(directory.path().join("data"))? {
        disk_bytes += entry?.metadata()?.len();
    }
    let began = Instant::now();
    let server = start()?;
    let restart = began.elapsed();
    let again = server.cost()?.resident_mib;
    let count = f64::from(thousands) * 1000.0;
    let beyond_body = |mib: f64| (mib - empty) * f64::from(1 << 20) / count - 100.0;
    Ok(format!(
        "{thousands} thousand items of 100 bytes wait: {:.0} bytes of memory an item beyond its body ({:.0} after the restart), \
         {} MiB on the disk; a restart after SIGKILL answers within {} ms",
        beyond_body(full),
        beyond_body(again),
        disk_bytes >> 20,
        restart.as_millis()
    ))
}
