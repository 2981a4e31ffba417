//! Odd input, compared byte for byte: the file's content against the bytes sent.

use crate::client::{self, send};
use crate::daemon::Logd;
use std::io::Write;
use trial::wait_until;

fn kept(sent: &[u8]) -> Vec<u8> {
    let logd = Logd::start(&[]);
    send(logd.address(), sent).unwrap();
    logd.file()
}

#[track_caller]
fn is_kept(sent: &[u8]) {
    let kept = kept(sent);
    assert!(kept == sent, "sent {}, kept {}", sent.escape_ascii(), kept.escape_ascii());
}

#[test]
fn last_line_gets_a_newline() {
    assert_eq!(kept(b"first\nlast"), b"first\nlast\n");
}

#[test]
fn blank_lines_are_lines() {
    is_kept(b"\n\nfirst\n\n\nsecond\n\n");
    is_kept(&b"\n".repeat(100_000));
}

#[test]
fn empty_connection_gets_a_receipt() {
    is_kept(b"");
}

#[test]
fn nul_bytes_stay() {
    is_kept(b"\0\nbefore\0after\n\0\0\0\n");
}

#[test]
fn nul_messages_are_lines_at_once() {
    let logd = Logd::start(&[]);
    let mut stream = client::connect(logd.address());
    stream.write_all(b"<13>first\0").unwrap();
    wait_until("the message is in the file", || logd.file() == b"<13>first\n");
    stream.write_all(b"<14>second\n of two lines\0<15>third").unwrap();
    client::receipt(stream).unwrap();
    assert_eq!(logd.file(), b"<13>first\n<14>second\n of two lines\n<15>third\n");
    is_kept(b"<13>first\n<14>second\0third\n");
}

#[test]
fn control_characters_and_crlf_stay() {
    let controls: Vec<u8> = (0..=255).filter(|b| *b != b'\n').collect();
    is_kept(&[b"\x1b[31mred\x1b[0m\tand\x07bell\r\n", &controls[..], b"\r\n"].concat());
}

#[test]
fn invalid_utf8_stays() {
    is_kept(b"\xff\xfe\n\xc3\x28 \xe2\x82\n\xed\xa0\x80\n");
}

#[test]
fn leading_digits_are_not_frame_lengths() {
    is_kept(b"2026-11-21 08:44:24 started\n2026-11-21 08:44:25 stopped\n");
    is_kept(b"12 monkeys\n7\n99999999999999 balloons\n0 <1>zero\n");
    is_kept(b"5 <b>bold</b>\n5 <1234>\n");
    is_kept(b"1\n2\n3\n");
    assert_eq!(kept(b"42"), b"42\n");
    assert_eq!(kept(b"42 "), b"42 \n");
    assert_eq!(kept(b"42 <13"), b"42 <13\n");
}

#[test]
fn lines_up_to_a_megabyte_stay_whole() {
    for bytes in [9 * 1024, 100 * 1024, 1024 * 1024] {
        is_kept(&[&b"x".repeat(bytes)[..], b"\nnext\n"].concat());
    }
}

#[test]
fn overlong_line_is_cut_without_loss() {
    let logd = Logd::start(&["--max-line", "1000"]);
    let line = |length: usize| -> Vec<u8> { (b'a'..=b'z').cycle().take(length).collect() };
    let sent = [&line(1000)[..], b"\n", &line(2500)[..], b"\n", &line(2000)[..], b"\nend\n"].concat();
    send(logd.address(), &sent).unwrap();
    let file = logd.file();
    let pieces: Vec<_> = file.split(|b| *b == b'\n').map(<[u8]>::len).collect();
    assert_eq!(pieces, [1000, 1000, 1000, 500, 1000, 1000, 3, 0]);
    let without_newlines =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().filter(|b| *b != b'\n').collect() };
    assert!(without_newlines(&file) == without_newlines(&sent));
    assert_eq!(logd.metric("splits_total{reason=\"max_line\"}"), 3);
}

#[test]
fn line_in_three_writes_is_one_line() {
    let logd = Logd::start(&[]);
    let mut stream = client::connect(logd.address());
    let mut received = 0;
    for part in ["one ", "two ", "three\n"] {
        stream.write_all(part.as_bytes()).unwrap();
        received += part.len() as u64;
        wait_until("the part has arrived", || logd.metric("received_bytes_total") == received);
    }
    client::receipt(stream).unwrap();
    assert_eq!(logd.file(), b"one two three\n");
}

#[test]
fn complete_line_is_written_at_once() {
    let logd = Logd::start(&[]);
    let mut stream = client::connect(logd.address());
    stream.write_all(b"whole\nhalf").unwrap();
    wait_until("the line is in the file", || logd.file() == b"whole\n");
    client::receipt(stream).unwrap();
    assert_eq!(logd.file(), b"whole\nhalf\n");
}

#[test]
fn octet_counted_frames_lose_their_counts() {
    assert_eq!(kept(b"9 <13>first10 <13>second"), b"<13>first\n<13>second\n");
    assert_eq!(kept(b"10 <13>first\n11 <13>second\n"), b"<13>first\n<13>second\n");
}

#[test]
fn octet_counted_frame_may_come_byte_by_byte() {
    let logd = Logd::start(&[]);
    let mut stream = client::connect(logd.address());
    for (received, byte) in b"9 <13>first10 <13>second".iter().enumerate() {
        stream.write_all(&[*byte]).unwrap();
        wait_until("the byte has arrived", || logd.metric("received_bytes_total") == received as u64 + 1);
    }
    client::receipt(stream).unwrap();
    assert_eq!(logd.file(), b"<13>first\n<13>second\n");
}

#[test]
fn invalid_frames_continue_as_lines() {
    let logd = Logd::start(&[]);
    send(logd.address(), b"9 <13>firstnonsense\nmore\n").unwrap();
    assert_eq!(logd.file(), b"<13>first\nnonsense\nmore\n");
    assert_eq!(logd.metric("framing_errors_total"), 1);
}

#[test]
fn digits_beyond_the_line_bound_are_kept() {
    let logd = Logd::start(&["--max-line", "4"]);
    send(logd.address(), b"5 <1>ab123456789x\nnext\n").unwrap();
    assert_eq!(logd.file(), b"<1>a\nb\n123456789\nx\nnext\n");
}
