//! Prints the lines of many places in order of time, in bounded memory.

use super::{FoundArchive, LinePlace, LineSource, ReadFormat, ReadOptions};
use crate::archive::decoder::Decoder;
use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::cri::{CriLine, time_of};
use crate::pods::followed_log::ENTRY_BYTES_MAX;
use crate::pods::place::ContainerDir;
use flate2::read::MultiGzDecoder;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::rc::Rc;

/// Limit on the time by which lines of a container may go back and still stay in the order of its logs.
/// Container runtimes write such lines, usually where a log was rotated.
pub const BACK_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Limit on the bytes of lines that wait until no earlier line can follow. If more lines overlap in time, the
/// places are read several times.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Estimated memory of a waiting line besides its bytes.
const LINE_OVERHEAD_BYTES: usize = 192;
/// Limit on a line. A longer one is cut, as in archives.
const LINE_BYTES_MAX: usize = ENTRY_BYTES_MAX;
/// Limit on the unpacked bytes of a member. logcd's own members have less than half of this.
const MEMBER_BYTES_MAX: u64 = 4 << 20;
/// Limit on a joined line, because a container may never end its line. A longer one is cut.
const JOINED_BYTES_MAX: usize = 1 << 20;

/// The position of a line in the output. Lines with the same order are sorted by the order of their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    /// The time of the line, or that of the line before it if that is a little later.
    order: Timestamp,
    place: usize,
    /// The number of the line in its place.
    number: u64,
}

/// A line that is printed once no earlier line can follow.
struct PendingLine {
    dir: Rc<ContainerDir>,
    bytes: Vec<u8>,
    offset: u64,
}

/// The first unprinted line of a place.
#[derive(Clone, Copy)]
struct Unprinted {
    number: u64,
    /// The offset in a live log. Members are always read from their start.
    offset: u64,
    /// A lower limit on the order of the lines from here on.
    order: Timestamp,
    /// True if an earlier pass has read the place.
    is_begun: bool,
}

/// The order of the last line that was read of a container, with the rank of its place and the pass that read
/// it.
struct Latest {
    order: Timestamp,
    rank: usize,
    pass: u32,
}

/// The first parts of a line that is being joined.
struct Joined {
    time: Timestamp,
    content: Vec<u8>,
}

/// The last archive that was read. Its next member is often the next place.
#[derive(Default)]
struct LastArchive(Option<(Rc<FoundArchive>, Option<Rc<File>>)>);

impl LastArchive {
    /// Opens an archive. Returns `None` if it was removed.
    fn get(&mut self, archive: &Rc<FoundArchive>) -> io::Result<Option<Rc<File>>> {
        match &self.0 {
            Some((last, file)) if Rc::ptr_eq(last, archive) => Ok(file.clone()),
            _ => {
                let file = archive.open()?.map(Rc::new);
                self.0 = Some((archive.clone(), file.clone()));
                Ok(file)
            }
        }
    }
}

pub struct Merge<'a, W: Write> {
    options: &'a ReadOptions,
    out: W,
    /// The number of the first uncommitted entry.
    next_entry: u64,
    pending: BTreeMap<LineKey, PendingLine>,
    pending_bytes: usize,
    pending_bytes_max: usize,
    /// The last printed line.
    printed: Option<LineKey>,
    /// The first line that waits for the next pass.
    cut: Option<LineKey>,
    unprinted: Vec<Option<Unprinted>>,
    pass: u32,
    latest: HashMap<Rc<ContainerDir>, Latest>,
    /// The order of the line before each member, so that a later pass gives the member's lines the same keys.
    /// Only the containers for which this matters are listed.
    before: HashMap<usize, Vec<(Rc<ContainerDir>, Timestamp)>>,
    joined: HashMap<(Rc<ContainerDir>, String), Joined>,
    opened: LastArchive,
}

