//! Tests the framing against a slow and obvious model.

use super::plain::count_lines;
use super::*;
use proptest::prelude::*;

/// Computes what the file must hold for one connection's bytes, in a slow and obvious way.
fn model(input: &[u8], line_bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut lines: Vec<&[u8]> = input.split(|b| *b == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    for line in lines {
        let mut pieces: Vec<&[u8]> = line.chunks(line_bytes_max).collect();
        if pieces.is_empty() {
            pieces.push(b"");
        }
        for piece in pieces {
            out.extend_from_slice(piece);
            out.push(b'\n');
        }
    }
    out
}

fn append(out: &mut Vec<u8>) -> impl FnMut(&[u8]) + '_ {
    |line| {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

/// Feeds fragments the way a connection does: in place where that is allowed.
fn run(fragments: &[&[u8]], line_bytes_max: usize) -> (Vec<u8>, LineCounts) {
    let mut framing = Framing::new(line_bytes_max);
    let mut out = b"lines of others\n".to_vec();
    let mut counts = LineCounts::default();
    for fragment in fragments {
        let start = out.len();
        let placed = framing.place(&mut out);
        if framing.can_take_in_place(fragment.len()) {
            out.extend_from_slice(fragment);
            counts += framing.take_in_place(&mut out, start, placed);
        } else {
            out.truncate(start);
            counts += framing.take(fragment, &mut append(&mut out));
        }
        assert!(out.ends_with(b"\n"), "only whole lines may be in the batch");
    }
    counts += framing.finish(&mut append(&mut out));
    (out.split_off(b"lines of others\n".len()), counts)
}

fn fragments<'a>(input: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
}

/// Generates bytes other than NUL and digits: a line must not look like the next message.
fn message_byte() -> impl Strategy<Value = u8> {
    prop_oneof![2 => Just(b'\n'), 2 => Just(b'<'), 4 => any::<u8>().prop_filter("no end", |b| *b != 0 && !b.is_ascii_digit())]
}

fn bytes_with_many_newlines() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'\n'), 2 => Just(b'\0'), 2 => Just(b' '), 2 => Just(b'<'), 2 => Just(b'>'), 3 => b'0'..=b'9', 8 => any::<u8>()];
    proptest::collection::vec(byte, 0..300)
}

