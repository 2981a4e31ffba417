use super::*;
use crate::archive::codec::Codec;
use crate::archive::header::{self, Meta};
use crate::pods::bounds::{Bound, Bounds};
use crate::pods::cri;
use crate::pods::hour::ArchiveName;
use crate::pods::read::find;
use crate::pods::store::Store;
use crate::pods::veil;
use clap::Parser;
use jiff::SignedDuration;
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

fn options(out: &Path, pods: &Path) -> ReadOptions {
    let args = ["read", "--pods-out", out.to_str().unwrap(), "--pods", pods.to_str().unwrap()];
    Command::parse_from(args).options
}

/// Prints all lines. Returns them and the number of passes.
fn printed(at: &Path, pending_bytes_max: usize) -> (String, u32) {
    let (out, pods) = (at.join("out"), at.join("pods"));
    let options = options(&out, &pods);
    let found = find(&options).unwrap();
    let mut text = Vec::new();
    let mut merge = Merge::new(&options, LinePrinter::new(&options, &mut text), found.next_entry);
    merge.pending_bytes_max = pending_bytes_max;
    let (printer, passes, _) = merge.print(found.places).unwrap();
    printer.finish().unwrap();
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

/// Makes an archive of an hour, whose members have one line each.
fn make_archive(at: &Path, namespace: &str, start: Timestamp, members: u32) {
    let entry = format!("{namespace}_web_1/app/0.0.log");
    let mut packer = Codec::Gzip.packer(1).unwrap();
    let mut bytes = veil::start(Codec::Gzip);
    for number in 0..members {
        let time = start + SignedDuration::from_secs((number * 3600 / members).into());
        let line = format!("{time} stdout F {time}\n");
        let tar = header::entry(entry.as_bytes(), &Meta::default(), line.as_bytes());
        bytes.extend(veil::member(Codec::Gzip, &mut packer, &tar, Some((time, time))).unwrap());
    }
    bytes.extend(veil::end(Codec::Gzip));
    let hour = start.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    std::fs::create_dir_all(at.join(namespace)).unwrap();
    std::fs::write(at.join(namespace).join(ArchiveName::at(hour, Codec::Gzip).to_string()), bytes).unwrap();
}

#[test]
fn memory_follows_the_archives_rather_than_their_members() {
    let directory = tempfile::tempdir().unwrap();
    let start: Timestamp = "2026-11-28T14:00:00Z".parse().unwrap();
    for namespace in ["dev", "shop"] {
        for hour in 0..24 {
            let start = start + SignedDuration::from_hours(hour);
            make_archive(directory.path(), namespace, start, 40);
        }
    }
    let options = options(directory.path(), Path::new("none"));
    let found = find(&options).unwrap();
    let mut text = Vec::new();
    let merge = Merge::new(&options, LinePrinter::new(&options, &mut text), found.next_entry);
    let (printer, passes, places_max) = merge.print(found.places).unwrap();
    printer.finish().unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!((text.lines().count(), passes), (2 * 24 * 40, 1));
    assert!(text.lines().is_sorted());
    // The members of at most one hour of each namespace are listed.
    assert!(places_max <= 2 * (24 + 40), "{places_max} places");
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