impl<'a, W: Write> Merge<'a, W> {
    pub fn new(options: &'a ReadOptions, out: W, next_entry: u64) -> Merge<'a, W> {
        Merge {
            options,
            out,
            next_entry,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            pending_bytes_max: PENDING_BYTES_MAX,
            printed: None,
            cut: None,
            unprinted: Vec::new(),
            pass: 0,
            latest: HashMap::new(),
            before: HashMap::new(),
            joined: HashMap::new(),
            opened: LastArchive::default(),
        }
    }

    /// Prints the lines of the places, which must be in reading order. Returns the number of passes.
    pub fn print(mut self, places: &[LinePlace]) -> Result<u32, ArchiveError> {
        let start = |place: &LinePlace| Unprinted {
            number: 0,
            offset: place.source.start(),
            order: place.begin,
            is_begun: false,
        };
        self.unprinted = places.iter().map(|place| Some(start(place))).collect();
        loop {
            self.cut = None;
            self.pass(places)?;
            self.print_before(Timestamp::MAX).map_err(written)?;
            if self.cut.is_none() {
                break;
            }
            self.pass += 1;
            self.before.retain(|at, _| self.unprinted.get(*at).is_some_and(Option::is_some));
        }
        for ((dir, stream), joined) in std::mem::take(&mut self.joined) {
            self.put(&dir, &stream, &joined).map_err(written)?;
        }
        self.out.flush().map_err(written)?;
        Ok(self.pass + 1)
    }

    /// Reads the places once, up to the cut.
    fn pass(&mut self, places: &[LinePlace]) -> Result<(), ArchiveError> {
        for (at, place) in places.iter().enumerate() {
            if self.cut.is_some_and(|cut| cut.order < place.begin) {
                break;
            }
            let Some(from) = self.unprinted.get_mut(at).and_then(Option::take) else { continue };
            self.print_before(place.begin).map_err(written)?;
            match &place.source {
                LineSource::Member { archive, place: range } => {
                    let from = Unprinted { order: place.begin, ..from };
                    let Some(file) =
                        self.opened.get(archive).map_err(ArchiveError::on("read", &archive.path))?
                    else {
                        continue;
                    };
                    self.take_member(at, place.rank, &file, range.clone(), from)
                        .map_err(ArchiveError::on("read", &archive.path))?;
                }
                LineSource::Live { dir, file, is_compressed, .. } => self
                    .take_live((at, place.rank), dir, file, from, *is_compressed)
                    .map_err(ArchiveError::doing(format!("read {dir}")))?,
            }
        }
        Ok(())
    }

    /// Takes the lines of a member, which each pass reads from its beginning. Its lines get the same keys in
    /// each pass, and the keys show which lines are printed already.
    fn take_member(
        &mut self,
        at: usize,
        rank: usize,
        archive: &File,
        range: Range<u64>,
        from: Unprinted,
    ) -> io::Result<()> {
        let packed = BufReader::new(FileRange { file: archive, range });
        let mut tar = tar::Archive::new(Decoder::new(packed)?.take(MEMBER_BYTES_MAX));
        let (mut number, mut orders) = (0, HashMap::new());
        for entry in tar.entries()? {
            let entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some((dir, entry_number)) = super::entry_of(&name) else { continue };
            // Lines of a later commit are printed from the live logs.
            if !self.options.wants(&dir) || entry_number >= self.next_entry {
                continue;
            }
            let dir =
                self.latest.get_key_value(&dir).map_or_else(|| Rc::new(dir.clone()), |(dir, _)| dir.clone());
            let mut last = orders.get(&dir).copied().or_else(|| self.before_member((at, rank), &dir, from));
            for_each_line(entry, |line| {
                let order = order_of(time_of(&line), last).map_or(from.order, |order| order.max(from.order));
                last = Some(order);
                let key = LineKey { order, place: at, number };
                number += 1;
                if self.printed.is_none_or(|printed| key > printed) {
                    self.take_line(key, &dir, line, 0);
                }
                true
            })?;
            orders.extend(last.map(|last| (dir, last)));
        }
        if !from.is_begun {
            let pass = self.pass;
            self.latest.extend(orders.into_iter().map(|(dir, order)| (dir, Latest { order, rank, pass })));
        }
        Ok(())
    }

    /// Returns the order of a container's line before those in a member. Lines up to the member's beginning
    /// do not count, nor do lines of a later place that was read earlier.
    fn before_member(
        &mut self,
        (at, rank): (usize, usize),
        dir: &Rc<ContainerDir>,
        from: Unprinted,
    ) -> Option<Timestamp> {
        if from.is_begun {
            let (_, order) = self.before.get(&at)?.iter().find(|(before, _)| before == dir)?;
            return Some(*order);
        }
        let before = self.latest.get(dir).filter(|latest| latest.rank < rank);
        let order = before.map(|latest| latest.order).filter(|order| *order > from.order)?;
        self.before.entry(at).or_default().push((dir.clone(), order));
        Some(order)
    }

    /// Takes the lines of a live log, up to the first line beyond the cut. A log of gigabytes is not read
    /// again from its start in each pass: its lines keep their order even if their times go back, so an
    /// offset separates the printed lines from the others.
    fn take_live(
        &mut self,
        (at, rank): (usize, usize),
        dir: &Rc<ContainerDir>,
        file: &File,
        from: Unprinted,
        is_compressed: bool,
    ) -> io::Result<()> {
        let Unprinted { mut number, mut offset, mut order, is_begun } = from;
        // If an earlier pass has read part of the log, only lines of the container that this pass has read
        // count.
        let before = self.latest.get(dir).filter(|latest| latest.rank < rank);
        let before = before.filter(|latest| !is_begun || latest.pass == self.pass);
        let mut before = before.map(|latest| latest.order);
        let mut take = |line: Vec<u8>| {
            // The last line may be unfinished.
            let is_cut = line.len() < LINE_BYTES_MAX && !line.ends_with(b"\n");
            if is_cut && !is_compressed {
                return false;
            }
            let next = offset + line.len() as u64;
            order = order_of(time_of(&line), before.take()).map_or(order, |own| own.max(order));
            let is_below = self.take_line(LineKey { order, place: at, number }, dir, line, offset);
            offset = next;
            number += 1;
            is_below
        };
        if is_compressed {
            let mut plain = MultiGzDecoder::new(FileRange { file, range: 0..u64::MAX });
            io::copy(&mut (&mut plain).take(from.offset), &mut io::sink())?;
            for_each_line(plain, &mut take)?;
        } else {
            for_each_line(FileRange { file, range: from.offset..u64::MAX }, &mut take)?;
        }
        if number > from.number {
            self.latest.insert(dir.clone(), Latest { order, rank, pass: self.pass });
        }
        Ok(())
    }

    /// Keeps a line until it is printed. Returns false if the line is beyond the cut.
    fn take_line(&mut self, key: LineKey, dir: &Rc<ContainerDir>, bytes: Vec<u8>, offset: u64) -> bool {
        if self.cut.is_some_and(|cut| key >= cut) {
            self.leave(key, offset);
            return false;
        }
        if !self.options.wants_time(time_of(&bytes).unwrap_or(key.order)) {
            return true;
        }
        self.pending_bytes += bytes.len() + LINE_OVERHEAD_BYTES;
        self.pending.insert(key, PendingLine { dir: dir.clone(), bytes, offset });
        while self.pending_bytes > self.pending_bytes_max {
            let Some((last, line)) = self.pending.pop_last() else { break };
            self.pending_bytes -= line.bytes.len() + LINE_OVERHEAD_BYTES;
            self.cut = Some(last);
            self.leave(last, line.offset);
        }
        true
    }

    /// Leaves a line for the next pass.
    fn leave(&mut self, key: LineKey, offset: u64) {
        if let Some(unprinted) = self.unprinted.get_mut(key.place)
            && unprinted.is_none_or(|unprinted| key.number < unprinted.number)
        {
            *unprinted = Some(Unprinted { number: key.number, offset, order: key.order, is_begun: true });
        }
    }

    fn print_before(&mut self, time: Timestamp) -> io::Result<()> {
        while let Some(line) = self.pending.first_entry()
            && (line.key().order < time || time == Timestamp::MAX)
        {
            let (key, line) = line.remove_entry();
            self.pending_bytes -= line.bytes.len() + LINE_OVERHEAD_BYTES;
            self.printed = self.printed.max(Some(key));
            self.print_line(key.order, &line)?;
        }
        Ok(())
    }

    fn print_line(&mut self, order: Timestamp, line: &PendingLine) -> io::Result<()> {
        let bytes = line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes);
        let parsed = CriLine::parse(bytes);
        let content = parsed.map_or(bytes, |parsed| parsed.content);
        if self.options.output == ReadFormat::Raw {
            return match self.passes(content) {
                true => self.out.write_all(&[bytes, b"\n"].concat()),
                false => Ok(()),
            };
        }
        let stream = parsed.map_or("", |parsed| parsed.stream);
        let key = (line.dir.clone(), stream.to_owned());
        let joined = self.joined.remove(&key);
        let time = parsed.map_or(order, |parsed| parsed.time);
        let mut joined = joined.unwrap_or(Joined { time, content: Vec::new() });
        joined.content.extend(content);
        let is_partial = parsed.is_some_and(|parsed| parsed.is_partial);
        if is_partial && joined.content.len() < JOINED_BYTES_MAX {
            self.joined.insert(key, joined);
            return Ok(());
        }
        self.put(&line.dir, stream, &joined)
    }

