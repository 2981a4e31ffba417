//! Walks through the segments of a log, from group to group. Reports damage, and checks that the log is
//! complete: each segment continues the one before, and all segments that the head names exist.

use super::LogError;
use super::frame::{self, Frame};
use super::head::{self, Head};
use super::segment::{self, End, Header};
use std::path::{Path, PathBuf};

/// Something that cannot be read, or is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// The offset in the file, if the file exists.
    pub offset: Option<u64>,
    pub why: String,
}

impl Damage {
    pub fn error(self, dir: &Path) -> LogError {
        let (path, why, dir) = (self.path, self.why, dir.to_owned());
        match self.offset {
            Some(offset) => LogError::Damaged { path, offset, why, dir },
            None => LogError::Incomplete { path, why, dir },
        }
    }
}

/// Decides if the walk continues after a damage.
pub type OnDamage<'a> = dyn FnMut(Damage) -> Result<(), LogError> + 'a;

pub struct Walk<'a> {
    place: &'a Path,
    head: Option<Head>,
    on_damage: &'a mut OnDamage<'a>,
    /// The number of the next segment; unknown before the first segment of a log without a head.
    expected: Option<u32>,
    /// The end of the previous segment, if it was read to its end.
    before: Option<End>,
    headless: bool,
    next_group: Option<u64>,
}

/// The end of the last whole group of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupsEnd {
    pub offset: usize,
    /// The checksum of that group; 0 if the segment has none.
    pub checksum: u32,
    pub next_group: u64,
}

