//! Random histories of a log directory, with restarts. After each cycle, GNU tar finds in the archive all
//! that the directory holds and has ever held.

use crate::support::{Bench, Contents, Dice, cycle, for_both_kinds};
use logcd::archive::codec::Codec;
use logcd::cycle::archiver::Archiver;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

const NAMES: [&str; 6] = ["a.log", "b.log", "c.log", "a-1.log", "b-1.log", "d.log"];

/// Applies a random change to the logs between two cycles.
fn happen(bench: &Bench, dice: &mut Dice) -> String {
    let name = NAMES[usize::try_from(dice.roll(6)).unwrap()];
    let other = NAMES[usize::try_from(dice.roll(6)).unwrap()];
    let path = bench.log(name);
    let len = std::fs::metadata(&path).map_or(0, |m| m.len());
    let bytes = [0, 10, 300, 5_000, 40_000, 300_000, 900_000][usize::try_from(dice.roll(7)).unwrap()];
    match dice.roll(16) {
        0..=5 => {
            bench.append(name, dice.lines(bytes));
            format!("append {bytes} to {name}")
        }
        6 if path.exists() => {
            File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            bench.append(name, dice.lines(bytes / 4));
            format!("truncate {name} and write {}", bytes / 4)
        }
        7 if len > 0 => {
            let to = dice.roll(len);
            File::options().write(true).open(&path).unwrap().set_len(to).unwrap();
            format!("cut {name} to {to}")
        }
        8 if path.exists() => {
            std::fs::copy(&path, bench.log(&format!("{name}.1"))).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            format!("copytruncate {name}")
        }
        9 if len > 0 => {
            let at = dice.roll(len);
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let times = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"EDITED IN PLACE", at).unwrap();
            if dice.roll(2) == 0 {
                file.set_modified(times).unwrap();
            }
            format!("edit {name} at {at}")
        }
        10 if path.exists() => {
            std::fs::rename(&path, bench.log(&format!("{name}.1"))).unwrap();
            bench.append(name, dice.lines(bytes));
            format!("rotate {name} out of sight")
        }
        11 if path.exists() && name != other => {
            std::fs::rename(&path, bench.log(other)).unwrap();
            format!("rename {name} to {other}")
        }
        12 if path.exists() => {
            std::fs::remove_file(&path).unwrap();
            format!("delete {name}")
        }
        13 if path.exists() => {
            bench.write("new", dice.lines(bytes));
            std::fs::rename(bench.log("new"), &path).unwrap();
            format!("replace {name}")
        }
        14 => {
            bench.write(name, dice.lines(bytes));
            format!("rewrite {name} with {bytes}")
        }
        _ => {
            bench.write(name, std::fs::read(&path).unwrap_or_default());
            format!("write {name} as it was")
        }
    }
}

fn starts_with_any(members: &Contents, content: &[u8]) -> bool {
    members.values().any(|member| member.starts_with(content))
}

/// Starts the program and kills it at a random moment.
fn killed_somewhere(bench: &Bench, dice: &mut Dice) {
    let mut child = bench.command().arg("--once").stderr(Stdio::null()).spawn().unwrap();
    let patience = dice.roll(20_000);
    for _ in 0..patience {
        if child.try_wait().unwrap().is_some() {
            return;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn history(codec: Codec, seed: u64, steps: u64) {
    let mut dice = Dice::new(seed);
    let bench = Bench::of(codec, &["--threads=2"]);
    let mut running: Option<Archiver> = None;
    let mut once_held: Vec<Vec<u8>> = Vec::new();
    let mut story = Vec::new();
    for step in 0..steps {
        for _ in 0..dice.roll(4) {
            story.push(happen(&bench, &mut dice));
        }
        let logs = bench.logs();
        if dice.roll(4) == 0 {
            story.push("restart".to_owned());
            running = None;
        }
        if dice.roll(6) == 0 && running.is_none() {
            story.push("lose the index".to_owned());
            let index = bench.archives().first().map(|path| {
                path.with_file_name(format!(".{}.index", path.file_name().unwrap().to_string_lossy()))
            });
            let _ = index.map(std::fs::remove_file);
        }
        cycle(running.get_or_insert_with(|| bench.archiver()));
        let members = bench.members();
        let told = || format!("seed {seed}, step {step}: {story:#?}");
        for (name, content) in &logs {
            let archived = members.get(name);
            assert!(
                archived == Some(content),
                "{} is not archived as it is; {}",
                name.escape_ascii(),
                told()
            );
        }
        for (name, content) in &members {
            assert!(
                logs.contains_key(name) || logcd::cycle::superseded::is_name(name),
                "{} should not be there; {}",
                name.escape_ascii(),
                told()
            );
            assert!(logs.contains_key(name) || !content.is_empty());
        }
        for content in &once_held {
            assert!(
                starts_with_any(&members, content),
                "{} bytes that were archived are lost: {:?}...; {}",
                content.len(),
                String::from_utf8_lossy(&content[..content.len().min(80)]),
                told()
            );
        }
        assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new(), "{}", told());
        once_held.extend(members.into_values());
        once_held.sort();
        once_held.dedup();
    }
}

fn archive_holds_all_that_logs_ever_held(codec: Codec) {
    let seeds = std::env::var("LOGCD_TEST_SEEDS").map_or(12, |text| text.parse().unwrap());
    for seed in 0..seeds {
        history(codec, seed, 25);
    }
}

fn kill_leaves_a_whole_archive(codec: Codec) {
    let mut dice = Dice::new(7);
    let bench = Bench::of(codec, &["--threads=2"]);
    let mut archived = Contents::new();
    for round in 0..40 {
        let before = archived.clone();
        for name in NAMES {
            bench.append(name, dice.lines(100_000));
        }
        let logs = bench.logs();
        killed_somewhere(&bench, &mut dice);
        if let Some(archive) = bench.archives().first() {
            archived = crate::support::members(archive);
            assert!(
                archived == before || archived == logs,
                "round {round}: neither the old state nor the new"
            );
        }
        if round % 4 == 3 {
            let output = bench.once();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            archived = bench.members();
            assert!(archived == logs, "round {round}");
            assert!(bench.leftovers().is_empty());
        }
    }
}

for_both_kinds!(archive_holds_all_that_logs_ever_held, kill_leaves_a_whole_archive,);
