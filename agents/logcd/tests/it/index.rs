//! The index is a cache: if it or the archive is damaged or lost, the next archive is correct.

use crate::support::{
    Contents, Fixture, NOON, at, cycle, for_both_kinds, gnu_tar, index_of, names, run, with_history,
};
use jiff::tz::TimeZone;
use logcd::archive::codec::Codec;
use logcd::archive_dir::ArchiveDir;
use logcd::cycle::indexed_archive::IndexedArchive;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

fn holds_all(fixture: &Fixture, before: &Contents) {
    let members = fixture.members();
    for (name, content) in before {
        assert!(members.get(name) == Some(content), "{} is lost", name.escape_ascii());
    }
    for (name, content) in fixture.logs() {
        assert!(members.get(&name) == Some(&content), "{} is not as it is", name.escape_ascii());
    }
    let verified = run(fixture.reader().arg("verify").arg(fixture.archive()));
    assert!(String::from_utf8(verified).unwrap().contains("its index matches"));
}

fn bad_index_is_rebuilt(codec: Codec) {
    let (fixture, members) = with_history(codec);
    let sound = std::fs::read(index_of(&fixture.archive())).unwrap();
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        bytes
    };
    for bytes in [
        None,
        Some(Vec::new()),
        Some(sound[..sound.len() / 2].to_vec()),
        Some(flipped(sound.len() / 2)),
        Some(flipped(7)),
        Some(b"not an index at all".to_vec()),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(index_of(&fixture.archive()), bytes).unwrap(),
            None => std::fs::remove_file(index_of(&fixture.archive())).unwrap(),
        }
        fixture.cycle();
        holds_all(&fixture, &members);
    }
}

fn index_of_another_archive_is_ignored(codec: Codec) {
    let (fixture, members) = with_history(codec);
    let (other, _) = with_history(codec);
    other.append("a.log", "something else\n");
    other.cycle();
    std::fs::copy(index_of(&other.archive()), index_of(&fixture.archive())).unwrap();
    fixture.cycle();
    holds_all(&fixture, &members);
    // An index of an earlier state of this archive is ignored, too.
    let stale = std::fs::read(index_of(&fixture.archive())).unwrap();
    fixture.append("c.log", "more\n");
    fixture.cycle();
    std::fs::write(index_of(&fixture.archive()), stale).unwrap();
    fixture.cycle();
    holds_all(&fixture, &fixture.members());
}

fn restored_archive_is_compared_and_used(codec: Codec) {
    let (fixture, members) = with_history(codec);
    let archive = fixture.archive();
    let copy = fixture.root.path().join("copy");
    run(Command::new("cp").arg("-p").arg(&archive).arg(&copy));
    std::fs::rename(&copy, &archive).unwrap();
    fixture.append("c.log", "more\n");
    let published = fixture.cycle().published.unwrap();
    assert!(published.compressed < 100 && published.copied > 80_000, "its blocks are used: {published:?}");
    holds_all(&fixture, &members.into_iter().filter(|(name, _)| name != b"c.log").collect());
}

fn archive_of_another_tar_is_converted(codec: Codec) {
    let fixture = Fixture::of(codec, &[]);
    let elsewhere = fixture.root.path().join("elsewhere/p");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let long = format!("{}.log", "n".repeat(180));
    for (name, content) in [("gone.log", "of the past\n"), ("x.log", "line\n"), (long.as_str(), "long\n")] {
        std::fs::write(elsewhere.join(name), content).unwrap();
    }
    fixture.write("x.log", "line\nand one more\n");
    fixture.cycle();
    let archive = fixture.archive();
    let tar = run(Command::new("tar").arg("-C").arg(elsewhere.parent().unwrap()).args(["-cf", "-", "p"]));
    let packed = match codec {
        Codec::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            gzip.write_all(&tar).unwrap();
            gzip.finish().unwrap()
        }
        Codec::Zstd => zstd::encode_all(tar.as_slice(), 3).unwrap(),
    };
    std::fs::write(&archive, packed).unwrap();
    fixture.cycle();
    let members = fixture.members();
    let gone = format!("{long}.20261121T120000");
    assert_eq!(names(&members), ["gone.log.20261121T120000", gone.as_str(), "x.log"]);
    assert_eq!(members[&b"gone.log.20261121T120000"[..]], b"of the past\n");
    assert_eq!(members[&b"x.log"[..]], b"line\nand one more\n");
}

fn torn_archive_is_saved_and_set_aside(codec: Codec) {
    let (fixture, members) = with_history(codec);
    let archive = fixture.archive();
    let file = File::options().write(true).open(&archive).unwrap();
    // Within the last entry's header: everything before is whole.
    file.set_len(file.metadata().unwrap().len() - 150).unwrap();
    fixture.cycle();
    holds_all(&fixture, &members);
    let aside = archive.with_file_name(format!("{}.damaged", archive.file_name().unwrap().to_string_lossy()));
    assert!(aside.exists(), "the torn one is still there to be looked at");
}

