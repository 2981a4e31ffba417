//! Delivery and its receipt: no line is lost whatever the receiver does, and the order is kept.

use crate::logsend::{command, run, stderr, terminate, wait_for_log};
use crate::receiver::{Act, Receiver, first_appearances, free_port, lines, listen_on, numbered};
use proptest::prelude::*;
use std::io::Write;
use trial::with_input;

#[test]
fn stdin_arrives_whole_and_in_order() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let input = numbered(0..20_000);
    let output = run(receiver.port(), &["--batch-bytes", "32KiB"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(receiver.receipted() == input);
    assert!(receiver.receipts() > 10, "{} batches", receiver.receipts());
    assert!(stderr(&output).contains("lines=20000"), "{}", stderr(&output));
}

#[test]
fn bytes_are_kept_and_the_last_line_is_closed() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let output = run(receiver.port(), &[], b"one\n\n\xff\x00two\r\nlast");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(receiver.receipted(), b"one\n\n\xff\x00two\r\nlast\n");
}

#[test]
fn empty_input_opens_no_connection() {
    let receiver = Receiver::start(&[Act::Receipt]);
    assert_eq!(run(receiver.port(), &[], b"").status.code(), Some(0));
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn long_lines_are_sent_in_pieces() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let input = [b"a".repeat(250_000), b"\nshort\n".to_vec()].concat();
    let output = run(receiver.port(), &["--max-line", "100KB", "--batch-bytes", "10KB"], &input);
    assert_eq!(output.status.code(), Some(0));
    let received = receiver.receipted();
    let lengths: Vec<usize> = lines(&received).iter().map(|line| line.len()).collect();
    assert_eq!(lengths, [100_001, 100_001, 50_001, 6]);
}

#[test]
fn lines_that_logd_would_misread_are_guarded() {
    for line in [&b"12 <34>plain\n"[..], b"<34>nul\0\n", b"LOGD-RECEIPT 1\n"] {
        for flags in [&[][..], &["--receipt", "close"]] {
            let receiver = Receiver::start(&[Act::Receipt]);
            run(receiver.port(), flags, line);
            assert_eq!(receiver.receipted(), [b"\n", line].concat());
        }
    }
}

#[test]
fn an_early_close_is_not_a_receipt() {
    // The input is larger than what the kernel takes at once, so the end comes in the middle of it.
    let receiver = Receiver::start(&[Act::CloseAtOnce, Act::Receipt]);
    let input = [b"x".repeat(16 << 20), b"\n".to_vec()].concat();
    let output = run(receiver.port(), &["--max-line", "32MiB", "--buffer-bytes", "32MiB"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(receiver.receipted() == input);
    assert!(stderr(&output).contains("retries=1"), "{}", stderr(&output));
}

#[test]
fn a_batch_without_a_receipt_is_sent_again() {
    for act in [Act::NoAnswer, Act::Stall, Act::ResetInsteadOfReceipt] {
        let receiver = Receiver::start(&[act, Act::Receipt]);
        let output = run(receiver.port(), &["--receipt-timeout", "2s"], b"hello\n");
        assert_eq!(output.status.code(), Some(0), "{act:?}");
        assert_eq!(receiver.receipted(), b"hello\n", "{act:?}");
        assert_eq!(receiver.connections(), 2, "{act:?}");
    }
}

#[test]
fn an_outage_is_logged_once_at_each_end() {
    let port = free_port();
    let mut child = command(port, [] as [&str; 0]).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"while it was away\n").unwrap();
    let mut log = wait_for_log(&mut child, "event=server_lost");
    // Several attempts fail before the receiver is back.
    let receiver = Receiver::on(listen_on(port), &[Act::Reset, Act::Reset, Act::Reset, Act::Receipt]);
    let output = with_input(child, b"and after\n");
    log.push_str(&stderr(&output));
    assert_eq!(receiver.receipted(), b"while it was away\nand after\n");
    assert_eq!(log.matches("event=server_lost").count(), 1, "{log}");
    assert_eq!(log.matches("event=server_returned").count(), 1, "{log}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn memory_is_bounded_while_logd_is_away() {
    let port = free_port();
    let mut child = command(port, ["--buffer-bytes", "64KiB"]).spawn().unwrap();
    let input = numbered(0..200_000);
    let mut stdin = child.stdin.take().unwrap();
    let written = input.clone();
    let (progress, position) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        for chunk in written.chunks(4096) {
            stdin.write_all(chunk).unwrap();
            progress.send(chunk.len()).unwrap();
        }
    });
    wait_for_log(&mut child, "event=server_lost");
    // The writer stops: only the buffer, one read and the pipe are filled.
    let mut taken = 0;
    while let Ok(length) = position.recv_timeout(std::time::Duration::from_secs(1)) {
        taken += length;
    }
    assert!(taken <= 3 * (64 << 10) + 8192, "{taken} bytes were taken");
    assert!(!writer.is_finished());

    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    writer.join().unwrap();
    assert!(receiver.receipted() == input);
}

