//! logcd that deletes archived logs: no content is lost, and every archive is whole at any moment.

use super::{Traced, ready_or_clear, under_each_fault};
use crate::logs::{self, Logs};
use std::path::Path;
use trial::Process;

const LOGS: usize = 2;

fn scenario(directory: &Path, traced: &Traced) {
    let mut logs = Logs::below(directory);
    // Named calls go through the directories' descriptors, so strace matches the directories.
    let paths = [logs.directory().to_owned(), logs.out().to_owned()];
    let mut command = traced.command("logcd", directory, &paths);
    logs::configure(&mut command, logs.directory(), logs.out());
    let agent = Process::start(&mut command);
    if ready_or_clear(&agent, directory) {
        // The agent recovers by itself unless it is killed. One log at a time, so that an archive grows
        // several times.
        logs.until_gone(LOGS, &agent, |logs| {
            if logs.count() < LOGS && logs.gone() == logs.count() {
                logs.write(30_000);
            }
        });
        agent.kill9();
    }
    logs.check();
    logs.write(10);
    logs.all_go();
}

#[test]
fn logcd_loses_no_log_under_every_fault() {
    under_each_fault("logcd", scenario);
}