fn changed_archive_is_noticed(codec: Codec) {
    for restart in [false, true] {
        let (fixture, members) = with_history(codec);
        let mut archiver = fixture.archiver();
        fixture.append("c.log", "more\n");
        cycle(&mut archiver);
        let file = File::options().write(true).read(true).open(fixture.archive()).unwrap();
        let meta = file.metadata().unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, meta.len() / 2).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], meta.len() / 2).unwrap();
        file.set_modified(meta.modified().unwrap()).unwrap();
        fixture.append("c.log", "and more\n");
        if restart {
            drop(archiver);
            archiver = fixture.archiver();
        }
        cycle(&mut archiver);
        let logs = fixture.logs();
        let after = fixture.members();
        for (name, content) in &logs {
            assert!(after.get(name) == Some(content), "{} is not as it is", name.escape_ascii());
        }
        // The content before the damage was saved; a.log still exists and is archived again.
        assert!(members.len() > logs.len());
        gnu_tar(&fixture.archive(), codec, &["-t".as_ref()]);
    }
}

fn deleted_archive_is_made_again(codec: Codec) {
    let (fixture, _) = with_history(codec);
    let mut archiver = fixture.archiver();
    cycle(&mut archiver);
    std::fs::remove_file(fixture.archive()).unwrap();
    cycle(&mut archiver);
    assert!(fixture.members() == fixture.logs());
}

fn cost_follows_the_news(codec: Codec) {
    let (fixture, _) = with_history(codec);
    let mut archiver = fixture.archiver();
    cycle(&mut archiver);
    let before = std::fs::metadata(fixture.archive()).unwrap().modified().unwrap();
    for _ in 0..3 {
        assert!(cycle(&mut archiver).published.is_none());
    }
    assert!(fixture.cycle_dropping(archiver).published.is_none(), "nor after a restart");
    assert_eq!(std::fs::metadata(fixture.archive()).unwrap().modified().unwrap(), before);
    // A file with only a new time is not news either.
    File::options()
        .write(true)
        .open(fixture.log("a.log"))
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert!(fixture.cycle().published.is_none());
    fixture.append("a.log", "one line\n");
    let published = fixture.cycle().published.unwrap();
    assert!(published.compressed < 64 * 1024, "{published:?}");
    assert!(published.copied > 80_000, "{published:?}");
}

fn damaged_block_is_found_by_sampling(codec: Codec) {
    use logcd::archive::index::Index;
    let (fixture, members) = with_history(codec);
    // A wrong checksum in the index looks like a damaged block in the archive.
    let mut known = Index::decode(&std::fs::read(index_of(&fixture.archive())).unwrap()).unwrap();
    known.entries[0].blocks[0].packed_crc ^= 1;
    let mut bytes = Vec::new();
    known.encode(&mut bytes).unwrap();
    std::fs::write(index_of(&fixture.archive()), bytes).unwrap();
    let mut archiver = fixture.archiver();
    let mut cycles = 0;
    let first_block =
        || Index::decode(&std::fs::read(index_of(&fixture.archive())).unwrap()).unwrap().entries[0].blocks[0];
    while first_block() == known.entries[0].blocks[0] {
        fixture.append("c.log", "more\n");
        cycle(&mut archiver);
        cycles += 1;
        assert!(cycles <= 64, "the rot was not found");
    }
    holds_all(&fixture, &members.into_iter().filter(|(name, _)| name != b"c.log").collect());
    run(fixture.reader().arg("verify").arg(fixture.archive()));
}

for_both_kinds!(
    bad_index_is_rebuilt,
    index_of_another_archive_is_ignored,
    restored_archive_is_compared_and_used,
    archive_of_another_tar_is_converted,
    torn_archive_is_saved_and_set_aside,
    changed_archive_is_noticed,
    deleted_archive_is_made_again,
    cost_follows_the_news,
    damaged_block_is_found_by_sampling,
);

#[test]
fn index_is_found_while_archives_are_published() {
    let fixture = Fixture::new(&[]);
    fixture.write("x.log", "line\n");
    let mut archiver = fixture.archiver();
    cycle(&mut archiver);
    let day = at(NOON).to_zoned(TimeZone::UTC).date();
    let dir = ArchiveDir::at(&fixture.out()).unwrap();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for _ in 0..100 {
                fixture.append("x.log", "one more\n");
                cycle(&mut archiver);
            }
        });
        while !publisher.is_finished() {
            let found = IndexedArchive::load_while_published(&dir, day, Codec::Gzip).unwrap();
            assert!(found.is_some());
        }
        publisher.join().unwrap();
    });
}
