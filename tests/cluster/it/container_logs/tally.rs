//! Counts numbered lines by their writer, and finds those that are missing or there twice.

use std::collections::BTreeMap;
use std::fmt;

/// The lines of one writer: `WRITER NUMBER …` from 0 on, and at last `WRITER end COUNT`.
#[derive(Default)]
struct Counted {
    /// The number of times that each number came.
    times: Vec<u8>,
    ends: Vec<usize>,
}

impl Counted {
    /// Describes what is wrong, if anything is.
    fn fault(&self) -> Option<String> {
        let [end] = self.ends[..] else { return Some(format!("ends: {:?}", self.ends)) };
        let with = |wrong: fn(u8) -> bool| -> Vec<usize> {
            (0..self.times.len().max(end))
                .filter(|n| wrong(self.times.get(*n).copied().unwrap_or(0)))
                .collect()
        };
        let (missing, repeated) = (with(|times| times == 0), with(|times| times > 1));
        let shown = |numbers: &[usize]| format!("{} {:?}", numbers.len(), &numbers[..numbers.len().min(5)]);
        let is_right = missing.is_empty() && repeated.is_empty() && self.times.len() == end;
        (!is_right).then(|| format!("of {end} missing: {}, repeated: {}", shown(&missing), shown(&repeated)))
    }
}

#[derive(Default)]
pub struct Tally(BTreeMap<String, Counted>);

impl Tally {
    #[track_caller]
    pub fn add(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (Some(writer), Some(word)) = (words.next(), words.next()) else { panic!("torn: {line:?}") };
        let torn = |word: &str| -> usize { word.parse().unwrap_or_else(|_| panic!("torn: {line:?}")) };
        if !self.0.contains_key(writer) {
            self.0.insert(writer.to_owned(), Counted::default());
        }
        let counted = self.0.get_mut(writer).unwrap();
        if word == "end" {
            counted.ends.push(torn(words.next().unwrap_or_default()));
            return;
        }
        let number = torn(word);
        if counted.times.len() <= number {
            counted.times.resize(number + 1, 0);
        }
        counted.times[number] = counted.times[number].saturating_add(1);
    }

    pub fn lines(&self) -> usize {
        self.0.values().map(|counted| counted.times.len()).sum()
    }

    /// Checks that each expected writer is there, and that every writer has each of its lines once.
    #[track_caller]
    pub fn assert_complete(&self, expected: &[String], reader: &str) {
        let absent: Vec<_> = expected.iter().filter(|writer| !self.0.contains_key(*writer)).collect();
        assert!(absent.is_empty(), "{reader}: no line of {absent:?}");
        let faults: Vec<_> = self
            .0
            .iter()
            .filter_map(|(writer, counted)| Some(format!("{writer} {}", counted.fault()?)))
            .collect();
        assert!(faults.is_empty(), "{reader}: {faults:#?}");
    }

    /// True if the runs `NAME.1`, `NAME.2` and so on have no gap.
    pub fn is_complete_from_first_run(&self, name: &str) -> bool {
        let runs = self.0.keys().filter_map(|writer| writer.strip_prefix(name)?.strip_prefix('.'));
        let mut runs: Vec<usize> = runs.map(|run| run.parse().unwrap()).collect();
        runs.sort_unstable();
        !runs.is_empty() && runs.iter().copied().eq(1..=runs.len())
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(writer, counted)| (writer, counted.times.len()))).finish()
    }
}

#[test]
fn missing_and_repeated_lines_are_found() {
    let tally = |lines: &[&str]| {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add(line));
        tally.0["a"].fault()
    };
    assert_eq!(tally(&["a 0 x", "a 1 x", "a end 2"]), None);
    for lines in [
        &["a 0", "a end 2"][..],
        &["a 1", "a end 2"],
        &["a 0", "a 0", "a end 1"],
        &["a 0", "a 1", "a end 1"],
        &["a 0"],
        &["a 0", "a end 1", "a end 1"],
    ] {
        assert!(tally(lines).is_some(), "{lines:?}");
    }
}
