//! The logs of one container: compares its directory with the followed logs, and opens the new ones.

use crate::pods::cursor::{ArchivedCopy, Cursors};
use crate::pods::followed_log::{FollowedLog, Phase};
use crate::pods::place::{ContainerDir, LogName};
use crate::safe_dir::{Kind, SafeDir, status_at, status_of};
use std::ffi::OsStr;
use std::io;
use std::time::Instant;

/// Limit on the names in a directory; further ones are skipped. A container has about seven logs.
const NAMES_MAX: usize = 1000;
/// Limit on the searches for a log that has lost its name without being deleted.
const MISSES_MAX: u32 = 3;

/// The result of one look at the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The number of logs that were newly opened.
    pub opened: u64,
    /// True if a log was renamed.
    pub has_moved: bool,
    /// True if a log was compressed or deleted.
    pub has_departed: bool,
    /// The number of logs that were removed before they were read to the end.
    pub lost: u64,
    /// The number of names that cannot be followed and were not counted before. Such names are links, FIFOs,
    /// logs with several names, logs that cannot be opened, and all above the limit.
    pub skipped: u64,
    /// True if a skipped log may become readable without a report from the kernel.
    pub must_retry: bool,
    /// True if the directory must be examined again, because a log has lost its name without being deleted.
    pub is_unclear: bool,
}

pub struct FollowedContainer {
    pub dir: ContainerDir,
    pub logs: Vec<FollowedLog>,
    /// The cursors from the checkpoint whose logs are not found yet.
    past: Cursors,
    settled: Vec<ArchivedCopy>,
    /// True once every log in the directory was opened. A log whose cursor was still in `past` then is lost.
    is_looked_at: bool,
    /// The number of names that the last look skipped.
    skipped: u64,
    /// The logs that could not be opened at the last look.
    waiting: Vec<Listed>,
}

/// A name in the directory.
#[derive(Clone)]
struct Listed {
    name: LogName,
    inode: u64,
}

/// The result of listing the directory.
#[derive(Default)]
struct Listing {
    /// The logs, sorted by name.
    found: Vec<Listed>,
    /// The logs that cannot be opened at present, because they have several names.
    waiting: Vec<Listed>,
    /// The number of other names that cannot be followed.
    skipped: u64,
}

impl FollowedContainer {
    pub fn new(dir: ContainerDir, mut past: Cursors) -> FollowedContainer {
        let settled = std::mem::take(&mut past.settled);
        let (logs, waiting) = (Vec::new(), Vec::new());
        FollowedContainer { dir, logs, past, settled, is_looked_at: false, skipped: 0, waiting }
    }

    pub fn cursors(&self) -> Cursors {
        let logs = self.logs.iter().filter(|log| log.phase != Phase::Ended);
        let past = self.past.logs.iter().cloned();
        let settled = self.settled.iter().cloned().chain(self.logs.iter().filter_map(FollowedLog::settled));
        Cursors { logs: logs.map(FollowedLog::cursor).chain(past).collect(), settled: settled.collect() }
    }

    /// True if there is no log left to follow or to remember.
    pub fn is_over(&self) -> bool {
        self.logs.is_empty()
            && self.past.logs.is_empty()
            && self.settled.is_empty()
            && self.waiting.is_empty()
    }

    fn knows(&self, found: &Listed) -> bool {
        let is_settled = |settled: &ArchivedCopy| settled.is(found.inode, &found.name);
        self.logs.iter().any(|log| log.inode == found.inode || log.is_copied_to(found.inode, &found.name))
            || self.settled.iter().any(is_settled)
    }

    /// Examines the directory, and opens new logs until `room` are open. A removed directory has no logs.
    pub fn look(&mut self, pods: &SafeDir, room: usize) -> io::Result<Findings> {
        let mut findings = Findings::default();
        let Listing { found, mut waiting, skipped } = self.list(pods, &mut findings)?;
        self.follow_names(&found, &mut findings);
        let told = self.skipped.saturating_sub(skipped);
        self.open_new(pods, &found, room, told, &mut waiting, &mut findings);
        self.settled.retain(|settled| found.iter().any(|found| settled.is(found.inode, &found.name)));
        findings.must_retry |= !waiting.is_empty();
        findings.lost += self.waiting.iter().filter(|log| self.is_lost(log, &found, &waiting)).count() as u64;
        let skipped = skipped + waiting.len() as u64;
        findings.skipped = skipped.saturating_sub(self.skipped);
        self.skipped = skipped;
        self.waiting = waiting;
        // A skipped log may still need its cursor.
        if !findings.must_retry && !self.is_looked_at {
            self.is_looked_at = true;
            findings.lost += self.past.logs.iter().filter(|cursor| !cursor.is_whole).count() as u64;
            self.past.logs.clear();
        }
        Ok(findings)
    }

