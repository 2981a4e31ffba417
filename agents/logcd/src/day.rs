//! The names of archives, drafts and indexes, and the days in them.

use crate::archive::codec::Codec;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

const BEFORE: &str = "all-logs-";

/// The time zone whose midnight ends a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar(pub TimeZone);

impl Calendar {
    pub fn new(utc: bool) -> Calendar {
        Calendar(if utc { TimeZone::UTC } else { TimeZone::system() })
    }

    pub fn at(&self, time: Timestamp) -> Zoned {
        time.to_zoned(self.0.clone())
    }

    pub fn day(&self, time: Timestamp) -> Date {
        self.at(time).date()
    }

    /// Returns the time as a suffix for superseded content.
    pub fn suffix(&self, time: Timestamp) -> String {
        self.at(time).strftime(".%Y%m%dT%H%M%S").to_string()
    }
}

pub fn archive_name(day: Date, codec: Codec) -> String {
    format!("{BEFORE}{day}{}", codec.suffix())
}

/// Parses an archive's name into its day and kind.
pub fn day_of(name: &str) -> Option<(Date, Codec)> {
    let rest = name.strip_prefix(BEFORE)?;
    let codec = Codec::ALL.into_iter().find(|codec| rest.ends_with(codec.suffix()))?;
    let day: Date = rest.strip_suffix(codec.suffix())?.parse().ok()?;
    // Accepts only names that logcd makes: a parser may accept several spellings of a day.
    (archive_name(day, codec) == name).then_some((day, codec))
}

/// Returns the name of an index: hidden, and without the suffix of an archive, so that `find -name '*.gz'`
/// shows archives only.
pub fn index_name(archive: &str) -> String {
    format!(".{archive}.index")
}

/// Returns the name of an archive or index while it is written.
pub fn draft_name(target: &str) -> String {
    format!(".{}.draft", target.trim_start_matches('.'))
}

pub fn is_draft(name: &str) -> bool {
    name.starts_with(&format!(".{BEFORE}")) && name.ends_with(".draft")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_name_is_its_day() {
        let day: Date = "2026-11-21".parse().unwrap();
        for (codec, name) in
            [(Codec::Gzip, "all-logs-2026-11-21.tar.gz"), (Codec::Zstd, "all-logs-2026-11-21.tar.zst")]
        {
            assert_eq!(archive_name(day, codec), name);
            assert_eq!(day_of(name), Some((day, codec)));
        }
        for other in [
            "all-logs-20261121.tar.gz",
            "all-logs-2026-13-01.tar.gz",
            "all-logs-2026-11-21.tar.gz.damaged",
            "all-logs-2026-11-21.tar",
            "x",
        ] {
            assert_eq!(day_of(other), None, "{other}");
        }
    }

    #[test]
    fn drafts_and_indexes_are_not_archives() {
        let archive = "all-logs-2026-11-21.tar.gz";
        for target in [archive.to_owned(), index_name(archive)] {
            let draft = draft_name(&target);
            assert!(is_draft(&draft), "{draft}");
            assert!(!is_draft(&target));
            assert!(!draft.ends_with(".gz") && !index_name(archive).ends_with(".gz"));
        }
    }

    #[test]
    fn day_changes_at_local_midnight() {
        let time: Timestamp = "2026-11-20T23:30:00Z".parse().unwrap();
        let berlin = Calendar(TimeZone::get("Europe/Berlin").unwrap());
        assert_eq!(Calendar::new(true).day(time).to_string(), "2026-11-20");
        assert_eq!(berlin.day(time).to_string(), "2026-11-21");
        assert_eq!(berlin.suffix(time), ".20261121T003000");
    }
}
