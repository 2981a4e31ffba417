//! Tests the lines of a watch, and a server that goes away meanwhile.

use crate::kvctl::{command, fails, says};
use crate::server::Kvd;
use serde_json::Value;
use std::io::{BufRead, BufReader};

/// Starts a watch, and waits for the line that proves that it has begun.
fn watching(kvd: &Kvd, arguments: &[&str]) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    says(&kvd.url(), &["put", "begun", "x"]);
    let revision: Value = serde_json::from_str(&says(&kvd.url(), &["get", "begun", "--json"])).unwrap();
    let after = (revision["revision"].as_u64().unwrap() - 1).to_string();
    let arguments = [&["watch", "--after", &after], arguments].concat();
    let mut child = command(&kvd.url(), arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("begun"));
    (child, lines)
}

#[test]
fn every_change_is_a_line() {
    let kvd = Kvd::start();
    let (mut child, mut lines) = watching(&kvd, &["-n", "4"]);
    says(&kvd.url(), &["put", "a b", "one\ntwo"]);
    says(&kvd.url(), &["put", "short", "", "--ttl", "1ms"]);
    let mut next = || lines.next().unwrap().split_once(' ').unwrap().1.to_owned();
    assert_eq!([next(), next(), next()], ["put a b\tone\\ntwo", "put short\t", "expire short"]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn lost_connection_is_resumed_without_a_gap() {
    let mut kvd = Kvd::start();
    let (mut child, mut lines) = watching(&kvd, &["--json", "-n", "3"]);
    kvd.go_away();
    kvd.come_back();
    says(&kvd.url(), &["put", "a", "x"]);
    says(&kvd.url(), &["delete", "a"]);
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap()).unwrap();
    let (put, delete) = (next(), next());
    assert_eq!(
        (put["event"].as_str(), put["key"].as_str(), put["value"].as_str()),
        (Some("put"), Some("a"), Some("x"))
    );
    assert_eq!(delete["event"], "delete");
    assert_eq!(delete["revision"].as_u64(), put["revision"].as_u64().map(|revision| revision + 1));
    assert!(child.wait().unwrap().success());
}

#[test]
fn revisions_that_are_gone_are_65() {
    let kvd = Kvd::start();
    let (code, said) = fails(&kvd.url(), &["watch", "--after", "1"]);
    assert!(code == 65 && said.contains("list the keys again"), "{said}");
}
