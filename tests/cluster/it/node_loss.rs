//! A node that loses power, and comes back with its disk.

use crate::kubectl::says;
use crate::lines::{Senders, in_order, log};
use crate::log_compressor::archive;
use crate::namespace::{Namespace, Pod};
use crate::node;
use crate::waiting::until;
use crate::work_queue::{all_is_done, five_at_work, worked_off};
use std::process::Command;

/// Runs the command in an environment variable with the node's name.
#[track_caller]
fn command(variable: &str, node: &str) {
    let command =
        std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `just e2e-here`"));
    let ended = Command::new("sh").args(["-c", &format!("{command} \"$1\""), "sh", node]).status().unwrap();
    assert!(ended.success(), "{command} {node}");
}

/// A node that is powered off until this is dropped.
struct Off(String);

impl Off {
    #[track_caller]
    fn new(node: &str) -> Off {
        command("NODE_KILL", node);
        let off = Off(node.to_owned());
        until("the cluster to notice", || (off.status() != "True").then_some(()));
        off
    }

    fn status(&self) -> String {
        let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        says(&["get", "node", &self.0, "-o", ready])
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        command("NODE_START", &self.0);
        until("the node again", || (self.status() == "True").then_some(()));
    }
}

#[track_caller]
fn on<'a>(pods: &'a [Pod], node: &str) -> &'a Pod {
    pods.iter().find(|pod| pod.node == node).unwrap()
}

#[test]
fn node_loss_tears_no_line_or_archive() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("power");
    let count = node::names().len();
    namespace.apply_example("logd/logDaemon.yaml");
    namespace.apply_example("logcd/logCompressor.yaml");
    namespace.apply_example("logcd/logCompressorClient.yaml");
    let (logds, logcds) = (namespace.ready("name=logd", count), namespace.ready("name=logcd", count));
    let node = logds.last().unwrap().node.clone();
    archive(&namespace, on(&logcds, &node));
    let senders = Senders::start(&namespace, &logds, 9, 1500);
    let (arrived, _) = senders.arrived(&logds);
    drop(Off::new(&node));

    let (logds, logcds) = (namespace.ready("name=logd", count), namespace.ready("name=logcd", count));
    let (after, others) = senders.arrived(&logds);
    assert!(others.is_empty(), "torn lines: {others:?}");
    for (pod, numbers) in &arrived {
        assert!(after[pod].starts_with(numbers), "{pod}: what was there before the loss is there after it");
    }
    for (pod, numbers) in &after {
        in_order(pod, numbers);
    }
    let logcd = on(&logcds, &node);
    let path = archive(&namespace, logcd);
    namespace.exec(&logcd.name, &["logcd", "verify", &path]);
    assert!(!log(&namespace, on(&logds, &node)).is_empty());
}

#[test]
fn queue_node_loss_keeps_acknowledged_items() {
    let _nodes = node::exclusive();
    let namespace = Namespace::new("queue-power");
    let (server, _) = five_at_work(&namespace);
    worked_off(&namespace, 20);
    drop(Off::new(&server.node));
    namespace.complete("consumers");
    all_is_done(&namespace);
}
