//! Random histories of a log directory, with restarts. After each cycle, GNU tar finds in the archive all
//! that the directory holds and has ever held.

use crate::support::{Contents, Setup, cycle, for_both_kinds, log_lines};
use fastrand::Rng;
use logcd::archive::codec::Codec;
use logcd::cycle::archiver::Archiver;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

const NAMES: [&str; 6] = ["a.log", "b.log", "c.log", "a-1.log", "b-1.log", "d.log"];

/// Applies a random change to the logs between two cycles.
fn happen(setup: &Setup, rng: &mut Rng) -> String {
    let name = NAMES[rng.usize(..6)];
    let other = NAMES[rng.usize(..6)];
    let path = setup.log(name);
    let len = std::fs::metadata(&path).map_or(0, |m| m.len());
    let bytes = [0, 10, 300, 5_000, 40_000, 300_000, 900_000][rng.usize(..7)];
    match rng.u64(..16) {
        0..=5 => {
            setup.append(name, log_lines(rng, bytes));
            format!("append {bytes} to {name}")
        }
        6 if path.exists() => {
            File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            setup.append(name, log_lines(rng, bytes / 4));
            format!("truncate {name} and write {}", bytes / 4)
        }
        7 if len > 0 => {
            let to = rng.u64(..len);
            File::options().write(true).open(&path).unwrap().set_len(to).unwrap();
            format!("cut {name} to {to}")
        }
        8 if path.exists() => {
            std::fs::copy(&path, setup.log(&format!("{name}.1"))).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            format!("copytruncate {name}")
        }
        9 if len > 0 => {
            let at = rng.u64(..len);
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let times = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"EDITED IN PLACE", at).unwrap();
            if rng.u64(..2) == 0 {
                file.set_modified(times).unwrap();
            }
            format!("edit {name} at {at}")
        }
        10 if path.exists() => {
            std::fs::rename(&path, setup.log(&format!("{name}.1"))).unwrap();
            setup.append(name, log_lines(rng, bytes));
            format!("rotate {name} out of sight")
        }
        11 if path.exists() && name != other => {
            std::fs::rename(&path, setup.log(other)).unwrap();
            format!("rename {name} to {other}")
        }
        12 if path.exists() => {
            std::fs::remove_file(&path).unwrap();
            format!("delete {name}")
        }
        13 if path.exists() => {
            setup.write("new", log_lines(rng, bytes));
            std::fs::rename(setup.log("new"), &path).unwrap();
            format!("replace {name}")
        }
        14 => {
            setup.write(name, log_lines(rng, bytes));
            format!("rewrite {name} with {bytes}")
        }
        _ => {
            setup.write(name, std::fs::read(&path).unwrap_or_default());
            format!("write {name} as it was")
        }
    }
}

fn starts_with_any(members: &Contents, content: &[u8]) -> bool {
    members.values().any(|member| member.starts_with(content))
}

/// Starts the program and kills it at a random moment.
fn killed_somewhere(setup: &Setup, rng: &mut Rng) {
    let mut child = setup.command().arg("--once").stderr(Stdio::null()).spawn().unwrap();
    let patience = rng.u64(..20_000);
    for _ in 0..patience {
        if child.try_wait().unwrap().is_some() {
            return;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn history(codec: Codec, seed: u64, steps: u64) {
    let mut rng = Rng::with_seed(seed);
    let setup = Setup::of(codec, &["--threads=2"]);
    let mut running: Option<Archiver> = None;
    let mut once_held: Vec<Vec<u8>> = Vec::new();
    let mut story = Vec::new();
    for step in 0..steps {
        for _ in 0..rng.u64(..4) {
            story.push(happen(&setup, &mut rng));
        }
        let logs = setup.logs();
        if rng.u64(..4) == 0 {
            story.push("restart".to_owned());
            running = None;
        }
        if rng.u64(..6) == 0 && running.is_none() {
            story.push("lose the index".to_owned());
            let index = setup.archives().first().map(|path| {
                path.with_file_name(format!(".{}.index", path.file_name().unwrap().to_string_lossy()))
            });
            let _ = index.map(std::fs::remove_file);
        }
        cycle(running.get_or_insert_with(|| setup.archiver()));
        let members = setup.members();
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
        assert_eq!(setup.leftovers(), Vec::<std::path::PathBuf>::new(), "{}", told());
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
    let mut rng = Rng::with_seed(7);
    let setup = Setup::of(codec, &["--threads=2"]);
    let mut archived = Contents::new();
    for round in 0..40 {
        let before = archived.clone();
        for name in NAMES {
            setup.append(name, log_lines(&mut rng, 100_000));
        }
        let logs = setup.logs();
        killed_somewhere(&setup, &mut rng);
        if let Some(archive) = setup.archives().first() {
            archived = crate::support::members(archive);
            assert!(
                archived == before || archived == logs,
                "round {round}: neither the old state nor the new"
            );
        }
        if round % 4 == 3 {
            let output = setup.once();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            archived = setup.members();
            assert!(archived == logs, "round {round}");
            assert!(setup.leftovers().is_empty());
        }
    }
}

for_both_kinds!(archive_holds_all_that_logs_ever_held, kill_leaves_a_whole_archive,);