    fn list(&self, pods: &SafeDir, findings: &mut Findings) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let fd = match pods.directory(self.dir.to_string().as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            opened => opened?,
        };
        for entry in nix::dir::Dir::from_fd(fd.try_clone()?)?.iter() {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Ok(log) = name.parse::<LogName>() else { continue };
            if listing.found.len() + listing.waiting.len() >= NAMES_MAX {
                listing.skipped += 1;
                findings.must_retry = true;
                continue;
            }
            let look = match status_at(&fd, OsStr::new(name)) {
                // The log is gone or is being renamed. Another event follows.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                look => look?,
            };
            let is_followed = self.logs.iter().any(|log| log.inode == look.stamp.ino);
            let listed = Listed { name: log, inode: look.stamp.ino };
            match look.kind {
                Kind::Regular if look.links == 1 || is_followed => listing.found.push(listed),
                // The kernel does not report when the other name is removed.
                Kind::Regular => listing.waiting.push(listed),
                _ => listing.skipped += 1,
            }
        }
        listing.found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    /// Opens new logs until `room` are open. The first `told` logs that cannot be opened were logged before.
    fn open_new(
        &mut self,
        pods: &SafeDir,
        found: &[Listed],
        room: usize,
        told: u64,
        waiting: &mut Vec<Listed>,
        findings: &mut Findings,
    ) {
        // Uncompressed logs first: a compressed copy is recognised by the log that it was made from.
        for is_compressed in [false, true] {
            self.note_copies(found);
            for new in found.iter().filter(|found| found.name.is_compressed() == is_compressed) {
                if self.knows(new) {
                    continue;
                }
                let opened = match self.logs.len() < room {
                    true => self.open(pods, new, findings),
                    false => Err(io::Error::other("too many logs are followed (--max-files)")),
                };
                if let Err(error) = opened {
                    if waiting.len() as u64 >= told {
                        let log = format!("{}/{}", self.dir, new.name);
                        tracing::warn!(event = "container_log_skipped", log, %error, "a log cannot be opened; it is tried again");
                    }
                    waiting.push(new.clone());
                }
            }
        }
    }

    /// True if a log that waited to be opened is gone, and nothing else tells its loss.
    fn is_lost(&self, waited: &Listed, found: &[Listed], waiting: &[Listed]) -> bool {
        let is_same = |log: &Listed| {
            log.inode == waited.inode || log.name.is_compressed() && log.name.uncompressed() == waited.name
        };
        let has_cursor = self.past.logs.iter().any(|cursor| cursor.inode == waited.inode);
        !has_cursor && !found.iter().chain(waiting).any(is_same)
    }

    /// Gives each followed log its present name. A log without a name has departed.
    fn follow_names(&mut self, found: &[Listed], findings: &mut Findings) {
        for log in &mut self.logs {
            let is_gone = matches!(log.phase, Phase::Departed { .. } | Phase::Ended);
            match found.iter().find(|found| found.inode == log.inode) {
                Some(found) => {
                    if found.name != log.name {
                        findings.has_moved = true;
                        log.name = found.name.clone();
                    }
                    log.misses = 0;
                    log.was_replaced = false;
                    if is_gone && !log.name.is_compressed() {
                        log.phase = Phase::Growing;
                    }
                }
                // The compressed log is open, and is read once.
                None if log.name.is_compressed() => {}
                None => {
                    if !is_gone {
                        findings.has_departed = true;
                        log.phase = Phase::Departed { quiet_since: Instant::now() };
                    }
                    log.was_replaced |= found.iter().any(|found| found.name == log.name);
                    // A rename during the listing can hide both names.
                    let is_deleted = log.look().is_ok_and(|look| look.links == 0);
                    log.misses = if is_deleted { MISSES_MAX } else { log.misses + 1 };
                    findings.is_unclear |= log.misses < MISSES_MAX;
                }
            }
        }
    }

    /// Recognises the compressed copies of followed logs by their names.
    fn note_copies(&mut self, found: &[Listed]) {
        for copy in found.iter().filter(|found| found.name.is_compressed()) {
            let original = copy.name.uncompressed();
            let settled = ArchivedCopy { name: copy.name.to_string(), inode: copy.inode };
            if let Some(log) =
                self.logs.iter_mut().find(|log| log.name == original && log.inode != copy.inode)
            {
                log.copy = Some(settled);
            }
        }
    }

