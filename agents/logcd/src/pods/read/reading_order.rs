//! The order in which places are read, and the times by which lines are sorted.

use crate::pods::veil::Span;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Limit on the time by which lines of a container may go back and still stay in the order of its logs.
/// Container runtimes write such lines, usually where a log was rotated.
const BACK_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Limit on the beginnings that are kept of a namespace. If there are more, the latest become inexact.
const BEGINNINGS_MAX: usize = 8192;
/// Limit on the beginnings that are kept for the members of one archive.
const EXCERPT_MAX: usize = 128;

/// The position of a place in the order of its namespace's logs. Live logs come after the archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Member { archive: u32, member: u32 },
    Live(usize),
}

/// The position of a place in reading order. Places are read in the order of their beginnings. An archive is
/// one place until it is reached. Then its members are places, none of which comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceKey {
    /// A lower limit on the sort times of the lines in this place and in those of higher rank. Places without
    /// times begin first.
    pub(super) begin: Timestamp,
    pub(super) rank: Rank,
}

/// Returns the time by which a line is sorted. That is the time of the line before it, if its own time is
/// missing or a little earlier.
pub(super) fn sort_time_of(own: Option<Timestamp>, last: Option<Timestamp>) -> Option<Timestamp> {
    match (own, last) {
        (Some(own), Some(last)) if last.duration_since(own) > BACK_MAX => Some(own),
        _ => own.max(last),
    }
}

/// The beginnings of some places of a namespace, from which those of places before them follow. The places
/// have the order of the namespace's logs, and keep it if their times go back by up to [`BACK_MAX`]. A later
/// place whose times go back further has other containers' lines, and is read earlier.
///
/// Maps the first times of places to their beginnings. Both ascend: an entry is dropped if one with the same or
/// a later first time begins no later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beginnings(BTreeMap<Timestamp, Timestamp>);

impl Beginnings {
    /// Returns the beginning of a place that comes right before all these places, and adds the place.
    pub(super) fn add(&mut self, span: Span) -> Timestamp {
        let Some((first, _)) = span else { return Timestamp::MIN };
        let begin = self.earliest(back_from(first)).map_or(first, |begin| begin.min(first));
        self.insert(first, begin);
        begin
    }

    /// Adds a place whose beginning is known.
    pub(super) fn insert(&mut self, first: Timestamp, begin: Timestamp) {
        if self.earliest(first).is_some_and(|earliest| earliest <= begin) {
            return;
        }
        while let Some((hidden, _)) = self.0.range(..=first).next_back().filter(|(_, other)| **other >= begin)
        {
            let hidden = *hidden;
            self.0.remove(&hidden);
        }
        self.0.insert(first, begin);
        if self.0.len() > BEGINNINGS_MAX {
            // The places that are added next are usually earlier than all these. They need the first entries.
            let half = self.0.keys().nth(BEGINNINGS_MAX / 2).copied().unwrap_or(Timestamp::MAX);
            let mut latest = Beginnings(self.0.split_off(&half));
            latest.thin_out(BEGINNINGS_MAX / 4);
            self.0.extend(latest.0);
        }
    }

    /// Returns the part that matters to places with these first times.
    pub(super) fn excerpt(&self, firsts: &RangeInclusive<Timestamp>) -> Beginnings {
        let entries = self.0.range(back_from(*firsts.start())..);
        let earlier = entries.take_while(|(_, begin)| *begin < firsts.end());
        let mut excerpt = Beginnings(earlier.map(|(first, begin)| (*first, *begin)).collect());
        excerpt.thin_out(EXCERPT_MAX);
        excerpt
    }

    /// Merges neighbours until at most this many entries are left. A merged entry begins as early as the
    /// earliest of its parts.
    fn thin_out(&mut self, entries_max: usize) {
        let neighbours = self.0.len().div_ceil(entries_max);
        if neighbours > 1 {
            let entries: Vec<_> = self.0.iter().map(|(first, begin)| (*first, *begin)).collect();
            let merged = |part: &[(Timestamp, Timestamp)]| Some((part.last()?.0, part.first()?.1));
            self.0 = entries.chunks(neighbours).filter_map(merged).collect();
        }
    }

    /// Returns the earliest beginning of the places whose first time is at or after `from`.
    fn earliest(&self, from: Timestamp) -> Option<Timestamp> {
        self.0.range(from..).next().map(|(_, begin)| *begin)
    }
}

fn back_from(time: Timestamp) -> Timestamp {
    time.checked_sub(BACK_MAX).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Returns the beginnings of places in the order of their namespace's logs.
    fn exact(firsts: &[i64]) -> Vec<i64> {
        let mut begins = firsts.to_vec();
        for place in (0..firsts.len()).rev() {
            let later = place + 1..firsts.len();
            let near = later.filter(|later| firsts[*later] >= firsts[place] - 60);
            begins[place] =
                near.map(|later| begins[later]).min().map_or(firsts[place], |b| b.min(firsts[place]));
        }
        begins
    }

    proptest! {
        /// An excerpt is as good as the whole. Thinned out, it still keeps the order of near places.
        #[test]
        fn excerpts_keep_places_in_order(firsts in prop::collection::vec(0i64..2000, 1..40), archive in 1usize..8, entries_max in 1usize..40) {
            let mut beginnings = Beginnings::default();
            let mut begins = Vec::new();
            for members in firsts.chunks(archive).rev() {
                let (least, most) = (members.iter().min().unwrap(), members.iter().max().unwrap());
                let mut excerpt = beginnings.excerpt(&(at(*least)..=at(*most)));
                excerpt.thin_out(entries_max);
                for first in members.iter().rev() {
                    let begin = excerpt.add(Some((at(*first), at(*first))));
                    beginnings.insert(at(*first), begin);
                    begins.push(begin.as_second());
                }
            }
            begins.reverse();
            if entries_max >= firsts.len() {
                prop_assert_eq!(&begins, &exact(&firsts));
            }
            for place in 0..firsts.len() {
                prop_assert!(begins[place] <= firsts[place]);
                let near = (place + 1..firsts.len()).filter(|later| firsts[*later] >= firsts[place] - 60);
                for later in near {
                    prop_assert!(begins[place] <= begins[later], "{:?} of {:?}", begins, firsts);
                }
            }
        }
    }

    #[test]
    fn beginnings_are_bounded() {
        let mut beginnings = Beginnings::default();
        for place in (0..50_000).rev() {
            assert_eq!(beginnings.add(Some((at(place), at(place)))), at(place));
            assert!(beginnings.0.len() <= BEGINNINGS_MAX);
        }
        // The first ones are exact.
        assert_eq!(beginnings.earliest(at(5)), Some(at(5)));
    }
}
