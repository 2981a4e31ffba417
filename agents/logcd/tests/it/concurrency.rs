//! Logs that are written, truncated and replaced while logcd reads them and others read the archive.

use crate::support::{NOON, Setup, cycle, log_lines, members, run};
use fastrand::Rng;
use logcd::cycle::archiver::{Archiver, CycleMode};
use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const CYCLES: u64 = 150;

/// Runs cycles at full speed, with a writer of logs and a reader of archives, until all have had many
/// iterations.
fn beside(setup: &Setup, write: impl Fn(u64) + Sync) -> Archiver {
    setup.cycle();
    let (stop, turns, reads, cycles) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let mut archiver = setup.archiver();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let turn = turns.load(Ordering::Relaxed);
                // At most 1000 iterations a cycle: enough to hit every moment of it, without filling the
                // disk.
                if turn > 1000 * (1 + cycles.load(Ordering::Relaxed)) {
                    std::thread::yield_now();
                    continue;
                }
                write(turn);
                turns.store(turn + 1, Ordering::Relaxed);
            }
        });
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                run(Command::new("tar").arg("-tzf").arg(setup.archive()));
                run(Command::new("gzip").arg("-t").arg(setup.archive()));
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let all_had_many = || {
            let counts = [(&cycles, CYCLES), (&turns, CYCLES), (&reads, 20)];
            counts.iter().all(|(count, enough)| count.load(Ordering::Relaxed) >= *enough)
        };
        while !all_had_many() && !reader.is_finished() && !writer.is_finished() {
            archiver.cycle(NOON.parse().unwrap(), CycleMode::Now).unwrap();
            cycles.fetch_add(1, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        writer.join().unwrap();
    });
    archiver
}

#[test]
fn growing_log_is_archived_as_a_prefix() {
    let setup = Setup::new(&[]);
    let line = |turn: u64| format!("{turn:012} the quick brown fox jumps over the lazy dog\n");
    setup.write("x.log", "");
    let log = File::options().append(true).open(setup.log("x.log")).unwrap();
    let mut archiver = beside(&setup, |turn| (&log).write_all(line(turn).as_bytes()).unwrap());
    cycle(&mut archiver);
    let members = setup.members();
    assert_eq!(members.len(), 1, "nothing was superseded");
    assert!(members == setup.logs());
}

#[test]
fn rewritten_log_is_never_mixed() {
    let setup = Setup::new(&[]);
    // Each state consists of one letter, so that a mixture shows.
    let write = |turn: u64| {
        let letter = b'a' + u8::try_from(turn % 26).unwrap();
        let mut line = vec![letter; 64];
        line.push(b'\n');
        let mut file = File::create(setup.log("x.log")).unwrap();
        for _ in 0..40 {
            file.write_all(&line.repeat(100)).unwrap();
        }
    };
    write(0);
    let _archiver = beside(&setup, write);
    let mut states = 0;
    for (name, content) in setup.members() {
        let mut letters: Vec<u8> = content.iter().copied().filter(|b| *b != b'\n').collect();
        letters.dedup();
        assert!(letters.len() <= 1, "{} is made of {}", name.escape_ascii(), letters.escape_ascii());
        states += 1;
    }
    assert!(states > 1, "what the log held before is there too");
}

#[test]
fn rotation_loses_nothing_archived() {
    let setup = Setup::new(&["--include=*.log,*.log.1"]);
    let mut rng = Rng::with_seed(3);
    setup.write("x.log", log_lines(&mut rng, 5000));
    let write = |turn: u64| {
        setup.append("x.log", format!("{turn}\n"));
        if turn % 50 == 49 {
            std::fs::rename(setup.log("x.log"), setup.log("x.log.1")).unwrap();
        }
    };
    let mut archiver = beside(&setup, write);
    let before = members(&setup.archive());
    cycle(&mut archiver);
    let after = members(&setup.archive());
    for (name, content) in before {
        assert!(
            after.values().any(|member| member.starts_with(&content)),
            "what {} held is lost",
            name.escape_ascii()
        );
    }
}

#[test]
fn lines_before_a_rename_are_archived() {
    let setup = Setup::new(&[]);
    let mut rng = Rng::with_seed(5);
    setup.write("x.log", log_lines(&mut rng, 100_000));
    setup.write("empty.log", "");
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    setup.append("x.log", log_lines(&mut rng, 50_000));
    setup.append("empty.log", "not any more\n");
    let rotated = std::fs::read(setup.log("x.log")).unwrap();
    for (from, to) in [("x.log", "x.log.1"), ("empty.log", "empty.log.1")] {
        std::fs::rename(setup.log(from), setup.log(to)).unwrap();
    }
    setup.write("x.log", "a new log\n");
    cycle(&mut archiver);
    let members = setup.members();
    assert_eq!(
        crate::support::names(&members),
        ["empty.log.20261121T120000", "x.log", "x.log.20261121T120000"]
    );
    assert!(members[&b"x.log.20261121T120000"[..]] == rotated);
    assert_eq!(members[&b"empty.log.20261121T120000"[..]], b"not any more\n");
}
