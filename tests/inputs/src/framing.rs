//! Checks that a stream to logd gives the same lines however it is cut into reads, and that no byte of them
//! is lost.

use logd::framing::{Framing, LineCounts, RECEIPT_REQUEST};

/// Reads from the input: the maximum line length, the number of sizes, the sizes of the reads, and the
/// stream.
pub fn framing(bytes: &[u8]) {
    let [max, sizes, rest @ ..] = bytes else { return };
    let line_bytes_max = usize::from(*max) + 1;
    let (sizes, input) = rest.split_at(rest.len().min(usize::from(*sizes)));
    let whole = run(input, &[], line_bytes_max);
    assert_eq!(whole, run(input, sizes, line_bytes_max));
    assert!(whole.0.is_empty() || whole.0.ends_with(b"\n"));
    let text =
        |bytes: &[u8]| bytes.iter().copied().filter(|b| !b"\0\n 0123456789".contains(b)).collect::<Vec<_>>();
    assert_eq!(text(&whole.0), text(input.strip_prefix(RECEIPT_REQUEST).unwrap_or(input)));
}

/// Feeds `input` in pieces of the given sizes, in a cycle, the way a connection does.
fn run(input: &[u8], sizes: &[u8], line_bytes_max: usize) -> (Vec<u8>, LineCounts) {
    let mut framing = Framing::new(line_bytes_max);
    let (mut out, mut counts, mut rest) = (Vec::new(), LineCounts::default(), input);
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
        rest = after;
        let start = out.len();
        let placed = framing.place(&mut out);
        if framing.can_take_in_place(piece.len()) {
            out.extend_from_slice(piece);
            counts += framing.take_in_place(&mut out, start, placed);
        } else {
            out.truncate(start);
            counts += framing.take(piece, &mut |line| put(&mut out, line));
        }
    }
    counts += framing.finish(&mut |line| put(&mut out, line));
    (out, counts)
}

fn put(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.push(b'\n');
}
