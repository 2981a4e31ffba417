//! Tests that logs removed while logcd was not running are counted and named.

use super::{Node, QUICK};
use crate::support::daemon::Daemon;
use trial::kubelet::lines_of_all;
use trial::wait_until;

/// Archives a log, deletes it while logcd is stopped, and returns the number of lost logs that the next logcd
/// counts. Both run in the pod `crew/logcd-1`.
fn losses_of(namespace: &str, pod: &str) -> f64 {
    let (node, mut kubelet) = Node::with_kubelet();
    let start = || {
        let mut command = node.command(QUICK);
        command.env("POD_NAMESPACE", "crew").env("POD_NAME", "logcd-1");
        let daemon = Daemon::run(command);
        daemon.wait_until_ready();
        daemon
    };
    let log = kubelet.pod(namespace, pod);
    kubelet.write(log, 10);
    let daemon = start();
    wait_until("its lines", || lines_of_all(&node.out()).len() == 10);
    daemon.stop();
    kubelet.write(log, 1);
    kubelet.delete(log);
    start().metric("logcd_pods_lost_logs_total")
}

#[test]
fn log_that_went_while_logcd_was_away_is_counted() {
    assert_eq!(losses_of("shop", "web-1"), 1.0);
    assert_eq!(losses_of("shop", "logcd-1"), 1.0);
}

#[test]
fn own_last_lines_are_no_loss() {
    assert_eq!(losses_of("crew", "logcd-1"), 0.0);
}