    fn open(&mut self, pods: &SafeDir, new: &Listed, findings: &mut Findings) -> io::Result<()> {
        let path = format!("{}/{}", self.dir, new.name);
        let file = match pods.file(path.as_bytes()) {
            Ok(file) => file,
            // The log was renamed or replaced meanwhile. Another event follows.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ELOOP | nix::libc::ENXIO)) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let look = status_of(&file)?;
        if look.kind != Kind::Regular || look.stamp.ino != new.inode {
            findings.is_unclear = true;
            return Ok(());
        }
        let is_compressed = new.name.is_compressed();
        let start = match FollowedLog::start_of(&file, is_compressed) {
            // The log is damaged, and remains so.
            Err(error) if is_compressed => {
                tracing::warn!(event = "container_log_skipped", log = path, %error, "the log cannot be opened");
                Vec::new()
            }
            start => start?,
        };
        // Between two looks, kubelet may have renamed and compressed a log. The copy starts with the same
        // bytes.
        if is_compressed && let Some(log) = self.logs.iter_mut().find(|log| log.is_the_start_of(&start)) {
            log.copy = Some(ArchivedCopy { name: new.name.to_string(), inode: new.inode });
            log.name = new.name.uncompressed();
            return Ok(());
        }
        let cursor = self.past.take(new.inode, is_compressed, &start);
        self.logs.push(FollowedLog::new(new.name.clone(), file, &look, cursor.as_ref()));
        findings.opened += 1;
        Ok(())
    }

    /// Puts the logs in the order in which they were written.
    pub fn sort(&mut self) {
        self.logs.sort_by(|a, b| a.age().cmp(&b.age()));
    }

    /// Drops the logs that have ended, and remembers the compressed ones as fully archived. Returns true if
    /// any log was dropped.
    pub fn drop_ended(&mut self) -> bool {
        let before = self.logs.len();
        self.settled.extend(self.logs.iter().filter_map(FollowedLog::settled));
        self.logs.retain(|log| log.phase != Phase::Ended);
        before != self.logs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::checksum::Checksum;
    use crate::pods::cursor::Cursor;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use trial::kubelet::ContainerLogs;

    /// A container with one log, of which 6 bytes are archived according to the checkpoint.
    struct Fixture {
        directory: tempfile::TempDir,
        pods: SafeDir,
        container: FollowedContainer,
    }

    impl Fixture {
        fn new() -> Fixture {
            let directory = tempfile::tempdir().unwrap();
            let dir: ContainerDir = "shop_web_1/app".parse().unwrap();
            let log = directory.path().join(dir.to_string()).join("0.log");
            std::fs::create_dir_all(log.parent().unwrap()).unwrap();
            std::fs::write(&log, "first\nsecond\n").unwrap();
            let head = Checksum::of(b"first\n");
            let cursor = Cursor {
                name: "0.log".to_owned(),
                inode: log.metadata().unwrap().ino(),
                offset: head.len,
                head_crc: head.crc,
                head_bytes: head.len,
                tail_crc: head.crc,
                tail_bytes: head.len,
                latest_ns: None,
                is_repeating: false,
                is_whole: false,
            };
            let pods = SafeDir::open(&directory.path().canonicalize().unwrap()).unwrap();
            let past = Cursors { logs: vec![cursor], settled: Vec::new() };
            Fixture { directory, pods, container: FollowedContainer::new(dir, past) }
        }

        fn look(&mut self, room: usize) -> Findings {
            self.container.look(&self.pods, room).unwrap()
        }

        fn names(&self) -> Vec<String> {
            self.container.logs.iter().map(|log| log.name.to_string()).collect()
        }

        fn offsets(&self) -> Vec<u64> {
            self.container.cursors().logs.iter().map(|cursor| cursor.offset).collect()
        }
    }

    #[test]
    fn log_without_room_keeps_its_cursor() {
        let mut room = Fixture::new();
        assert_eq!(room.look(0), Findings { skipped: 1, must_retry: true, ..Findings::default() });
        assert_eq!(room.look(0), Findings { must_retry: true, ..Findings::default() });
        assert_eq!(room.offsets(), [6_u64]);
        assert_eq!(room.look(1), Findings { opened: 1, ..Findings::default() });
        assert_eq!(room.offsets(), [6_u64]);
    }

    /// A log that is open but unread is renamed, compressed and removed between two looks.
    #[test]
    fn copy_of_an_unread_log_is_recognised() {
        let mut room = Fixture::new();
        room.container = FollowedContainer::new("shop_web_1/app".parse().unwrap(), Cursors::default());
        assert_eq!(room.look(9).opened, 1);
        let log = room.directory.path().join("shop_web_1/app/0.log");
        let copy = File::create(log.with_file_name("0.log.20261128-140500.gz")).unwrap();
        let mut copy = GzEncoder::new(copy, Compression::default());
        copy.write_all(&std::fs::read(&log).unwrap()).unwrap();
        copy.finish().unwrap();
        std::fs::remove_file(&log).unwrap();
        std::fs::write(&log, "third\n").unwrap();
        // Only the new log is opened.
        assert_eq!(room.look(9).opened, 1);
        assert_eq!(room.offsets(), [0, 0]);
    }

    /// Logs are opened under the names that they have at that time.
    #[test]
    fn rotations_between_two_looks_lose_no_log() {
        let mut room = Fixture::new();
        assert_eq!(room.look(9).opened, 1);
        let logs = ContainerLogs::open(&room.directory.path().join("shop_web_1/app"));
        for rotation in 0..3 {
            logs.rotate(&format!("20261128-14050{rotation}"));
            writeln!(logs.next(), "{rotation}").unwrap();
        }
        // One of the logs is known already. One of the others is compressed.
        assert_eq!(room.look(9), Findings { opened: 3, has_departed: true, ..Findings::default() });
        room.container.sort();
        assert_eq!(room.offsets(), [6, 0, 0, 0]);
        let names = room.names();
        let rotated = ["0", "1.gz", "2"].map(|end| format!("0.log.20261128-14050{end}"));
        assert_eq!(names, [&rotated[0], &rotated[1], &rotated[2], "0.log"]);
    }

    #[test]
    fn rotated_log_of_a_deleted_pod_is_the_older_one() {
        let mut room = Fixture::new();
        let rotated = "0.log.20261128-140500";
        std::fs::write(room.directory.path().join("shop_web_1/app").join(rotated), "zero\n").unwrap();
        assert_eq!(room.look(9).opened, 2);
        std::fs::remove_dir_all(room.directory.path().join("shop_web_1")).unwrap();
        assert!(room.look(9).has_departed);
        room.container.sort();
        assert_eq!(room.names(), [rotated, "0.log"]);
    }

    /// A log is rotated and deleted between two looks, and the next one is rotated before it is read.
    #[test]
    fn replaced_log_is_older_than_those_rotated_since() {
        let mut room = Fixture::new();
        assert_eq!(room.look(9).opened, 1);
        let live = room.directory.path().join("shop_web_1/app/0.log");
        let replace = || {
            std::fs::write(live.with_extension("new"), "next\n").unwrap();
            std::fs::rename(live.with_extension("new"), &live).unwrap();
        };
        replace();
        assert_eq!(room.look(9).opened, 1);
        std::fs::rename(&live, live.with_file_name("0.log.20261128-140500")).unwrap();
        replace();
        assert_eq!(room.look(9).opened, 1);
        room.container.sort();
        assert_eq!(room.names(), ["0.log", "0.log.20261128-140500", "0.log"]);
        assert!(matches!(room.container.logs[0].phase, Phase::Departed { .. }));
    }

    #[test]
    fn log_that_could_not_be_opened_is_lost_with_its_name() {
        let mut room = Fixture::new();
        room.container = FollowedContainer::new("shop_web_1/app".parse().unwrap(), Cursors::default());
        let log = room.directory.path().join("shop_web_1/app/0.log");
        assert_eq!(room.look(0), Findings { skipped: 1, must_retry: true, ..Findings::default() });
        // A rename and a compressed copy are no losses.
        let rotated = log.with_file_name("0.log.20261128-140500");
        std::fs::rename(&log, &rotated).unwrap();
        assert_eq!(room.look(0).lost, 0);
        std::fs::write(log.with_file_name("0.log.20261128-140500.gz"), "").unwrap();
        std::fs::remove_file(&rotated).unwrap();
        assert_eq!(room.look(0).lost, 0);
        // A link to the log hides it.
        std::fs::hard_link(
            log.with_file_name("0.log.20261128-140500.gz"),
            room.directory.path().join("link"),
        )
        .unwrap();
        assert_eq!(room.look(9).lost, 0);
        std::fs::remove_dir_all(room.directory.path().join("shop_web_1")).unwrap();
        assert_eq!(room.look(9), Findings { lost: 1, ..Findings::default() });
        assert_eq!(room.look(9), Findings::default());
    }

    #[test]
    fn log_that_is_gone_is_lost() {
        let mut room = Fixture::new();
        std::fs::remove_dir_all(room.directory.path().join("shop_web_1")).unwrap();
        assert_eq!(room.look(1), Findings { lost: 1, ..Findings::default() });
        assert!(room.offsets().is_empty());
    }
}