    fn passes(&self, content: &[u8]) -> bool {
        self.options.grep.as_ref().is_none_or(|grep| grep.is_match(content))
    }

    fn put(&mut self, dir: &ContainerDir, stream: &str, joined: &Joined) -> io::Result<()> {
        if !self.passes(&joined.content) {
            return Ok(());
        }
        if self.options.output == ReadFormat::Json {
            let shown = JsonLine {
                time: joined.time.to_string(),
                namespace: &dir.pod.namespace,
                pod: &dir.pod.pod,
                uid: &dir.pod.uid,
                container: &dir.container,
                stream,
                line: &String::from_utf8_lossy(&joined.content),
            };
            serde_json::to_writer(&mut self.out, &shown)?;
        } else {
            self.out.write_all(&joined.content)?;
        }
        self.out.write_all(b"\n")
    }
}

/// Returns the time by which a line is ordered. That is the time of the line before it, if its own time is
/// missing or a little earlier.
fn order_of(own: Option<Timestamp>, last: Option<Timestamp>) -> Option<Timestamp> {
    match (own, last) {
        (Some(own), Some(last)) if last.duration_since(own) > BACK_MAX => Some(own),
        _ => own.max(last),
    }
}

fn written(error: io::Error) -> ArchiveError {
    ArchiveError::doing("write the lines")(error)
}