impl<'a> Walk<'a> {
    pub fn new(place: &'a Path, head: Option<Head>, on_damage: &'a mut OnDamage<'a>) -> Walk<'a> {
        let expected = head.map(|head| head.oldest);
        Walk { place, head, on_damage, expected, before: None, headless: false, next_group: None }
    }

    fn report(&mut self, segment: u32, offset: Option<u64>, why: String) -> Result<(), LogError> {
        (self.on_damage)(Damage { path: segment::path(self.place, segment), offset, why })
    }

    fn missing(&mut self, from: u32, to: u32) -> Result<(), LogError> {
        let why = match from == to {
            true => "is missing".to_owned(),
            false => format!("is missing, and so are all up to {}", segment::name(to)),
        };
        self.report(from, None, why)
    }

    /// Reads the header of the next segment, if that is possible.
    pub fn header(&mut self, number: u32, bytes: &[u8]) -> Result<Option<Header>, LogError> {
        self.check_number(number)?;
        match Header::decode(bytes, &segment::path(self.place, number)) {
            Ok(header) if header.number == number => self.check_header(&header).map(|()| Some(header)),
            Ok(_) => {
                let why = "its header has another segment's number".to_owned();
                self.report(number, Some(0), why).map(|()| None)
            }
            Err(LogError::Damaged { offset, why, .. }) => {
                self.report(number, Some(offset), why).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    fn check_number(&mut self, number: u32) -> Result<(), LogError> {
        let expected = std::mem::replace(&mut self.expected, number.checked_add(1));
        if let Some(expected) = expected.filter(|expected| number > *expected) {
            self.before = None;
            return self.missing(expected, number - 1);
        }
        // A segment may have been begun that the head does not name yet.
        match self.head.map(|head| head.newest).filter(|newest| number > newest.saturating_add(1)) {
            None => Ok(()),
            Some(newest) => {
                let why = format!("is newer than the newest segment in the head, {}", segment::name(newest));
                self.report(number, None, why)
            }
        }
    }

    fn check_header(&mut self, header: &Header) -> Result<(), LogError> {
        let before = self.before.take().filter(|_| self.next_group == Some(header.first_group));
        if self.head.is_some_and(|head| head.epoch != header.epoch) {
            return self.report(header.number, None, "belongs to another log".to_owned());
        }
        if header.version > 1 && self.head.is_none() && !self.headless {
            self.headless = true;
            let (path, why) = (head::path(self.place), "is missing or damaged".to_owned());
            return (self.on_damage)(Damage { path, offset: None, why });
        }
        match (before, header.previous) {
            (Some(before), Some(previous)) if before != previous => {
                let why = format!("does not continue segment {}", segment::name(header.number - 1));
                self.report(header.number, None, why)
            }
            _ => Ok(()),
        }
    }

    /// Passes the groups of one segment to `on_group`; returns their end.
    pub fn groups(
        &mut self,
        bytes: &[u8],
        header: &Header,
        is_last: bool,
        mut on_group: impl FnMut(&Frame<'_>, usize) -> Result<(), String>,
    ) -> Result<GroupsEnd, LogError> {
        if let Some(expected) = self.next_group.filter(|next| *next != header.first_group) {
            let why = format!("groups {expected} to {} before it are missing", header.first_group);
            self.report(header.number, Some(0), why)?;
        }
        let mut end = GroupsEnd { offset: header.bytes(), checksum: 0, next_group: header.first_group };
        let mut whole = true;
        loop {
            let here = frame::open(bytes, end.offset, header.nonce);
            if let Some(frame) = here.filter(|frame| frame.group == end.next_group) {
                on_group(&frame, end.offset)
                    .or_else(|why| self.report(header.number, Some(end.offset as u64), why))?;
                let (offset, next_group) = (end.offset + frame.bytes(), frame.group + 1);
                end = GroupsEnd { offset, checksum: frame.checksum, next_group };
                continue;
            }
            // Either the end or a hole. A group after the hole shows whether the missing ones had to be on
            // the disk when it was written.
            let Some((found, frame)) = frame::find(bytes, end.offset, header.nonce) else { break };
            if is_last && frame.synced() < end.next_group {
                break;
            }
            whole = false;
            let why = match here {
                Some(other) => format!("group {} is here instead of group {}", other.group, end.next_group),
                None => format!("the checksum is wrong; the next sound group is at byte {found}"),
            };
            self.report(header.number, Some(end.offset as u64), why)?;
            (end.offset, end.next_group) = (found, frame.group);
        }
        self.next_group = Some(end.next_group);
        self.before = whole.then_some(End { nonce: header.nonce, checksum: end.checksum });
        Ok(end)
    }

    /// Checks for missing segments or groups after the last segment.
    pub fn finish(&mut self) -> Result<(), LogError> {
        let Some(head) = self.head else { return Ok(()) };
        let (expected, next) = (self.expected.unwrap_or(head.newest), self.next_group.unwrap_or_default());
        if expected <= head.newest {
            self.missing(expected, head.newest)
        } else if next <= head.group {
            self.report(expected - 1, None, format!("lacks groups {next} to {} at its end", head.group))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { epoch: 7, oldest: 3, newest: 5, group: 50 };

    /// Walks as `steps` say; returns the damage that is reported.
    fn damage(head: Option<Head>, steps: impl FnOnce(&mut Walk<'_>)) -> Vec<String> {
        let mut all = Vec::new();
        let mut on_damage = |damage: Damage| {
            all.push(format!("{} {}", damage.path.display(), damage.why));
            Ok(())
        };
        steps(&mut Walk::new(Path::new("/d"), head, &mut on_damage));
        all
    }

    fn numbers(numbers: &[u32], next_group: u64) -> impl FnOnce(&mut Walk<'_>) {
        move |walk| {
            numbers.iter().for_each(|number| walk.check_number(*number).unwrap());
            walk.next_group = Some(next_group);
            walk.finish().unwrap();
        }
    }

    #[test]
    fn all_segments_of_the_head_are_needed() {
        for complete in [&[3, 4, 5][..], &[2, 3, 4, 5], &[3, 4, 5, 6]] {
            assert_eq!(damage(Some(HEAD), numbers(complete, 51)), [""; 0], "{complete:?}");
        }
        for (found, next_group, expected) in [
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
            assert_eq!(damage(Some(HEAD), numbers(found, next_group)), [expected], "{found:?}");
        }
    }

    #[test]
    fn without_a_head_only_gaps_are_seen() {
        assert_eq!(damage(None, numbers(&[2, 3], 9)), [""; 0]);
        assert_eq!(damage(None, numbers(&[2, 4], 9)), ["/d/0000000003.log is missing"]);
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
            let found = damage(Some(HEAD), |walk| {
                (walk.before, walk.next_group) = (before, Some(40));
                walk.check_header(&Header { epoch, ..next }).unwrap();
            });
            assert_eq!(found.is_empty(), sound, "{before:?} {epoch}");
        }
        let headless = damage(None, |walk| walk.check_header(&next).unwrap());
        assert_eq!(headless, ["/d/head is missing or damaged"]);
        let first = Header { version: 1, previous: None, ..next };
        assert_eq!(damage(None, |walk| walk.check_header(&first).unwrap()), [""; 0]);
    }
}
