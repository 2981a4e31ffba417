//! Makes greetings: lines of a known size and rate, to test a daemon.

use jiff::Zoned;
use jiff::tz::TimeZone;

/// Formats `Sat Nov 21 08:44:24 UTC 2026 - Greetings from client-x7`, with the date as date(1) prints it in
/// the C locale.
pub(crate) fn greeting(now: &Zoned, name: &str) -> String {
    format!("{} - Greetings from {name}\n", now.strftime("%a %b %e %H:%M:%S %Z %Y"))
}

/// Returns local time, or UTC if the time zone is unknown, as date(1) does in an image without zone files.
pub(crate) fn now() -> Zoned {
    Zoned::now().with_time_zone(TimeZone::try_system().unwrap_or(TimeZone::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn dates_have_the_format_of_date_1() {
        let morning = date(2026, 11, 21).at(8, 44, 24, 0).to_zoned(TimeZone::UTC).unwrap();
        assert_eq!(
            greeting(&morning, "client-x7"),
            "Sat Nov 21 08:44:24 UTC 2026 - Greetings from client-x7\n"
        );
        let single_digit = date(2026, 11, 7).at(18, 4, 4, 0).to_zoned(TimeZone::UTC).unwrap();
        assert!(greeting(&single_digit, "x").starts_with("Sat Nov  7 18:04:04 UTC 2026 - "));
    }
}
