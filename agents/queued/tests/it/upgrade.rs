//! Reads data directories of earlier versions, and refuses those of later ones.
//!
//! tests/fixtures/version-N was written by the first queued of that version, and ended by SIGKILL, after the
//! requests below. The zeros at the end of the segment are left out, in version 2 by `queued backup`.
//!
//!     PUT q {"lease_ms":1000,"max_attempts":2,"backoff_ms":1,"key_memory_ms":86400000}; push "first",
//!     "with a key" (key k1, type application/x-thing) and the bytes 00 ff fe; lease and ack the first
//!     PUT poison {"max_attempts":1}; push "poison"; lease it, nack it with the reason "broken"
//!     push "x" to late, 1,000 hours from then; push "y" to sealed; seal it

use crate::daemon::{Queued, Setup};
use queued::engine::record::Record;
use queued::log::{frame, head, segment};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

const VERSION_1: &[u8] = include_bytes!("../fixtures/version-1/0000000001.log");
const VERSION_2: &[u8] = include_bytes!("../fixtures/version-2/0000000001.log");
const HEAD: &[u8] = include_bytes!("../fixtures/version-2/head");
/// The version follows the magic.
const VERSION_AT: usize = 16;

fn setup(segment: &[u8]) -> Setup {
    let setup = Setup::new(&["--segment-bytes", "64KiB"]);
    std::fs::create_dir(setup.path("data")).unwrap();
    setup.write("data/0000000001.log", segment);
    if segment == VERSION_2 {
        setup.write("data/head", HEAD);
    }
    setup
}

fn holds_all(daemon: &Queued) {
    let http = &mut daemon.http();
    let q = http.get("/v1/queues/q").expect(200).json();
    let settings = &q["settings"];
    assert_eq!((&q["backlog"], &q["pushed"], &q["acked"]), (&json!(2), &json!(3), &json!(1)));
    assert_eq!(
        (&settings["lease_ms"], &settings["max_attempts"], &settings["backoff_ms"]),
        (&json!(1000), &json!(2), &json!(1))
    );
    let items = http.get("/v1/queues/q/items").expect(200).json();
    assert_eq!((&items["items"][0]["body"], &items["items"][0]["key"]), (&json!("with a key"), &json!("k1")));
    assert_eq!(items["items"][0]["content_type"], "application/x-thing");
    assert_eq!(items["items"][1]["body_base64"], "AP/+");
    let dead = http.get("/v1/queues/poison/dead").expect(200).json();
    assert_eq!(
        (&dead["items"][0]["body"], &dead["items"][0]["reason"]),
        (&json!("poison"), &json!("broken"))
    );
    assert_eq!(http.get("/v1/queues/late").json()["backlog"], 1);
    let sealed = http.get("/v1/queues/sealed").expect(200).json();
    assert_eq!((&sealed["sealed"], &sealed["ready"]), (&json!(true), &json!(1)));
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != "lock")
        .collect()
}

#[test]
fn each_log_version_is_continued() {
    for version in [VERSION_1, VERSION_2] {
        let mut daemon = setup(version).start();
        holds_all(&daemon);
        assert_eq!(daemon.metric("torn_tails_total"), 0.0);
        daemon.post("/v1/queues/new/items", "of this version").expect(201);
        daemon.kill9();
        daemon.restart();
        holds_all(&daemon);
        assert_eq!(daemon.get("/v1/queues/new").json()["ready"], 1);
    }
}

/// A change to the meaning of a byte must change the version, too.
#[test]
fn each_version_is_written_unchanged() {
    for segment in [VERSION_1, VERSION_2] {
        let header = segment::Header::decode(segment, Path::new("0000000001.log")).unwrap();
        let mut again = header.encode();
        while let Some(frame) = frame::open(segment, again.len(), header.nonce) {
            let mut group = vec![0; frame::HEADER_BYTES];
            for record in Record::decode_all(frame.records) {
                record.unwrap().0.encode(&mut group);
            }
            frame::seal(&mut group, header.nonce, frame.group, frame.unsynced);
            again.extend(group);
        }
        let unused = segment.strip_prefix(&*again).expect("other bytes");
        assert!(unused.iter().all(|byte| *byte == 0), "a group is missing");
    }
    let (_, read) = head::Head::in_file(HEAD, Path::new("head")).unwrap();
    assert!(read.file() == HEAD);
}

#[test]
fn later_log_version_is_refused_untouched() {
    let mut later = VERSION_1.to_vec();
    later[VERSION_AT] = 3;
    // Either all files are of the later version, or only those written after an upgrade that is now undone.
    for names in [vec!["0000000001.log"], vec!["0000000002.log"]] {
        let setup = setup(VERSION_1);
        for name in &names {
            setup.write(&format!("data/{name}"), &later);
        }
        let before = files(&setup.path("data"));
        let refusals =
            [setup.run(), setup.run_other(&["check", "data"]), setup.run_other(&["repair", "data"])];
        for (output, what) in refusals.iter().zip(["start", "check", "repair"]) {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = said.lines().last().unwrap();
            assert_eq!(output.status.code(), Some(1), "{what}: {said}");
            assert!(last.contains(names[0]) && last.contains("version 3"), "{what}: {said}");
            assert!(last.ends_with("use a newer queued"), "{what}: {said}");
        }
        assert!(files(&setup.path("data")) == before, "{names:?} was changed");
    }
}
