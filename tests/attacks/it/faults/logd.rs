//! logd with `--sync always`: each line with a receipt is in the file exactly once, and at most one line is
//! cut.

use super::{Traced, ready_or_clear, under_each_fault};
use crate::lines::{self, Senders};
use std::path::Path;
use trial::{LOOK_EVERY, Process};

/// Enough connections for several rotations.
const CONNECTIONS: usize = 40;

fn scenario(directory: &Path, traced: &Traced) {
    let logs = directory.join("logs");
    let file = logs.join("node_log");
    let paths = [logs.clone(), file.clone(), logs.join(".node_log.new"), logs.join(".node_log.lock")];
    let senders = Senders::default();
    let mut command = traced.command("logd", directory, &paths);
    lines::configure(&mut command, &file, "always");
    let agent = Process::start(&mut command);
    if ready_or_clear(&agent, &logs) {
        let address = lines::door(&agent);
        for _ in 0..CONNECTIONS {
            // Without a receipt nothing was promised; after a kill no connection gets one.
            let _ = senders.send(address);
            // Files are compressed meanwhile.
            std::thread::park_timeout(LOOK_EVERY);
        }
        agent.kill9();
    }
    let agent = Process::start_ready(&mut lines::command(&file, "always"));
    senders.send(lines::door(&agent)).expect("it goes on");
    senders.check(&file, 1);
    agent.kill9();
}

#[test]
fn logd_keeps_its_receipts_under_every_fault() {
    under_each_fault("logd", scenario);
}
