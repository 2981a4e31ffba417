//! The order in which places are read, and the times by which lines are sorted.

use super::line_source::LineSource;
use crate::pods::veil::Span;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Limit on the time by which lines of a container may go back and still stay in the order of its logs.
/// Container runtimes write such lines, usually where a log was rotated.
pub(super) const BACK_MAX: SignedDuration = SignedDuration::from_secs(60);

/// A file, or a part of one, with lines that may be wanted.
pub(super) struct LinePlace {
    pub(super) namespace: Rc<str>,
    pub(super) span: Span,
    /// The position of the place in the order of the namespace's logs.
    pub(super) rank: usize,
    /// A lower limit on the sort times of the lines in this place and in those after it.
    pub(super) begin: Timestamp,
    pub(super) source: LineSource,
}

impl LinePlace {
    /// Creates a place. Its rank and beginning are set once all places are known.
    pub(super) fn new(namespace: Rc<str>, span: Span, source: LineSource) -> LinePlace {
        LinePlace { namespace, span, rank: 0, begin: Timestamp::MIN, source }
    }
}

/// Returns the time by which a line is sorted. That is the time of the line before it, if its own time is
/// missing or a little earlier.
pub(super) fn sort_time_of(own: Option<Timestamp>, last: Option<Timestamp>) -> Option<Timestamp> {
    match (own, last) {
        (Some(own), Some(last)) if last.duration_since(own) > BACK_MAX => Some(own),
        _ => own.max(last),
    }
}

/// Sorts places into reading order, and sets their beginnings. The places of a namespace have the order of its
/// logs, and keep it if their times go back by up to [`BACK_MAX`]. A later place whose times go back further
/// has other containers' lines, and is read earlier. Places without times come first.
pub(super) fn in_reading_order(mut places: Vec<LinePlace>) -> Vec<LinePlace> {
    let mut later_places: HashMap<Rc<str>, Beginnings> = HashMap::new();
    for (rank, place) in places.iter_mut().enumerate().rev() {
        place.rank = rank;
        if let Some((first, _)) = place.span {
            let later = later_places.entry(place.namespace.clone()).or_default();
            let from = first.checked_sub(BACK_MAX).unwrap_or(Timestamp::MIN);
            place.begin = later.earliest(from).map_or(first, |begin| begin.min(first));
            later.add(first, place.begin);
        }
    }
    places.sort_by_key(|place| place.begin);
    places
}

/// Maps the first times of places to their beginnings. Both ascend: an entry is dropped if one with the same
/// or a later first time begins no later.
#[derive(Default)]
struct Beginnings(BTreeMap<Timestamp, Timestamp>);

impl Beginnings {
    fn add(&mut self, first: Timestamp, begin: Timestamp) {
        if self.earliest(first).is_some_and(|earliest| earliest <= begin) {
            return;
        }
        while let Some((hidden, _)) = self.0.range(..=first).next_back().filter(|(_, other)| **other >= begin)
        {
            let hidden = *hidden;
            self.0.remove(&hidden);
        }
        self.0.insert(first, begin);
    }

    /// Returns the earliest beginning of the places whose first time is at or after `from`.
    fn earliest(&self, from: Timestamp) -> Option<Timestamp> {
        self.0.range(from..).next().map(|(_, begin)| *begin)
    }
}