/// Reads lines until `take` returns false. Lines longer than an entry are cut.
fn for_each_line(from: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    loop {
        let mut line = Vec::new();
        (&mut from).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() || !take(line) {
            return Ok(());
        }
    }
}

/// A part of a file, read without moving the file's position.
struct FileRange<'a> {
    file: &'a File,
    range: Range<u64>,
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end.saturating_sub(self.range.start)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let read = read_full_at(self.file, &mut buffer[..len], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    namespace: &'a str,
    pod: &'a str,
    uid: &'a str,
    container: &'a str,
    stream: &'a str,
    line: &'a str,
}

#[cfg(test)]
mod tests {
    use super::super::{ReadOptions, find};
    use super::*;
    use crate::archive::header::Meta;
    use crate::pods::cri;
    use crate::pods::share::Bound;
    use crate::pods::store::{Bounds, Store};
    use clap::Parser;
    use proptest::prelude::*;
    use std::path::Path;

    const CONTAINERS: [&str; 3] = ["shop_web_1/app", "shop_dns_2/app", "kube-system_dns_3/app"];

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: ReadOptions,
    }

    /// The lines of a container that one commit archives, or that are in one live log. The numbers are the
    /// seconds by which the clock advances, and by which the line's time is earlier than the clock.
    type Piece = (usize, Vec<(i64, i64)>);

    fn pieces(back_max: i64) -> impl Strategy<Value = Vec<Piece>> {
        pieces_up_to(9, back_max)
    }

    fn pieces_up_to(count: usize, back_max: i64) -> impl Strategy<Value = Vec<Piece>> {
        let times = prop::collection::vec((0i64..20, 0..=back_max), 1..9);
        prop::collection::vec((0..CONTAINERS.len(), times), 0..count)
    }

    /// The time at which the containers write, which decides about the order of their lines in the archives.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Written {
        /// All containers write while logcd archives.
        Meanwhile,
        /// All containers wrote earlier, at the same time.
        Before,
    }

    struct Lines {
        next: [i64; CONTAINERS.len()],
        /// The seconds since the first line, by the clock of each container.
        now: [i64; CONTAINERS.len()],
        written: Written,
    }

    impl Lines {
        fn of(&mut self, (container, times): &Piece) -> String {
            let start: Timestamp = "2026-11-28T14:00:00Z".parse().unwrap();
            let clock = if self.written == Written::Meanwhile { 0 } else { *container };
            let line = |(forward, back): &(i64, i64)| {
                let number = self.next[*container];
                self.next[*container] += 1;
                self.now[clock] += forward;
                let second = self.now[clock] - back;
                let time = start + SignedDuration::from_secs(second);
                format!("{time} stdout F {container} {number} {second}\n")
            };
            times.iter().map(line).collect()
        }
    }

    fn write(at: &Path, archived: &[Piece], live: &[Piece], written: Written) -> [i64; CONTAINERS.len()] {
        let mut lines = Lines { next: [0; CONTAINERS.len()], now: [0; CONTAINERS.len()], written };
        let all = Bound { bytes: u64::MAX, days: u32::MAX };
        let bounds = Bounds { all, namespaces: Vec::new(), min_free: "1".parse().unwrap(), days: None };
        let (out, pods) = (at.join("out"), at.join("pods"));
        std::fs::create_dir(&out).unwrap();
        let (mut store, _) =
            Store::open(&out, 0o600, 1, bounds, "2026-11-28T14.tar.gz".parse().unwrap()).unwrap();
        for pieces in archived.chunks(2) {
            for piece in pieces {
                let text = lines.of(piece);
                let dir: ContainerDir = CONTAINERS[piece.0].parse().unwrap();
                let span = cri::span(text.as_bytes());
                store.add(&dir, &"0.log".parse().unwrap(), Meta::default(), span, text.as_bytes()).unwrap();
            }
            store.commit(BTreeMap::new()).unwrap();
            store.show().unwrap();
        }
        for (number, piece) in live.iter().enumerate() {
            let dir = pods.join(CONTAINERS[piece.0]);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(format!("{number}.log")), lines.of(piece)).unwrap();
        }
        lines.next
    }

    /// Prints all lines. Returns them and the number of passes.
    fn printed(at: &Path, pending_bytes_max: usize) -> (String, u32) {
        let (out, pods) = (at.join("out"), at.join("pods"));
        let args = ["read", "--pods-out", out.to_str().unwrap(), "--pods", pods.to_str().unwrap()];
        let Command { options } = Command::parse_from(args);
        let found = find(&options).unwrap();
        let mut text = Vec::new();
        let mut merge = Merge::new(&options, &mut text, found.next_entry);
        merge.pending_bytes_max = pending_bytes_max;
        let passes = merge.print(&found.places).unwrap();
        (String::from_utf8(text).unwrap(), passes)
    }

    fn numbers(text: &str, container: usize) -> Vec<i64> {
        let of = |line: &str| line.strip_prefix(&format!("{container} "))?.split(' ').next()?.parse().ok();
        text.lines().filter_map(of).collect()
    }

    #[test]
    fn overlapping_logs_are_read_in_several_passes() {
        let directory = tempfile::tempdir().unwrap();
        let piece = |container| (container, vec![(1, 0); 20]);
        write(directory.path(), &[piece(0), piece(1)], &[piece(1), piece(2)], Written::Before);
        let (text, passes) = printed(directory.path(), usize::MAX);
        assert_eq!((text.lines().count(), passes), (80, 1));
        let (bounded, passes) = printed(directory.path(), 3000);
        assert!(passes > 3, "{passes} passes");
        assert_eq!(bounded, text);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The lines of a container stay in order, and the number of passes changes nothing.
        #[test]
        fn lines_stay_in_order_in_bounded_memory(
            archived in pieces(60), live in pieces(60), pending_bytes_max in 500usize..3000,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let written = write(directory.path(), &archived, &live, Written::Meanwhile);
            let (text, passes) = printed(directory.path(), usize::MAX);
            prop_assert_eq!(passes, 1);
            for (container, written) in written.iter().enumerate() {
                prop_assert_eq!(numbers(&text, container), (0..*written).collect::<Vec<_>>());
            }
            let (bounded, _) = printed(directory.path(), pending_bytes_max);
            prop_assert_eq!(bounded, text);
        }

        /// The archives of hours that two containers share have the lines of one after those of the other.
        #[test]
        fn lines_of_a_backlog_are_in_the_order_of_time(
            mut archived in prop_oneof![pieces_up_to(24, 0), pieces_up_to(24, 60)], mut live in pieces(0), pending_bytes_max in 500usize..3000,
        ) {
            let directory = tempfile::tempdir().unwrap();
            archived.sort_by_key(|(container, _)| *container);
            live.sort_by_key(|(container, _)| *container);
            let written = write(directory.path(), &archived, &live, Written::Before);
            let (text, _) = printed(directory.path(), usize::MAX);
            for (container, written) in written.iter().enumerate() {
                prop_assert_eq!(numbers(&text, container), (0..*written).collect::<Vec<_>>());
            }
            let back_max = archived.iter().flat_map(|(_, times)| times).map(|(_, back)| *back).max().unwrap_or(0);
            let mut latest = i64::MIN;
            for line in text.lines() {
                let second: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
                prop_assert!(second >= latest.saturating_sub(back_max), "{}", text);
                latest = latest.max(second);
            }
            let (bounded, _) = printed(directory.path(), pending_bytes_max);
            prop_assert_eq!(bounded, text);
        }

        /// Each line is printed once, however far times go back.
        #[test]
        fn each_line_is_printed_once_in_bounded_memory(
            archived in pieces(7200), live in pieces(7200), pending_bytes_max in 500usize..3000,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let written = write(directory.path(), &archived, &live, Written::Meanwhile);
            let (text, _) = printed(directory.path(), pending_bytes_max);
            for (container, written) in written.iter().enumerate() {
                let mut numbers = numbers(&text, container);
                numbers.sort_unstable();
                prop_assert_eq!(numbers, (0..*written).collect::<Vec<_>>());
            }
        }
    }
}
