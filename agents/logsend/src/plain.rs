//! Keeps plain lines plain. logd detects its framings, and a request for a receipt, from a connection's first
//! bytes.

use crate::answer::REQUEST;
use memchr::memchr;

/// Sent before a batch that logd would otherwise mistake for something else. An empty line is the smallest
/// input that settles it, and the first line itself stays whole.
pub(crate) const GUARD: &[u8] = b"\n";

/// True if logd would not read the batch as plain lines.
pub(crate) fn needs_guard(batch: &[u8]) -> bool {
    looks_like_a_frame(batch) || looks_like_messages(batch) || batch.starts_with(REQUEST)
}

/// True for RFC 6587 octet counting, which starts with `<digits> <PRI>`, as in `12 <34>`.
fn looks_like_a_frame(batch: &[u8]) -> bool {
    after_digits(batch).and_then(|rest| rest.strip_prefix(b" ")).is_some_and(starts_with_priority)
}

/// True for messages that end with NUL, which start with `<PRI>`.
fn looks_like_messages(batch: &[u8]) -> bool {
    starts_with_priority(batch) && memchr(0, batch).is_some()
}

fn starts_with_priority(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"<");
    digits.and_then(after_digits).is_some_and(|rest| rest.first() == Some(&b'>'))
}

fn after_digits(bytes: &[u8]) -> Option<&[u8]> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { None } else { bytes.get(digits..) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_batches_that_logd_would_misread_are_guarded() {
        for guarded in [
            "12 <34>hello\n",
            "5 <1>\n",
            "999999999 <191>x\n",
            "<13>one\0two\n",
            "<13>one\nnul in the second line\0\n",
            "LOGD-RECEIPT 1\n",
        ] {
            assert!(needs_guard(guarded.as_bytes()), "{guarded:?}");
        }
        for plain in [
            "2026-11-21 <b>\n",
            "12 <b>bold\n",
            "12 34>\n",
            " 12 <34>\n",
            "12  <34>\n",
            "12",
            "<13>no nul\n",
            "<b>\0\n",
            "LOGD-RECEIPT 12\n",
            "\n",
            "",
        ] {
            assert!(!needs_guard(plain.as_bytes()), "{plain:?}");
        }
    }
}