proptest! {
    #[test]
    fn fragmented_lines_match_the_model(
        input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
    ) {
        // The first line cannot be a frame header, so that the rest may look like anything.
        let input = [b"plain\n".as_slice(), &input].concat();
        let (out, counts) = run(&fragments(&input, &cuts), max);
        let expected = model(&input, max);
        prop_assert_eq!(counts.lines, count_lines(&expected));
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn fragmented_frames_come_out_as_lines(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>().prop_filter("no newline", |b| *b != b'\n'), 0..60), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let messages: Vec<Vec<u8>> = messages.into_iter().map(|m| [b"<13>".to_vec(), m].concat()).collect();
        let input: Vec<u8> = messages.iter().flat_map(|m| [format!("{} ", m.len()).into_bytes(), m.clone()].concat()).collect();
        let (out, counts) = run(&fragments(&input, &cuts), 1 << 20);
        let expected: Vec<u8> = messages.iter().flat_map(|m| [m.as_slice(), b"\n"].concat()).collect();
        prop_assert_eq!(counts, LineCounts { lines: messages.len() as u64, splits: 0, framing_errors: 0 });
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn receipt_request_is_not_a_line(
        input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
    ) {
        let requesting = [RECEIPT_REQUEST, &input].concat();
        let mut framing = Framing::new(max);
        framing.take(&requesting, &mut |_| {});
        prop_assert!(framing.receipt_requested());
        prop_assert_eq!(run(&fragments(&requesting, &cuts), max), run(&[&input], max));
    }

    #[test]
    fn similar_lines_are_not_receipt_requests(
        length in 0..RECEIPT_REQUEST.len(), other in any::<u8>(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
    ) {
        let mut input = [&RECEIPT_REQUEST[..length], &[other], b"\nnext"].concat();
        if other == RECEIPT_REQUEST[length] {
            input.truncate(length);
        }
        prop_assert_eq!(run(&fragments(&input, &cuts), max).0, model(&input, max));
    }

    #[test]
    fn fragmented_nul_messages_come_out_whole(
        messages in proptest::collection::vec(proptest::collection::vec(message_byte(), 0..60), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
    ) {
        let messages: Vec<Vec<u8>> = messages.into_iter().map(|m| [b"<13>".to_vec(), m].concat()).collect();
        let input: Vec<u8> = messages.iter().flat_map(|m| [m.as_slice(), b"\0"].concat()).collect();
        let (first, others) = messages.split_first().unwrap();
        // While its lines arrive, nobody knows yet that a NUL will end the first message.
        let mut expected = model(first, max);
        for message in others {
            for piece in message.strip_suffix(b"\n").unwrap_or(message).chunks(max) {
                expected.extend_from_slice(piece);
                expected.push(b'\n');
            }
        }
        let (out, counts) = run(&fragments(&input, &cuts), max);
        prop_assert_eq!(counts.framing_errors, 0);
        prop_assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn fragments_do_not_change_the_lines(
        start in prop_oneof![Just(&b""[..]), Just(&b"<13>"[..]), Just(&b"<13>a\0"[..]), Just(RECEIPT_REQUEST)],
        input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
    ) {
        let input = [start, &input].concat();
        prop_assert_eq!(run(&fragments(&input, &cuts), max), run(&[&input], max));
    }

    #[test]
    fn no_byte_of_a_line_is_lost(
        input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
    ) {
        let kept = |bytes: &[u8]| bytes.iter().copied().filter(|b| !b"\0\n 0123456789".contains(b)).collect::<Vec<u8>>();
        let (out, _) = run(&fragments(&input, &cuts), max);
        prop_assert_eq!(kept(&out), kept(&input));
    }
}

#[test]
fn digits_are_plain_without_a_priority() {
    for plain in [
        "2026-11-21 started\n",
        "12 apples\n",
        "007 <13>x\n",
        "12 <b>bold</b>\n",
        "12 <1234>x\n",
        "1234567890 <13>x\n",
        "42\n",
        "42",
    ] {
        assert_eq!(detect(plain.as_bytes()).unwrap_or(Mode::Lines), Mode::Lines, "{plain}");
        let (out, _) = run(&[plain.as_bytes()], 1 << 20);
        assert_eq!(out, model(plain.as_bytes(), 1 << 20));
    }
    assert_eq!(detect(b"12 <13>hello"), Some(Mode::FrameHeader));
    for open in ["", "1", "12", "12 ", "12 <", "12 <1", "12 <191"] {
        assert_eq!(detect(open.as_bytes()), None, "{open}");
    }
}

#[test]
fn nul_after_the_first_message_ends_all() {
    let sent: [(&[u8], &[u8], u64); 8] = [
        (b"<13>a\0<14>b\0", b"<13>a\n<14>b\n", 0),
        (b"<13>a\0<14>not ended", b"<13>a\n<14>not ended\n", 0),
        (
            b"<13>Traceback\n  File\n\0<14>x\n  y\n\0\n<15>z\0",
            b"<13>Traceback\n  File\n<14>x\n  y\n<15>z\n",
            0,
        ),
        // Plain lines keep their NULs.
        (b"<13>a\n<14>b\0c\n<15>d\0\n", b"<13>a\n<14>b\0c\n<15>d\0\n", 0),
        (b"<13>a\n<14>b\n\0\n", b"<13>a\n<14>b\n\0\n", 0),
        (b"<1234>a\0<13>b\0\n", b"<1234>a\0<13>b\0\n", 0),
        (b"a\0<13>b\0\n", b"a\0<13>b\0\n", 0),
        // No message follows: the NUL counts as an end, and the rest is plain lines.
        (b"<13>a\0b\0c\nd\n", b"<13>a\nb\0c\nd\n", 1),
    ];
    for (input, expected, framing_errors) in sent {
        for size in 1..=input.len() {
            let (out, counts) = run(&input.chunks(size).collect::<Vec<_>>(), 1 << 20);
            assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
            assert_eq!(counts.framing_errors, framing_errors, "{}", input.escape_ascii());
        }
    }
}

#[test]
fn invalid_frames_continue_as_lines() {
    let (out, counts) = run(&[b"6 <13>hi4 <13>garbage 12\nmore\n"], 1 << 20);
    assert_eq!(out, b"<13>hi\n<13>\ngarbage 12\nmore\n");
    assert_eq!(counts.framing_errors, 1);
}

#[test]
fn cut_frame_is_kept_and_counted() {
    let (out, counts) = run(&[b"60 <13>only a part"], 1 << 20);
    assert_eq!(out, b"<13>only a part\n");
    assert_eq!(counts, LineCounts { lines: 1, splits: 0, framing_errors: 1 });
}

#[test]
fn frame_of_the_longest_line_is_one_line() {
    let input = b"5 <13>x6 <13>y\n7 <13>ab\n1 \n";
    for size in 1..=input.len() {
        let (out, counts) = run(&input.chunks(size).collect::<Vec<_>>(), 5);
        assert_eq!(out.escape_ascii().to_string(), r"<13>x\n<13>y\n<13>a\nb\n\n");
        assert_eq!(counts, LineCounts { lines: 5, splits: 1, framing_errors: 0 });
    }
}

#[test]
fn oversized_frame_is_split() {
    let (out, counts) = run(&[b"10 <13>abcdef5 <13>g"], 4);
    assert_eq!(out, b"<13>\nabcd\nef\n<13>\ng\n");
    assert_eq!(counts.splits, 3);
}

#[test]
fn long_line_gives_its_memory_back() {
    let mut framing = Framing::new(1 << 20);
    framing.take(&vec![b'x'; 500_000], &mut |_| {});
    framing.take(b"\nnext", &mut |_| {});
    assert!(framing.held.capacity() <= KEEP_CAPACITY_MAX);
    assert_eq!(framing.held_bytes(), 4);
}
