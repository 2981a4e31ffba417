//! Decides where new lines go in the spool, and which segments are dropped when it is full. Does no I/O.

use std::collections::VecDeque;

/// A file of whole lines that is sent as one batch and removed with its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
}

/// The segments in the order of their numbers. Only the last one may be open, that is, still grow.
#[derive(Debug)]
pub(crate) struct Segments {
    list: VecDeque<Segment>,
    bytes: u64,
    next_number: u64,
    last_is_open: bool,
    segment_bytes_max: u64,
    bytes_max: u64,
}

/// The changes on the disk that an addition needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SegmentSlot {
    pub(crate) dropped: Vec<Segment>,
    pub(crate) number: u64,
    pub(crate) is_new: bool,
}

impl Segments {
    /// Starts with `found`, the segments of an earlier run. None of them grows any more.
    pub(crate) fn new(mut found: Vec<Segment>, segment_bytes_max: u64, bytes_max: u64) -> Segments {
        found.sort_by_key(|segment| segment.number);
        let bytes = found.iter().map(|segment| segment.bytes).sum();
        let next_number = found.last().map_or(1, |last| last.number + 1);
        Segments { list: found.into(), bytes, next_number, last_is_open: false, segment_bytes_max, bytes_max }
    }

    pub(crate) fn head(&self) -> Option<Segment> {
        self.list.front().copied()
    }

    pub(crate) fn lines(&self) -> u64 {
        self.list.iter().map(|segment| segment.lines).sum()
    }

    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    /// Chooses the segment for this many bytes. With `dropping`, the oldest segments are removed until they
    /// fit, but never the one that is being sent.
    pub(crate) fn place(&mut self, bytes: u64, in_flight: Option<u64>, dropping: bool) -> SegmentSlot {
        let mut dropped = Vec::new();
        while dropping && !self.fits(bytes) {
            let Some(oldest) = self.drop_oldest(in_flight) else { break };
            dropped.push(oldest);
        }
        match self.list.back() {
            Some(last) if self.last_is_open && last.bytes + bytes <= self.segment_bytes_max => {
                SegmentSlot { dropped, number: last.number, is_new: false }
            }
            _ => {
                let number = self.next_number;
                self.next_number += 1;
                self.list.push_back(Segment { number, bytes: 0, lines: 0 });
                self.last_is_open = true;
                SegmentSlot { dropped, number, is_new: true }
            }
        }
    }

    /// Removes the oldest segment that is not being sent.
    pub(crate) fn drop_oldest(&mut self, in_flight: Option<u64>) -> Option<Segment> {
        let oldest = self.list.iter().find(|segment| Some(segment.number) != in_flight)?;
        self.remove(oldest.number)
    }

    /// Counts bytes that were written to the last segment's file.
    pub(crate) fn grown(&mut self, bytes: u64, lines: u64) {
        if let Some(last) = self.list.back_mut() {
            last.bytes += bytes;
            last.lines += lines;
            self.bytes += bytes;
        }
    }

    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.last_is_open && self.list.back().is_some_and(|last| last.number == number)
    }

    /// Seals the last segment before it is sent, so that it does not grow any more.
    pub(crate) fn seal_last(&mut self) -> Option<u64> {
        self.last_is_open = false;
        self.list.back().map(|last| last.number)
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Segment> {
        let index = self.list.iter().position(|segment| segment.number == number)?;
        if index + 1 == self.list.len() {
            self.last_is_open = false;
        }
        let segment = self.list.remove(index)?;
        self.bytes -= segment.bytes;
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64),
        Send,
        Receipt,
        Fail,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => (1_u64..40).prop_map(Step::Add), 1 => Just(Step::Send), 1 => Just(Step::Receipt), 1 => Just(Step::Fail)]
    }

    proptest! {
        /// Compares with a model: one queue of additions, each with the segment that it was put into.
        #[test]
        fn only_the_oldest_segments_are_dropped(steps in prop::collection::vec(step(), 1..80)) {
            let mut segments = Segments::new(vec![Segment { number: 7, bytes: 30, lines: 3 }], 50, 200);
            let mut model: VecDeque<(u64, u64)> = VecDeque::from([(7, 30)]);
            let mut in_flight = None;
            for step in steps {
                match step {
                    Step::Add(bytes) => {
                        let place = segments.place(bytes, in_flight, true);
                        for gone in &place.dropped {
                            let oldest = model.iter().find(|(number, _)| Some(*number) != in_flight).unwrap().0;
                            prop_assert_eq!(gone.number, oldest);
                            model.retain(|(number, _)| *number != oldest);
                        }
                        prop_assert!(place.dropped.is_empty() || place.dropped.last().unwrap().bytes + segments.bytes + bytes > 200, "no more than needed");
                        segments.grown(bytes, 1);
                        prop_assert!(model.back().is_none_or(|(last, _)| *last + u64::from(place.is_new) <= place.number));
                        model.push_back((place.number, bytes));
                    }
                    Step::Send => {
                        in_flight = segments.head().map(|head| head.number);
                        segments.seal_last();
                    }
                    Step::Receipt => {
                        if let Some(number) = in_flight.take() {
                            prop_assert_eq!(segments.remove(number).unwrap().number, number);
                            model.retain(|(other, _)| *other != number);
                        }
                    }
                    Step::Fail => in_flight = None,
                }
                prop_assert_eq!(segments.bytes, model.iter().map(|(_, bytes)| bytes).sum::<u64>());
                prop_assert!(segments.bytes <= 200);
                prop_assert_eq!(segments.head().map(|head| head.number), model.front().map(|(number, _)| *number));
            }
        }
    }
}
