//! Parsers for values that only logcd has.

use kit::settings::parse_duration;
use std::time::Duration;

/// The shortest interval: looks without a pause would keep a processor busy.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    match interval < INTERVAL_MIN {
        true => Err("expected 10ms or more, such as 60s".to_owned()),
        false => Ok(interval),
    }
}

pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => {
            Err("expected octal permissions such as 0600 or 0640; the owner has to read and write".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_without_owner_access_is_refused() {
        assert_eq!(parse_mode("0640"), Ok(0o640));
        for text in ["0440", "rw", "07777", "0200"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
