//! Checks that a log is complete: each segment continues the one before, and all segments that the head names
//! exist.

use super::head::{self, Head};
use super::reading::Damage;
use super::segment::{self, End, Header};
use std::path::{Path, PathBuf};

/// Follows the segments of a log in their order and reports what is missing.
#[derive(Debug)]
pub struct Completeness {
    dir: PathBuf,
    head: Option<Head>,
    /// The number of the next segment; unknown before the first segment of a log without a head.
    expected: Option<u32>,
    /// The end of the previous segment, if it was read to its end.
    before: Option<End>,
    headless: bool,
}

impl Completeness {
    pub fn new(dir: &Path, head: Option<Head>) -> Completeness {
        let expected = head.map(|head| head.oldest);
        Completeness { dir: dir.to_owned(), head, expected, before: None, headless: false }
    }

    fn missing(&self, from: u32, to: u32) -> Damage {
        let path = segment::path(&self.dir, from);
        let why = match from == to {
            true => "is missing".to_owned(),
            false => format!("is missing, and so are all up to {}", segment::name(to)),
        };
        Damage { path, offset: None, why }
    }

    /// Accepts the next file that exists.
    pub fn file(&mut self, number: u32) -> Option<Damage> {
        let expected = match self.expected {
            Some(expected) if number > expected => {
                self.before = None;
                Some(self.missing(expected, number - 1))
            }
            _ => None,
        };
        self.expected = number.checked_add(1);
        expected.or_else(|| {
            // A segment may have been begun that the head does not name yet.
            let newest = self.head?.newest;
            (number > newest.saturating_add(1)).then(|| {
                let why = format!("is newer than the newest segment in the head, {}", segment::name(newest));
                Damage { path: segment::path(&self.dir, number), offset: None, why }
            })
        })
    }

    /// Accepts the header of that file. `continues` is true if its groups follow those read before.
    pub fn header(&mut self, header: &Header, continues: bool) -> Option<Damage> {
        let path = segment::path(&self.dir, header.number);
        if self.head.is_some_and(|head| head.epoch != header.epoch) {
            return Some(Damage { path, offset: None, why: "belongs to another log".to_owned() });
        }
        if header.version > 1 && self.head.is_none() && !self.headless {
            self.headless = true;
            let why = "is missing or damaged".to_owned();
            return Some(Damage { path: head::path(&self.dir), offset: None, why });
        }
        let (before, previous) = (self.before.take().filter(|_| continues)?, header.previous?);
        (before != previous).then(|| {
            let why = format!("does not continue segment {}", segment::name(header.number - 1));
            Damage { path, offset: None, why }
        })
    }

    /// Accepts the end of the segment, if it could be read to its end.
    pub fn end(&mut self, end: Option<End>) {
        self.before = end;
    }

    /// Checks the end of the log, after the last file: `next_group` would be the number of the next group.
    pub fn finish(&self, next_group: u64) -> Option<Damage> {
        let head = self.head?;
        let expected = self.expected.unwrap_or(head.newest);
        if expected <= head.newest {
            return Some(self.missing(expected, head.newest));
        }
        (next_group <= head.group).then(|| {
            let why = format!("lacks groups {next_group} to {} at its end", head.group);
            Damage { path: segment::path(&self.dir, expected - 1), offset: None, why }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { epoch: 7, oldest: 3, newest: 5, group: 50 };

    fn damage(head: Option<Head>, numbers: &[u32], next_group: u64) -> Vec<String> {
        let mut completeness = Completeness::new(Path::new("/d"), head);
        let mut all = Vec::new();
        for number in numbers {
            all.extend(completeness.file(*number));
        }
        all.extend(completeness.finish(next_group));
        all.into_iter().map(|damage| format!("{} {}", damage.path.display(), damage.why)).collect()
    }

    #[test]
    fn all_segments_of_the_head_are_needed() {
        for complete in [&[3, 4, 5][..], &[2, 3, 4, 5], &[3, 4, 5, 6]] {
            assert_eq!(damage(Some(HEAD), complete, 51), [""; 0], "{complete:?}");
        }
        for (numbers, next_group, expected) in [
            (&[4, 5][..], 51, "/d/0000000003.log is missing"),
            (&[5], 51, "/d/0000000003.log is missing, and so are all up to 0000000004.log"),
            (&[3, 5], 51, "/d/0000000004.log is missing"),
            (&[3, 4], 51, "/d/0000000005.log is missing"),
            (&[], 1, "/d/0000000003.log is missing, and so are all up to 0000000005.log"),
            (&[3, 4, 5], 50, "/d/0000000005.log lacks groups 50 to 50 at its end"),
            (
                &[3, 4, 5, 6, 7],
                60,
                "/d/0000000007.log is newer than the newest segment in the head, 0000000005.log",
            ),
        ] {
            assert_eq!(damage(Some(HEAD), numbers, next_group), [expected], "{numbers:?}");
        }
    }

    #[test]
    fn without_a_head_only_gaps_are_seen() {
        assert_eq!(damage(None, &[2, 3], 9), [""; 0]);
        assert_eq!(damage(None, &[2, 4], 9), ["/d/0000000003.log is missing"]);
    }

    #[test]
    fn a_segment_continues_the_end_of_the_one_before() {
        let end = End { nonce: 1, checksum: 2 };
        let next = Header::new(4, 7, 40, Some(end));
        for (before, epoch, sound) in [
            (Some(end), 7, true),
            (None, 7, true),
            (Some(End { checksum: 3, ..end }), 7, false),
            (Some(end), 8, false),
        ] {
            let mut completeness = Completeness::new(Path::new("/d"), Some(HEAD));
            completeness.file(3);
            completeness.end(before);
            completeness.file(4);
            assert_eq!(
                completeness.header(&Header { epoch, ..next }, true).is_none(),
                sound,
                "{before:?} {epoch}"
            );
        }
        let mut headless = Completeness::new(Path::new("/d"), None);
        assert_eq!(headless.header(&next, true).map(|damage| damage.path), Some(PathBuf::from("/d/head")));
        assert_eq!(headless.header(&Header { version: 1, previous: None, ..next }, true), None);
    }
}
