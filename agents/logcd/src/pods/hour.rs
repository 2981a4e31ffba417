//! The names of a namespace's archives: one for each hour, and further parts if an hour is large.

use crate::archive::codec::Codec;
use jiff::civil::{Date, DateTime};
use std::fmt;
use std::str::FromStr;

/// The name of an archive: `2026-11-28T14.tar.gz`, or `2026-11-28T14.2.tar.gz` for the second part of the
/// hour. With `--zstd` it ends in `.tar.zst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveName {
    day: Date,
    hour: i8,
    /// The number of the part, from 1. The name of part 1 has no number.
    part: u32,
    codec: Codec,
}

impl ArchiveName {
    /// Names the first part of the hour that contains this time.
    pub fn at(time: DateTime, codec: Codec) -> ArchiveName {
        ArchiveName { day: time.date(), hour: time.hour(), part: 1, codec }
    }

    pub fn codec(self) -> Codec {
        self.codec
    }

    pub fn day(self) -> Date {
        self.day
    }

    #[must_use]
    pub fn next_part(self, codec: Codec) -> ArchiveName {
        ArchiveName { part: self.part.saturating_add(1), codec, ..self }
    }

    pub fn is_same_hour(self, other: ArchiveName) -> bool {
        (self.day, self.hour) == (other.day, other.hour)
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{:02}", self.day, self.hour)?;
        let suffix = self.codec.suffix();
        match self.part {
            1 => write!(f, "{suffix}"),
            part => write!(f, ".{part}{suffix}"),
        }
    }
}

impl FromStr for ArchiveName {
    type Err = ();

    fn from_str(text: &str) -> Result<ArchiveName, ()> {
        let stem_of = |codec: Codec| Some((text.strip_suffix(codec.suffix())?, codec));
        let (stem, codec) = Codec::ALL.into_iter().find_map(stem_of).ok_or(())?;
        let (day, rest) = stem.split_once('T').ok_or(())?;
        let (hour, part) = match rest.split_once('.') {
            Some((hour, part)) => (hour, part.parse().map_err(drop)?),
            None => (rest, 1),
        };
        let hour = hour.parse().map_err(drop)?;
        let name = ArchiveName { day: day.parse().map_err(drop)?, hour, part, codec };
        // This program makes no other spelling.
        if (0..24).contains(&hour) && name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_hour_may_have_parts() {
        let first = ArchiveName::at("2026-11-28T14:59:59".parse().unwrap(), Codec::Gzip);
        assert_eq!(first.to_string(), "2026-11-28T14.tar.gz");
        let next = first.next_part(Codec::Zstd);
        assert_eq!(next.to_string(), "2026-11-28T14.2.tar.zst");
        assert!(first < next && first.is_same_hour(next));
        for name in [
            "2026-11-28T14.1.tar.gz",
            "2026-11-28T24.tar.gz",
            "2026-11-28T4.tar.gz",
            "2026-11-28.tar.gz",
            ".2026-11-28T14.tar.gz",
        ] {
            assert!(name.parse::<ArchiveName>().is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_come_back_and_sort_by_time(hours in prop::collection::vec((0i8..24, 1u32..5000, prop::sample::select(&Codec::ALL[..])), 2)) {
            let names: Vec<ArchiveName> = hours.iter().map(|(hour, part, codec)| ArchiveName { day: "2026-11-28".parse().unwrap(), hour: *hour, part: *part, codec: *codec }).collect();
            for name in &names {
                prop_assert_eq!(name.to_string().parse(), Ok(*name));
            }
            prop_assert_eq!(names[0].cmp(&names[1]), hours[0].cmp(&hours[1]));
        }
    }
}