#[test]
fn sigterm_leaves_the_rest_of_the_pipe_to_the_next_reader() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let input = numbered(0..60_000);
    let written = input.clone();
    let writing = std::thread::spawn(move || writer.write_all(&written).unwrap());
    let mut rounds = 0;
    // Start one reader after the other on the same pipe, and stop each in the middle of it.
    while !writing.is_finished() {
        let before = receiver.receipts();
        let child = command(receiver.port(), ["--batch-bytes", "4KiB", "--buffer-bytes", "8KiB"])
            .stdin(reader.try_clone().unwrap())
            .spawn()
            .unwrap();
        receiver.wait_until("a batch", |receiver| receiver.receipts() > before + 3 || writing.is_finished());
        terminate(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        rounds += 1;
    }
    writing.join().unwrap();
    command(receiver.port(), [] as [&str; 0]).stdin(reader).spawn().unwrap().wait().unwrap();
    assert!(rounds > 3, "{rounds}");
    assert!(receiver.receipted() == input, "each line once, whole and in order");
}

#[test]
fn undelivered_lines_are_counted_and_exit_with_75() {
    let mut child = command(free_port(), ["--drain-timeout", "100ms"]).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"one\ntwo\nthree").unwrap();
    wait_for_log(&mut child, "event=server_lost");
    terminate(&child);
    let log = wait_for_log(&mut child, "undelivered");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(log.contains("logsend: 3 lines undelivered"), "{log}");
}

#[test]
fn give_up_ends_with_the_reason() {
    let output = run(free_port(), &["--give-up", "500ms"], b"one\ntwo\n");
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).contains("2 lines undelivered to 127.0.0.1"), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot connect"), "{}", stderr(&output));
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Receipt),
        1 => Just(Act::Reset),
        2 => (0_usize..5000).prop_map(Act::ResetAfter),
        1 => Just(Act::ResetInsteadOfReceipt),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_failures_lose_nothing_and_keep_the_order(
        mut acts in prop::collection::vec(any_act(), 1..8),
        count in 1_usize..400,
        batch_bytes in 1_usize..4096,
    ) {
        acts.push(Act::Receipt);
        let receiver = Receiver::start(&acts);
        let input = numbered(0..count);
        let output = run(receiver.port(), &["--batch-bytes", &batch_bytes.to_string()], &input);
        prop_assert_eq!(output.status.code(), Some(0));
        // Receipts cover each line exactly once; broken attempts left only repetitions.
        prop_assert_eq!(&receiver.receipted(), &input);
        let kept = first_appearances(&receiver.kept());
        let whole: Vec<u8> = lines(&kept).into_iter().filter(|line| lines(&input).contains(line)).flatten().copied().collect();
        prop_assert_eq!(whole, input);
    }
}
