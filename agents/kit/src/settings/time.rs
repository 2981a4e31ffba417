//! Times as people write them in flags and forms.

use crate::settings::parse_duration;
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

/// Parses a time (`2026-11-21T08:00:00Z`), a local time (`2026-11-21 08:00`), a date, `today`, `yesterday`, or
/// how long ago (`2h`).
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let today = || Timestamp::now().to_zoned(zone.clone()).date();
    let local = match text {
        "today" => Some(today().to_datetime(Time::midnight())),
        "yesterday" => today().yesterday().ok().map(|date| date.to_datetime(Time::midnight())),
        _ => text.parse::<DateTime>().ok(),
    };
    if let Some(local) = local {
        return zone.to_timestamp(local).map_err(|_| "no such time".to_owned());
    }
    let ago = parse_duration(text)
        .map_err(|_| "expected a date (2026-11-21), a time (2026-11-21T08:00:00Z) or a duration (2h)")?;
    Timestamp::now().checked_sub(ago).map_err(|_| "expected a time since the year 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_may_be_a_date() {
        let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        let midnight = zone.to_timestamp(jiff::civil::date(2026, 11, 28).at(0, 0, 0, 0)).unwrap();
        assert_eq!(parse_time("2026-11-28").unwrap(), midnight);
        let eight = midnight + Duration::from_hours(8);
        for text in ["2026-11-28 08:00", "2026-11-28T08:00", "2026-11-28 08:00:00"] {
            assert_eq!(parse_time(text).unwrap(), eight, "{text}");
        }
        assert_eq!(parse_time("2026-11-28T08:00:00Z").unwrap().to_string(), "2026-11-28T08:00:00Z");
        assert!(parse_time("2h").unwrap() < Timestamp::now());
        assert!(parse_time("yesterday").unwrap() < parse_time("today").unwrap());
        assert!(parse_time("tomorrow").unwrap_err().contains("2026-11-21"));
    }
}
