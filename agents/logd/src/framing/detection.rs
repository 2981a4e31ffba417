//! Detects from a stream's first bytes how it is framed.

use super::octets::DIGITS_MAX;
use super::{Mode, RECEIPT_REQUEST};

/// Digits of the largest priority, 191.
const PRIORITY_DIGITS_MAX: usize = 3;
/// Bytes needed to recognize digits, a space and `<191>`, or a request for a receipt.
pub(super) const DETECTION_BYTES_MAX: usize = DIGITS_MAX + 1 + PRIORITY_DIGITS_MAX + 2;

/// Detects how the stream is framed; `None` while the bytes could still become either.
pub(super) fn detect(bytes: &[u8]) -> Option<Mode> {
    if bytes.first() == Some(&b'<') {
        let opening = Mode::Opening { lines: 0, inside: false };
        return has_priority(bytes.iter().copied()).map(|yes| if yes { opening } else { Mode::Lines });
    }
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let rest = &bytes[digits..];
    let header = (1..=DIGITS_MAX).contains(&digits) && bytes[0] != b'0';
    let undecided = bytes.is_empty() || (header && rest.is_empty());
    if undecided {
        return None;
    }
    let Some(rest) = rest.strip_prefix(b" ").filter(|_| header) else { return Some(Mode::Lines) };
    has_priority(rest.iter().copied()).map(|yes| if yes { Mode::FrameHeader } else { Mode::Lines })
}

/// True if the bytes begin with `<PRI>`, one to three digits in angle brackets; `None` while they could still
/// become that.
pub(super) fn has_priority(mut bytes: impl Iterator<Item = u8>) -> Option<bool> {
    if bytes.next()? != b'<' {
        return Some(false);
    }
    for digits in 0..=PRIORITY_DIGITS_MAX {
        match bytes.next()? {
            b'0'..=b'9' if digits < PRIORITY_DIGITS_MAX => {}
            b'>' => return Some(digits > 0),
            _ => return Some(false),
        }
    }
    Some(false)
}

const _: () = assert!(RECEIPT_REQUEST.len() <= DETECTION_BYTES_MAX);
