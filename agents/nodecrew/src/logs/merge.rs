//! Merges the lines of many nodes into one stream in order of time.

use jiff::Timestamp;
use kit::line_records::LineRecord;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Lines in the order in which they were written.
pub trait Lines {
    fn next_line(&mut self) -> Option<LineRecord>;
}

/// Passes the lines of all streams to `take`, each with the number of its stream, until `take` fails.
///
/// The lines of one stream keep their order. A line without a time, or with an earlier time than the line
/// before it, counts as written at the time of that line.
pub fn merge<S: Lines, E>(
    streams: &mut [S],
    mut take: impl FnMut(usize, LineRecord) -> Result<(), E>,
) -> Result<(), E> {
    let mut latest = vec![Timestamp::MIN; streams.len()];
    let mut next: Vec<Option<LineRecord>> = Vec::new();
    let mut order = BinaryHeap::new();
    for (number, stream) in streams.iter_mut().enumerate() {
        let line = stream.next_line();
        order.extend(line.as_ref().map(|line| Reverse((advance(&mut latest[number], line), number))));
        next.push(line);
    }
    while let Some(Reverse((_, number))) = order.pop() {
        // The line is passed on before the next one is awaited.
        if let Some(line) = next[number].take() {
            take(number, line)?;
        }
        let line = streams[number].next_line();
        order.extend(line.as_ref().map(|line| Reverse((advance(&mut latest[number], line), number))));
        next[number] = line;
    }
    Ok(())
}

fn advance(latest: &mut Timestamp, line: &LineRecord) -> Timestamp {
    *latest = line.time.map_or(*latest, |time| time.max(*latest));
    *latest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    impl Lines for std::vec::IntoIter<LineRecord> {
        fn next_line(&mut self) -> Option<LineRecord> {
            self.next()
        }
    }

    fn line(second: Option<i64>, number: usize) -> LineRecord {
        let time = second.map(|second| Timestamp::from_second(second).unwrap());
        LineRecord { time, origin: "".into(), line: number.to_string().into_bytes() }
    }

    fn merged(streams: &[Vec<LineRecord>]) -> Vec<(usize, LineRecord)> {
        let mut streams: Vec<_> = streams.iter().map(|lines| lines.clone().into_iter()).collect();
        let mut merged = Vec::new();
        let Ok(()) = merge(&mut streams, |number, line| {
            merged.push((number, line));
            Ok::<(), Infallible>(())
        });
        merged
    }

    proptest! {
        #[test]
        fn every_stream_keeps_its_lines_and_order(times in prop::collection::vec(prop::collection::vec(prop::option::of(0i64..50), 0..20), 0..5)) {
            let of = |times: &Vec<Option<i64>>| times.iter().enumerate().map(|(number, second)| line(*second, number)).collect();
            let streams: Vec<Vec<LineRecord>> = times.iter().map(of).collect();
            let merged = merged(&streams);
            for (number, stream) in streams.iter().enumerate() {
                let own: Vec<_> = merged.iter().filter(|(of, _)| *of == number).map(|(_, line)| line.clone()).collect();
                prop_assert_eq!(&own, stream);
            }
        }

        #[test]
        fn ordered_streams_give_one_order(times in prop::collection::vec(prop::collection::vec(0i64..50, 0..20), 0..5)) {
            let of = |times: &Vec<i64>| {
                let mut times = times.clone();
                times.sort_unstable();
                times.into_iter().enumerate().map(|(number, second)| line(Some(second), number)).collect()
            };
            let streams: Vec<Vec<LineRecord>> = times.iter().map(of).collect();
            let merged = merged(&streams);
            prop_assert!(merged.is_sorted_by_key(|(number, line)| (line.time, *number)));
        }
    }
}
