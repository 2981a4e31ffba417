//! Container logs: each line is archived once, through kubelet's rotations, deleted pods, restarts of
//! containers, and restarts of logcd by SIGTERM and SIGKILL.

mod logcd;
mod tally;
mod writers;

use crate::crew::Crew;
use crate::manifest::rendered;
use crate::namespace::Namespace;
use crate::node;
use logcd::{Logcd, START};
use tally::Tally;
use writers::{CRASHER, Writers};

/// The size of the test.
struct Size {
    /// The number of times that logcd is restarted, and pods and Jobs are deleted.
    rounds: usize,
    jobs_per_round: usize,
    crasher_restarts: u64,
}

impl Size {
    /// Returns the usual size, or that of `CONTAINER_LOGS=full`: about five minutes of writing, and 200 Jobs.
    fn chosen() -> Size {
        match std::env::var("CONTAINER_LOGS").as_deref() {
            Ok("full") => Size { rounds: 10, jobs_per_round: 20, crasher_restarts: 6 },
            _ => Size { rounds: 1, jobs_per_round: 12, crasher_restarts: 3 },
        }
    }
}

/// Returns the manifests of logcd alone.
pub fn logcd_of_the_crew() -> String {
    let crew = rendered("crew");
    let is_wanted = |document: &&str| {
        let has = |line: &str| document.lines().any(|other| other == line);
        has("kind: Namespace") && has("  name: nodecrew") || has("  name: logcd")
    };
    let wanted: Vec<&str> = crew.split("\n---\n").filter(is_wanted).collect();
    assert_eq!(wanted.len(), 4, "the namespace, the settings, the DaemonSet and its NetworkPolicy");
    wanted.join("\n---\n")
}

#[test]
fn each_line_of_a_container_is_archived_once() {
    let _nodes = node::exclusive();
    let size = Size::chosen();
    let _crew = Crew::apply(logcd_of_the_crew());
    let nodes = Namespace::of_a_manifest("nodecrew");
    nodes.rolled_out("daemonset/logcd");
    let users = Namespace::new("container-logs");
    let node = node::names().remove(0);
    let logcd = Logcd::new(&nodes, &users, &node);
    let mut writers = Writers::start(&users, &node);

    for round in 0..size.rounds {
        writers.are_rotated(&logcd, ".gz");
        logcd.restart();
        // Logs that are deleted from now on are read to their end by the logcd that runs.
        let since = logcd.now();
        let jobs = writers.run_jobs(round, size.jobs_per_round);
        let deleted = writers.replace_two();
        logcd.until_ends_are_archived(&[jobs, deleted].concat(), &since);
        // A run is lost if two others follow it while logcd is away, and it was not archived before.
        logcd.until_ends_are_archived(&writers.crasher_runs(), START);
        logcd.kill();
    }
    writers.are_rotated(&logcd, "");
    writers.stop_crasher(size.crasher_restarts, &logcd);
    writers.stop();

    let expected = writers.expected();
    let mut read = Tally::default();
    logcd.each_line_read(|line| read.add(line));
    read.assert_complete(&expected, "logcd read");

    logcd.restart();
    let mut unpacked = Tally::default();
    logcd.each_line_of_archives(|line| unpacked.add(line));
    unpacked.assert_complete(&expected, "tar");
    // The crasher may have run once more than was known when it was stopped.
    assert!(unpacked.is_complete_from_first_run(CRASHER), "{unpacked:?}");
    println!("{} lines; logcd then: {}", unpacked.lines(), logcd.figures());
}
