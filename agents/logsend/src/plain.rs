//! Keeping plain lines plain: logd tells its two framings apart by a connection's first bytes.

/// Sent in front of a batch that would otherwise be taken for octet counting.
pub(crate) const GUARD: &[u8] = b"\n";

/// Whether a connection that begins so is taken for RFC 6587 octet counting: `<digits> <PRI>`, as in
/// `12 <34>`. An empty line in front is the smallest thing that settles it; the line itself stays whole.
pub(crate) fn looks_like_a_frame(batch: &[u8]) -> bool {
    let Some(rest) = after_digits(batch) else { return false };
    let Some(rest) = rest.strip_prefix(b" <") else { return false };
    after_digits(rest).is_some_and(|rest| rest.first() == Some(&b'>'))
}

fn after_digits(bytes: &[u8]) -> Option<&[u8]> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { None } else { bytes.get(digits..) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_as_a_frame_header_is_one() {
        for frame in ["12 <34>hello\n", "5 <1>\n", "999999999 <191>x\n"] {
            assert!(looks_like_a_frame(frame.as_bytes()), "{frame:?}");
        }
        for line in
            ["2026-11-21 <b>\n", "12 <b>bold\n", "12 34>\n", " 12 <34>\n", "12  <34>\n", "12", "\n", ""]
        {
            assert!(!looks_like_a_frame(line.as_bytes()), "{line:?}");
        }
    }
}
