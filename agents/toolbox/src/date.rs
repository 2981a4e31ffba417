//! `date`: the time, in GNU's formats. The crate uu_date is not used, since it contains the calendars of all
//! languages, a fifth of the whole binary.

use clap::Parser;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::ffi::OsString;
use std::io::Write;

const DEFAULT: &str = "%a %b %e %H:%M:%S %Z %Y";
const EMAIL: &str = "%a, %d %b %Y %H:%M:%S %z";

/// Print the time.
#[derive(Debug, Parser)]
#[command(name = "date", version)]
struct Arguments {
    /// As +%F, with time of day as +%FT%T%:z
    #[arg(short = 'I', long, value_name = "date|seconds", num_args = 0..=1, require_equals = true, default_missing_value = "date")]
    iso_8601: Option<String>,

    /// As in emails
    #[arg(short = 'R', long)]
    rfc_email: bool,

    /// UTC
    #[arg(short = 'u', long, visible_alias = "universal")]
    utc: bool,

    /// Not now, but @SECONDS or a time such as 2026-11-21T08:44:24Z
    #[arg(short = 'd', long, value_name = "TIME")]
    date: Option<String>,

    /// Such as +%s or +%F
    #[arg(value_name = "+FORMAT")]
    format: Option<String>,
}

pub fn main(argv: Vec<OsString>) -> i32 {
    let arguments = match Arguments::try_parse_from(argv) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return i32::from(error.use_stderr());
        }
    };
    match answer(&arguments) {
        Ok(line) => i32::from(writeln!(std::io::stdout(), "{line}").is_err()),
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "date: {why}");
            1
        }
    }
}

fn answer(arguments: &Arguments) -> Result<String, String> {
    let format = match (&arguments.format, arguments.iso_8601.as_deref()) {
        (Some(format), _) => {
            format.strip_prefix('+').ok_or_else(|| format!("{format}: a format begins with +"))?
        }
        (None, Some("date")) => "%F",
        (None, Some("seconds")) => "%FT%T%:z",
        (None, Some(other)) => return Err(format!("{other}: expected date or seconds")),
        (None, None) if arguments.rfc_email => EMAIL,
        (None, None) => DEFAULT,
    };
    let zone = if arguments.utc { TimeZone::UTC } else { TimeZone::system() };
    let now = match &arguments.date {
        Some(text) => time(text, &zone).map_err(|e| format!("invalid date '{text}': {e}"))?,
        None => Zoned::now().with_time_zone(zone),
    };
    BrokenDownTime::from(&now).to_string(format).map_err(|e| format!("{format}: {e}"))
}

fn time(text: &str, zone: &TimeZone) -> Result<Zoned, jiff::Error> {
    if let Some(seconds) = text.strip_prefix('@').and_then(|seconds| seconds.parse().ok()) {
        return Ok(Timestamp::from_second(seconds)?.to_zoned(zone.clone()));
    }
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(time.to_zoned(zone.clone())),
        Err(_) => text.parse::<jiff::civil::DateTime>()?.to_zoned(zone.clone()),
    }
}
