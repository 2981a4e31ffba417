//! Judges the bytes that come back on a connection: a receipt, or a peer that is not logd.

use std::fmt::Write;

/// Asks logd for an explicit receipt. These are a connection's first bytes; logd does not store them.
pub(crate) const REQUEST: &[u8] = b"LOGD-RECEIPT 1\n";
/// Starts logd's answer. The number of payload bytes and a newline follow.
const ANSWER: &str = "LOGD-RECEIPT 1 ";
/// The length above which an answer without a newline cannot be logd's.
const ANSWER_BYTES_MAX: usize = 64;
/// The longest part of a stranger's answer that messages quote.
const QUOTED_BYTES_MAX: usize = 60;
/// The first bytes of a TLS alert, which a TLS server sends to a client that speaks plain TCP.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

/// The proof that a batch has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Receipt {
    /// Ask logd to confirm the number of bytes; only logd can answer
    Explicit,
    /// Trust an orderly close without an answer, for receivers such as nc, socat and rsyslog
    Close,
}

/// The reason why the peer's answer is not a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("this is not logd: it answered \"{quoted}\" ({hint})")]
    Foreign { quoted: String, hint: &'static str },
    #[error("logd received {received} of {sent} bytes")]
    WrongCount { received: u64, sent: usize },
    #[error("the connection was closed in the middle of the receipt")]
    Cut,
    #[error(
        "closed without a receipt: not logd, a logd older than this logsend, or a proxy without a backend; \
         --receipt close accepts an orderly close as the receipt"
    )]
    Missing,
}

/// The part of the answer to one batch that has arrived.
#[derive(Debug)]
pub(crate) struct ReceiptAnswer {
    /// The expected answer. Empty when the close alone is the receipt.
    expected: String,
    sent: usize,
    received: Vec<u8>,
}

impl ReceiptAnswer {
    /// Expects the answer to `sent` payload bytes.
    pub(crate) fn to(receipt: Receipt, sent: usize) -> ReceiptAnswer {
        let expected = match receipt {
            Receipt::Explicit => format!("{ANSWER}{sent}\n"),
            Receipt::Close => String::new(),
        };
        ReceiptAnswer { expected, sent, received: Vec::new() }
    }

    /// Takes bytes as they arrive. Fails as soon as they cannot become a receipt.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        self.received.extend_from_slice(bytes);
        if self.expected.as_bytes().starts_with(&self.received) {
            return Ok(());
        }
        let is_explicit = !self.expected.is_empty();
        if is_explicit && self.received.starts_with(ANSWER.as_bytes()) {
            match self.received.iter().position(|byte| *byte == b'\n') {
                Some(_) => return Err(self.refused()),
                None if self.received.len() <= ANSWER_BYTES_MAX => return Ok(()),
                None => {}
            }
        }
        Err(self.foreign())
    }

    /// Judges the answer at an orderly end of the stream.
    pub(crate) fn finish(&self) -> Result<(), AnswerError> {
        if self.received == self.expected.as_bytes() {
            Ok(())
        } else if self.received.is_empty() {
            Err(AnswerError::Missing)
        } else {
            Err(AnswerError::Cut)
        }
    }

    /// Returns the error about a whole line that begins like logd's answer but is not the expected one.
    fn refused(&self) -> AnswerError {
        let line = std::str::from_utf8(&self.received).ok();
        let number = line.and_then(|line| line.strip_prefix(ANSWER)?.strip_suffix('\n')?.parse().ok());
        match number {
            Some(received) => AnswerError::WrongCount { received, sent: self.sent },
            None => self.foreign(),
        }
    }

    fn foreign(&self) -> AnswerError {
        let hint = if self.received.starts_with(TLS_ALERT) {
            "a TLS server? see --tls-ca"
        } else {
            "an HTTP server or an admin endpoint? logd takes lines on port 6666"
        };
        AnswerError::Foreign { quoted: quoted(&self.received), hint }
    }
}

/// Returns the first line, escaped and shortened.
fn quoted(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let shown = &line[..line.len().min(QUOTED_BYTES_MAX)];
    let mut text = String::new();
    let _ = write!(text, "{}", shown.escape_ascii());
    if shown.len() < line.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(receipt: Receipt, sent: usize, pieces: &[&[u8]]) -> Result<(), AnswerError> {
        let mut answer = ReceiptAnswer::to(receipt, sent);
        pieces.iter().try_for_each(|piece| answer.feed(piece))?;
        answer.finish()
    }

    #[test]
    fn only_the_right_count_is_an_explicit_receipt() {
        let explicit = |pieces: &[&[u8]]| judged(Receipt::Explicit, 12, pieces);
        assert_eq!(explicit(&[b"LOGD-RECEIPT 1 12\n"]), Ok(()));
        assert_eq!(explicit(&[b"LOGD-REC", b"EIPT 1 1", b"2\n"]), Ok(()));
        assert_eq!(explicit(&[]), Err(AnswerError::Missing));
        assert_eq!(explicit(&[b"LOGD-RECEIPT 1 12"]), Err(AnswerError::Cut));
        let wrong = |received| Err(AnswerError::WrongCount { received, sent: 12 });
        assert_eq!(explicit(&[b"LOGD-RECEIPT 1 1\n"]), wrong(1));
        assert_eq!(explicit(&[b"LOGD-RECEIPT 1 120", b"\n"]), wrong(120));
        for foreign in
            [&b"LOGD-RECEIPT 2 12\n"[..], b"LOGD-RECEIPT 1 x\n", b"LOGD-RECEIPT 1 12\n\n", b"\n", b"HTTP/1.1"]
        {
            assert!(matches!(explicit(&[foreign]), Err(AnswerError::Foreign { .. })), "{foreign:?}");
        }
    }

    #[test]
    fn any_byte_before_an_orderly_close_is_foreign_without_a_request() {
        assert_eq!(judged(Receipt::Close, 12, &[]), Ok(()));
        for bytes in [&b"x"[..], b"LOGD-RECEIPT 1 12\n"] {
            assert!(matches!(judged(Receipt::Close, 12, &[bytes]), Err(AnswerError::Foreign { .. })));
        }
    }

    #[test]
    fn foreign_answers_are_quoted_safely_and_explained() {
        let said = |bytes: &[u8]| judged(Receipt::Explicit, 1, &[bytes]).unwrap_err().to_string();
        assert_eq!(
            said(b"HTTP/1.1 400 Bad Request\r\nserver: x\r\n"),
            "this is not logd: it answered \"HTTP/1.1 400 Bad Request\" \
             (an HTTP server or an admin endpoint? logd takes lines on port 6666)"
        );
        assert!(said(b"\x1b[31m\"").contains(r#""\x1b[31m\"""#), "{}", said(b"\x1b[31m\""));
        assert!(said(b"\x15\x03\x03\x00\x02").contains("a TLS server? see --tls-ca"));
        let long = said(&[b'x'; 1000]);
        assert!(long.contains("xxx…\" (") && long.len() < 200, "{long}");
    }

    proptest! {
        #[test]
        fn fragments_give_the_same_result(sent in 0_usize..2_000_000, cut in 1_usize..8) {
            let answer = format!("LOGD-RECEIPT 1 {sent}\n");
            let pieces: Vec<&[u8]> = answer.as_bytes().chunks(cut).collect();
            prop_assert_eq!(judged(Receipt::Explicit, sent, &pieces), Ok(()));
            prop_assert!(judged(Receipt::Explicit, sent + 1, &pieces).is_err());
        }
    }
}
