//! Selects lines by time and text, for `logd read` and the page.

use crate::line_format::time_of;
use jiff::Timestamp;
use regex::bytes::Regex;

/// Conditions that a line must meet; an empty filter lets every line pass.
#[derive(Debug, Default)]
pub struct LineFilter {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub grep: Option<Regex>,
}

impl LineFilter {
    pub fn is_empty(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.grep.is_none()
    }

    /// `line` comes without its newline. A raw line has no time of its own and passes `since` and `until`.
    pub fn passes(&self, line: &[u8]) -> bool {
        self.passes_by_time(line) && self.grep.as_ref().is_none_or(|grep| grep.is_match(line))
    }

    fn passes_by_time(&self, line: &[u8]) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(time) = time_of(line) else { return true };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_compares_the_lines_own_time() {
        let filter = LineFilter {
            since: Some("2026-11-21T08:00:00Z".parse().unwrap()),
            until: Some("2026-11-21T09:00:00Z".parse().unwrap()),
            grep: None,
        };
        assert!(filter.passes(b"2026-11-21T08:00:00.000000Z 10.0.0.1:5 late"));
        assert!(!filter.passes(b"2026-11-21T07:59:59.999999Z 10.0.0.1:5 early"));
        assert!(!filter.passes(b"2026-11-21T09:00:00.000001Z 10.0.0.1:5 too late"));
        assert!(!filter.passes(
            b"{\"time\":\"2026-11-20T08:00:00.000000Z\",\"peer\":\"10.0.0.1:5\",\"line\":\"early\"}"
        ));
        assert!(filter.passes(b"raw") && filter.passes(b"") && filter.passes(b"Sat Nov 21 raw"));
    }

    #[test]
    fn grep_looks_at_bytes() {
        let filter = LineFilter { grep: Some(Regex::new("err(or)?").unwrap()), ..LineFilter::default() };
        assert!(filter.passes(b"\xff error \xfe") && !filter.passes(b"warning"));
    }
}
