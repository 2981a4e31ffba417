//! The nodes, which all tests share: one port and two directories on each.

use crate::kubectl::list;
use crate::waiting::until;
use std::sync::{Mutex, MutexGuard, PoisonError};

static NODES: Mutex<()> = Mutex::new(());

/// Reserves the nodes for one test at a time: logd's port 6666, /var/lib/logd and /var/log. The pods of the
/// previous test take a while to end, and its senders would send to the next test's logd.
#[track_caller]
pub fn exclusive() -> MutexGuard<'static, ()> {
    let nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    until("the nodes to be free of logd, logcd and what sends to logd", || {
        let label = "name in (logd, logcd, logcd-weekly, client, client-shell, senders)";
        list(&["get", "pods", "-A", "-l", label]).is_empty().then_some(())
    });
    nodes
}

/// Returns the names of the schedulable nodes.
#[track_caller]
pub fn names() -> Vec<String> {
    let nodes = list(&["get", "nodes"]);
    let names: Vec<_> = nodes
        .iter()
        .filter(|node| node["spec"]["unschedulable"] != true)
        .map(|node| node["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(!names.is_empty());
    names
}
