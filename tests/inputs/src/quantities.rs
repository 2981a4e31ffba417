//! Checks that an accepted size or duration has the value that was written, and that a size beyond the
//! countable becomes the largest.

use kit::settings::{parse_duration, parse_size};

pub fn quantities(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&humantime::format_duration(duration).to_string()), Ok(duration));
    }
    let Ok(size) = parse_size(text) else { return };
    assert_eq!(parse_size(&size.to_string()), Ok(size));
    let unit_at = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    if let (Ok(number), Ok(one), false) =
        (number.parse::<u64>(), parse_size(&format!("1{unit}")), unit.starts_with('.'))
    {
        assert_eq!(size, number.saturating_mul(one), "{text:?}");
    }
}
