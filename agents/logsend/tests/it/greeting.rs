//! The greeting, as the walk-throughs show it.

use crate::logsend::{command, stderr, terminate};
use crate::receiver::{Act, Receiver, lines};
use std::process::Command;

#[test]
fn greetings_come_at_once_and_at_the_interval_until_sigterm() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let child = command(receiver.port(), ["--greet", "50ms"]).env("POD_NAME", "client-x7").spawn().unwrap();
    receiver.wait_until("three greetings", |receiver| lines(&receiver.receipted()).len() >= 3);
    terminate(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for line in lines(&receiver.receipted()) {
        let line = std::str::from_utf8(line).unwrap();
        let (date, rest) = line.split_at(line.find(" - ").unwrap());
        assert_eq!(rest, " - Greetings from client-x7\n");
        // The real date(1) parses the greeting's date, and would have printed the same.
        let arguments = ["-u", "-d", date, "+%a %b %e %H:%M:%S %Z %Y"];
        let printed = Command::new("date").env("LC_ALL", "C").args(arguments).output().unwrap().stdout;
        assert_eq!(printed.trim_ascii_end(), date.as_bytes());
    }
}

#[test]
fn outside_a_pod_the_host_name_and_local_time_are_used() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let child = command(receiver.port(), ["--greet", "1h"]).env("TZ", "America/New_York").spawn().unwrap();
    receiver.wait_until("a greeting", |receiver| receiver.receipts() == 1);
    terminate(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    let line = String::from_utf8(receiver.receipted()).unwrap();
    let host = Command::new("hostname").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap();
    assert!(line.ends_with(&format!(" - Greetings from {}\n", host.trim())), "{line}");
    assert!(line.contains(" EST ") || line.contains(" EDT "), "{line}");
}

#[test]
fn the_host_is_the_flag_else_host_ip_else_node_ip_else_loopback() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 5] = [
        (&["--host", "127.0.0.1"], &[("HOST_IP", "192.0.2.1")]),
        (&[], &[("HOST_IP", "127.0.0.1"), ("NODE_IP", "192.0.2.1")]),
        (&[], &[("HOST_IP", ""), ("NODE_IP", "127.0.0.1")]),
        (&[], &[("LOGSEND_HOST", "127.0.0.1"), ("HOST_IP", "192.0.2.1")]),
        (&[], &[]),
    ];
    for (arguments, variables) in cases {
        let receiver = Receiver::start(&[Act::Receipt]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_logsend"));
        command.env_clear().args(arguments).envs(variables.iter().copied());
        command.env("LOGSEND_PORT", receiver.port().to_string()).stdin(std::io::pipe().unwrap().0);
        let output = command.args(["--", "/bin/echo", "here"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {variables:?}: {}", stderr(&output));
        assert_eq!(receiver.receipted(), b"here\n");
    }
}
