//! The input of a command, and the effect of its exit code on the item.

use crate::queuectl::{command, run, stderr, stdout, work};
use crate::server::Server;
use nix::unistd::Pid;
use serde_json::json;
use trial::{is_gone, wait_until};

#[test]
fn item_is_on_stdin_in_variables_and_arguments() {
    let server = Server::with(&["one", "t w o", "{}"]);
    let script = r#"printf '%s|%s|%s|%s|%s\n' "$(cat)" "$ITEM" "$1" "$ITEM_ID" "$ITEM_ATTEMPT""#;
    let arguments = ["run", "-q", "q", "--", "sh", "-c", script, "sh", "<{}>"];
    let output = run(&server.url(), &arguments, b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let expected: Vec<String> = [(1, "one"), (2, "t w o"), (3, "{}")]
        .iter()
        .map(|(id, item)| format!("{item}|{item}|<{item}>|{id:032x}|1"))
        .collect();
    assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), expected);
    assert_eq!(server.queue().acked, ["one", "t w o", "{}"]);
}

#[test]
fn ack_and_next_lease_are_one_request() {
    let server = Server::with(&["a", "b", "c"]);
    assert_eq!(work(&server, &[], "exit 0").status.code(), Some(0));
    assert_eq!(server.queue().requests, ["lease"; 4]);
}

#[test]
fn reason_is_the_last_line_of_output() {
    let server = Server::with(&["a", "b", "c", "d"]);
    let script = r#"case $ITEM in
        a) echo out; echo 'no such key' >&2; exit 3;;
        b) exit 4;;
        c) kill -KILL $$;;
        d) echo fine;;
    esac"#;
    let output = work(&server, &["--log-level", "error"], script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let nacked = server.queue().nacked.clone();
    let reasons: Vec<_> = nacked.iter().map(|(item, reason, _)| (item.as_str(), reason.as_str())).collect();
    assert_eq!(reasons, [("a", "no such key"), ("b", "exit code 4"), ("c", "killed by SIGKILL")]);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("out\nfine\n", "no such key\n"));
}

#[test]
fn failed_item_is_retried() {
    let server = Server::with(&["a"]);
    server.queue().retry_failed = true;
    let output = work(&server, &[], "echo attempt $ITEM_ATTEMPT; [ $ITEM_ATTEMPT = 3 ]");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "attempt 1\nattempt 2\nattempt 3\n");
}

#[test]
fn binary_items_arrive_whole() {
    let server = Server::start();
    server.put(json!({"body_base64": "/2EAYg=="})); // ff 61 00 62
    let script = "od -An -tx1; echo ${ITEM-unset}";
    let output = work(&server, &[], script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).split_whitespace().collect::<Vec<_>>(), ["ff", "61", "00", "62", "unset"]);
    let said = stderr(&output);
    assert!(said.contains("event=item_only_on_stdin") && said.contains("NUL"), "{said}");

    server.put(json!({"body_base64": "/w=="}));
    let output = work(&server, &[], "printf %s \"$ITEM\"");
    assert_eq!(output.stdout, [0xff]);

    server.put(json!({"body": "a\u{0}b"}));
    let output = run(&server.url(), &["run", "-q", "q", "--", "echo", "{}"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(server.queue().nacked[0].1.contains("contains a NUL byte"), "{:?}", server.queue().nacked);
}

#[test]
fn command_need_not_read_its_item() {
    let server = Server::with(&[&"x".repeat(1 << 20), "short"]);
    assert_eq!(work(&server, &[], "exit 0").status.code(), Some(0));
    assert_eq!(server.queue().acked.len(), 2);
}

#[test]
fn parallel_commands_keep_lines_whole() {
    let items: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    let server = Server::with(&items.iter().map(String::as_str).collect::<Vec<_>>());
    let output = work(&server, &["-j", "4"], "printf 'item '; printf '%s\\n' $ITEM; printf end");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let mut lines: Vec<&str> = text.lines().filter(|line| *line != "end").collect();
    lines.sort_by_key(|line| line.strip_prefix("item ").unwrap().parse::<u32>().unwrap());
    assert_eq!(lines, items.iter().map(|i| format!("item {i}")).collect::<Vec<_>>());
    assert_eq!(server.queue().acked.len(), 40);
}

/// Each command writes far more than a pipe holds before its line ends.
#[test]
fn long_lines_of_several_commands_never_mix() {
    const SCRIPT: &str = "i=0; while [ $i -lt 5 ]; do \
        head -c $LENGTH /dev/zero | tr '\\0' $ITEM; echo; i=$((i+1)); done";
    let mebibyte = 1 << 20;
    for (length, pieces) in [(300_000, vec![300_000]), (mebibyte + 5, vec![mebibyte, 5])] {
        let server = Server::with(&["a", "b", "c", "d"]);
        let arguments = ["run", "-q", "q", "-j", "4", "--", "sh", "-c", SCRIPT];
        let output = command(&server.url(), arguments).env("LENGTH", length.to_string()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let mut lengths = std::collections::BTreeMap::<u8, Vec<usize>>::new();
        for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            assert!(line.iter().all(|byte| *byte == line[0]), "a line of two commands");
            lengths.entry(line[0]).or_default().push(line.len());
        }
        let expected = pieces.repeat(5);
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), b"abcd".map(|item| (item, expected.clone())));
    }
}

