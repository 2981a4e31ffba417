//! Backups of a running server show one moment, and can be restored.

use crate::completeness::{check, data};
use crate::daemon::{Queued, Setup};
use queued::log::segment;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use trial::wait_until;

const FLAGS: [&str; 2] = ["--segment-bytes", "64KiB"];

fn bodies(daemon: &Queued) -> BTreeSet<String> {
    let items = daemon.get("/v1/queues/q/items?limit=1000&cut=6").expect(200).json();
    let items = items["items"].as_array().unwrap().iter();
    items.map(|item| item["body"].as_str().unwrap().to_owned()).collect()
}

/// Restores into a new directory, and starts a server there.
fn restored(from: &Setup, backup: &str) -> Queued {
    let new = Setup::new(&FLAGS);
    let target = new.path("data");
    let output = from.run_other(&["restore", backup, "--data", target.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    new.start()
}

#[test]
fn backup_restores_what_was_there() {
    let mut daemon = Queued::start(&FLAGS);
    let http = &mut daemon.http();
    http.call("PUT", "/v1/queues/q", r#"{"max_attempts":7}"#).expect(201);
    for n in 0..30 {
        http.post("/v1/queues/q/items?key=k", format!("{n:06}{}", "x".repeat(5000)));
        http.post("/v1/queues/q/items", format!("{n:06}{}", "x".repeat(5000))).expect(201);
    }
    let leased = http.post("/v1/queues/q/lease", "").expect(200).json()["items"][0].clone();
    // The answer to this push comes after the lease was written, too.
    http.post("/v1/queues/other/items", "x").expect(201);
    let before = bodies(&daemon);
    let backup = daemon.setup.run_other(&["backup", "data", "--to", "backup.tar"]);
    assert!(backup.status.success() && backup.stdout.is_empty(), "{backup:?}");
    let (exit, said) = check(&daemon.setup, "backup.tar");
    assert!(
        exit == Some(0) && said.contains("queue q: 31 items, 0 dead") && said.ends_with("sound\n"),
        "{said}"
    );
    // The backup does not hold later items.
    http.post("/v1/queues/q/items", "later").expect(201);
    let new = restored(&daemon.setup, "backup.tar");
    assert_eq!(bodies(&new), before);
    let queue = new.get("/v1/queues/q").expect(200).json();
    assert_eq!((&queue["settings"]["max_attempts"], &queue["leased"]), (&json!(7), &json!(1)));
    let held = json!({"id": leased["id"], "token": leased["token"]});
    new.post("/v1/queues/q/ack", held.to_string()).expect(200);
    new.post("/v1/queues/q/items", "and it goes on").expect(201);
    new.kill9();
    assert_eq!(check(&new.setup, "data").0, Some(0));
    daemon.kill9();
    daemon.restart();
    assert_eq!(bodies(&daemon).len(), before.len() + 1, "the backup changed nothing");
    let stopped = daemon.setup.run_other(&["backup", "data", "--to", "backup.tar"]);
    assert!(stopped.status.success(), "also in the place of an older one, {stopped:?}");
}

/// Stops the load, even when the test fails.
struct StopLoad<'a>(&'a AtomicBool);

impl Drop for StopLoad<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A backup holds every push that was answered before it began.
#[test]
fn backups_under_load_are_complete() {
    let daemon = Queued::start(&FLAGS);
    daemon.http().call("PUT", "/v1/queues/q", r#"{"lease_ms":600000}"#).expect(201);
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for worker in [false, true] {
            let (running, daemon) = (&running, &daemon);
            scope.spawn(move || {
                let mut http = daemon.http();
                let mut held: Vec<Value> = Vec::new();
                while running.load(Ordering::Relaxed) {
                    match worker {
                        false => drop(http.post("/v1/queues/q/items", "y".repeat(3000)).expect(201)),
                        true => {
                            let action = json!({"max": 2, "ack": held});
                            let leased =
                                http.post("/v1/queues/q/lease", action.to_string()).expect(200).json();
                            let items = leased["items"].as_array().unwrap().iter();
                            held = items.map(|i| json!({"id": i["id"], "token": i["token"]})).collect();
                        }
                    }
                }
            });
        }
        let _stop = StopLoad(&running);
        let http = &mut daemon.http();
        for round in 0..8 {
            for n in 0..10 {
                http.post("/v1/queues/kept/items", format!("{round}-{n}")).expect(201);
            }
            let backup = daemon.setup.run_other(&["backup", "data", "--to", "backup.tar"]);
            assert!(backup.status.success(), "{backup:?}");
            let (exit, said) = check(&daemon.setup, "backup.tar");
            let kept = format!("queue kept: {} items, 0 dead", (round + 1) * 10);
            assert!(exit == Some(0) && said.contains(&kept), "{said}");
            let segments = || daemon.metric("segments_freed_total");
            let freed = segments();
            wait_until("cleaning goes on after a backup", || segments() > freed);
        }
    });
    assert_eq!(restored(&daemon.setup, "backup.tar").get("/v1/queues/kept").json()["ready"], 80);
}

#[test]
fn backup_on_stdout_is_restored_from_stdin() {
    let daemon = Queued::start(&FLAGS);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    let backup = daemon.setup.run_other(&["backup", "data", "--to", "-"]);
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_queued"));
    restore.args(["restore", "-", "--data", "new"]).current_dir(daemon.setup.directory());
    restore.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let output = trial::with_input(restore.spawn().unwrap(), &backup.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "restored to new (items: 1, queues: 1)\n");
    assert_eq!(check(&daemon.setup, "new").0, Some(0));
}

#[test]
fn cut_or_changed_backup_is_refused() {
    let daemon = Queued::start(&FLAGS);
    let http = &mut daemon.http();
    for _ in 0..20 {
        http.post("/v1/queues/q/items", "x".repeat(9000)).expect(201);
    }
    daemon.setup.run_other(&["backup", "data", "--to", "whole"]);
    let whole = std::fs::read(daemon.setup.path("whole")).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let mut flipped = whole.clone();
    // Flips a bit in the middle of an item.
    flipped[whole.len() / 2] ^= 1;
    // The archive ends with two blocks of zeros, after the padding of the last entry.
    let cuts = (0..20).map(|_| whole[..random.usize(0..whole.len() - 2048)].to_vec());
    for (at, bad) in cuts.chain([flipped, b"hello".to_vec(), Vec::new()]).enumerate() {
        daemon.setup.write("bad", &bad);
        let (exit, said) = check(&daemon.setup, "bad");
        assert!(exit != Some(0) && !said.contains("sound\n"), "{at}: {said}");
        let _ = std::fs::remove_dir_all(daemon.setup.path("new"));
        let restore = daemon.setup.run_other(&["restore", "bad", "--data", "new"]);
        assert!(!restore.status.success(), "{at}");
        if daemon.setup.path("new").exists() {
            let start = ["--data", "new", "--http", "127.0.0.1:0", "--line", "none"];
            assert_eq!(daemon.setup.run_other(&start).status.code(), Some(1), "{at}: it starts");
        }
    }
}

#[test]
fn incomplete_directory_is_not_backed_up() {
    let daemon = Queued::start(&FLAGS);
    let http = &mut daemon.http();
    for _ in 0..20 {
        http.post("/v1/queues/q/items", "x".repeat(9000)).expect(201);
    }
    daemon.terminate();
    std::fs::remove_file(segment::path(&data(&daemon), 2)).unwrap();
    let backup = daemon.setup.run_other(&["backup", "data", "--to", "backup"]);
    let said = String::from_utf8_lossy(&backup.stderr).into_owned();
    assert!(backup.status.code() == Some(1) && said.contains("0000000002.log is missing"), "{said}");
    assert!(!daemon.setup.path("backup").exists() && !daemon.setup.path("backup.new").exists());
}

#[test]
fn backup_and_restore_overwrite_nothing() {
    let daemon = Queued::start(&FLAGS);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    daemon.setup.run_other(&["backup", "data", "--to", "backup"]);
    daemon.terminate();
    let restore = daemon.setup.run_other(&["restore", "backup", "--data", "data"]);
    let said = String::from_utf8_lossy(&restore.stderr).into_owned();
    assert!(restore.status.code() == Some(1) && said.contains("data is not empty"), "{said}");
    let inside = daemon.setup.run_other(&["backup", "data", "--to", "data/backup"]);
    let said = String::from_utf8_lossy(&inside.stderr).into_owned();
    assert!(inside.status.code() == Some(64) && said.contains("inside of data"), "{said}");
}