#[test]
fn command_does_not_inherit_the_queue_of_its_worker() {
    let server = Server::with(&["a"]);
    let script = "echo ${QUEUECTL_QUEUE-unset} $QUEUE_URL";
    let mut work = command(&server.url(), ["run", "--", "sh", "-c", script]);
    let output = work.env("QUEUECTL_QUEUE", "q").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("unset {}\n", server.url()));
}

#[test]
fn jobs_run_at_the_same_time() {
    let server = Server::with(&["a", "b", "c"]);
    let directory = tempfile::tempdir().unwrap();
    // Each command waits for all the others: one after the other they would never end.
    let script = "cd \"$0\"; : > $ITEM; while ! { [ -e a ] && [ -e b ] && [ -e c ]; }; do :; done";
    let mut arguments = vec!["run", "-q", "q", "-j", "3", "--", "sh", "-c", script];
    arguments.push(directory.path().to_str().unwrap());
    assert_eq!(run(&server.url(), &arguments, b"").status.code(), Some(0));
}

#[test]
fn batch_is_leased_at_once() {
    let server = Server::with(&["a", "b", "c", "d", "e"]);
    let output = work(&server, &["--batch", "3"], "echo $ITEM; [ $ITEM != b ]");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "a\nb\nc\nd\ne\n");
    let queue = server.queue();
    assert_eq!(queue.acked, ["a", "c", "d", "e"]);
    assert_eq!(queue.nacked, [("b".to_owned(), "b".to_owned(), false)]);
    assert_eq!(queue.requests.iter().filter(|request| *request == "lease").count(), 3);
}

#[test]
fn timeout_stops_the_command_and_its_children() {
    let server = Server::with(&["a"]);
    let directory = tempfile::tempdir().unwrap();
    let child = directory.path().join("child");
    // Neither the shell nor its child reacts to a SIGTERM.
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > $0.new; mv $0.new $0; while :; do :; done' $0 & \
        while [ ! -e $0 ]; do :; done; echo half done; wait";
    let flags = ["run", "-q", "q", "--timeout", "4s", "--grace", "100ms", "--", "sh", "-c", script];
    let output = command(&server.url(), flags).arg(&child).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let nacked = server.queue().nacked.clone();
    assert_eq!(nacked, [("a".to_owned(), "stopped after 4s: half done".to_owned(), false)]);
    let pid = Pid::from_raw(std::fs::read_to_string(&child).unwrap().trim().parse().unwrap());
    wait_until("what the command started is gone, too", || is_gone(pid));
}

#[test]
fn command_that_cannot_run_costs_no_attempt() {
    let server = Server::with(&["a"]);
    for (program, code) in [("/does/not/exist", 127), ("/etc/passwd", 126)] {
        let output = run(&server.url(), &["run", "-q", "q", "--", program], b"");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("cannot run {program}")), "{}", stderr(&output));
    }
    let queue = server.queue();
    assert_eq!(queue.ready[0].attempts, 0);
    assert!(queue.nacked.iter().all(|(_, _, release)| *release));
}

#[test]
fn orphans_are_not_waited_for() {
    let server = Server::with(&["a"]);
    let directory = tempfile::tempdir().unwrap();
    // The loop ends with the directory, however this test ends.
    let script = "while [ -d $0 ]; do :; done & echo started";
    let mut run = command(&server.url(), ["run", "-q", "q", "--", "sh", "-c", script]);
    let output = run.arg(directory.path()).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "started\n"));
}

#[test]
fn closed_stdout_does_not_end_the_work() {
    let server = Server::with(&["a", "b", "c"]);
    let mut child = crate::queuectl::worker(&server, &[], "echo $ITEM");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(server.queue().acked, ["a", "b", "c"]);
    assert!(stderr(&output).contains("event=output_closed"), "{}", stderr(&output));
}
