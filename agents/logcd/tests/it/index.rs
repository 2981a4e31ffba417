//! The index is a cache: if it or the archive is damaged or lost, the next archive is correct.

use crate::support::{
    Contents, NOON, Setup, at, cycle, for_both_kinds, gnu_tar, index_of, names, run, with_history,
};
use jiff::tz::TimeZone;
use logcd::archive::codec::Codec;
use logcd::archive_dir::ArchiveDir;
use logcd::cycle::indexed_archive::IndexedArchive;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

fn holds_all(setup: &Setup, before: &Contents) {
    let members = setup.members();
    for (name, content) in before {
        assert!(members.get(name) == Some(content), "{} is lost", name.escape_ascii());
    }
    for (name, content) in setup.logs() {
        assert!(members.get(&name) == Some(&content), "{} is not as it is", name.escape_ascii());
    }
    let verified = run(setup.reader().arg("verify").arg(setup.archive()));
    assert!(String::from_utf8(verified).unwrap().contains("its index matches"));
}

fn bad_index_is_rebuilt(codec: Codec) {
    let (setup, members) = with_history(codec);
    let sound = std::fs::read(index_of(&setup.archive())).unwrap();
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
            Some(bytes) => std::fs::write(index_of(&setup.archive()), bytes).unwrap(),
            None => std::fs::remove_file(index_of(&setup.archive())).unwrap(),
        }
        setup.cycle();
        holds_all(&setup, &members);
    }
}

fn index_of_another_archive_is_ignored(codec: Codec) {
    let (setup, members) = with_history(codec);
    let (other, _) = with_history(codec);
    other.append("a.log", "something else\n");
    other.cycle();
    std::fs::copy(index_of(&other.archive()), index_of(&setup.archive())).unwrap();
    setup.cycle();
    holds_all(&setup, &members);
    // An index of an earlier state of this archive is ignored, too.
    let stale = std::fs::read(index_of(&setup.archive())).unwrap();
    setup.append("c.log", "more\n");
    setup.cycle();
    std::fs::write(index_of(&setup.archive()), stale).unwrap();
    setup.cycle();
    holds_all(&setup, &setup.members());
}

fn restored_archive_is_compared_and_used(codec: Codec) {
    let (setup, members) = with_history(codec);
    let archive = setup.archive();
    let copy = setup.root.path().join("copy");
    run(Command::new("cp").arg("-p").arg(&archive).arg(&copy));
    std::fs::rename(&copy, &archive).unwrap();
    setup.append("c.log", "more\n");
    let published = setup.cycle().published.unwrap();
    assert!(published.compressed < 100 && published.copied > 80_000, "its blocks are used: {published:?}");
    holds_all(&setup, &members.into_iter().filter(|(name, _)| name != b"c.log").collect());
}

fn archive_of_another_tar_is_converted(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    let elsewhere = setup.root.path().join("elsewhere/p");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let long = format!("{}.log", "n".repeat(180));
    for (name, content) in [("gone.log", "of the past\n"), ("x.log", "line\n"), (long.as_str(), "long\n")] {
        std::fs::write(elsewhere.join(name), content).unwrap();
    }
    setup.write("x.log", "line\nand one more\n");
    setup.cycle();
    let archive = setup.archive();
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
    setup.cycle();
    let members = setup.members();
    let gone = format!("{long}.20261121T120000");
    assert_eq!(names(&members), ["gone.log.20261121T120000", gone.as_str(), "x.log"]);
    assert_eq!(members[&b"gone.log.20261121T120000"[..]], b"of the past\n");
    assert_eq!(members[&b"x.log"[..]], b"line\nand one more\n");
}

fn torn_archive_is_saved_and_set_aside(codec: Codec) {
    let (setup, members) = with_history(codec);
    let archive = setup.archive();
    let file = File::options().write(true).open(&archive).unwrap();
    // Within the last entry's header: everything before is whole.
    file.set_len(file.metadata().unwrap().len() - 150).unwrap();
    setup.cycle();
    holds_all(&setup, &members);
    let aside = archive.with_file_name(format!("{}.damaged", archive.file_name().unwrap().to_string_lossy()));
    assert!(aside.exists(), "the torn one is still there to be looked at");
}

fn changed_archive_is_noticed(codec: Codec) {
    for restart in [false, true] {
        let (setup, members) = with_history(codec);
        let mut archiver = setup.archiver();
        setup.append("c.log", "more\n");
        cycle(&mut archiver);
        let file = File::options().write(true).read(true).open(setup.archive()).unwrap();
        let meta = file.metadata().unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, meta.len() / 2).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], meta.len() / 2).unwrap();
        file.set_modified(meta.modified().unwrap()).unwrap();
        setup.append("c.log", "and more\n");
        if restart {
            drop(archiver);
            archiver = setup.archiver();
        }
        cycle(&mut archiver);
        let logs = setup.logs();
        let after = setup.members();
        for (name, content) in &logs {
            assert!(after.get(name) == Some(content), "{} is not as it is", name.escape_ascii());
        }
        // The content before the damage was saved; a.log still exists and is archived again.
        assert!(members.len() > logs.len());
        gnu_tar(&setup.archive(), codec, &["-t".as_ref()]);
    }
}

fn deleted_archive_is_made_again(codec: Codec) {
    let (setup, _) = with_history(codec);
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    std::fs::remove_file(setup.archive()).unwrap();
    cycle(&mut archiver);
    assert!(setup.members() == setup.logs());
}

fn cost_follows_the_news(codec: Codec) {
    let (setup, _) = with_history(codec);
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    let before = std::fs::metadata(setup.archive()).unwrap().modified().unwrap();
    for _ in 0..3 {
        assert!(cycle(&mut archiver).published.is_none());
    }
    assert!(setup.cycle_dropping(archiver).published.is_none(), "nor after a restart");
    assert_eq!(std::fs::metadata(setup.archive()).unwrap().modified().unwrap(), before);
    // A file with only a new time is not news either.
    File::options()
        .write(true)
        .open(setup.log("a.log"))
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert!(setup.cycle().published.is_none());
    setup.append("a.log", "one line\n");
    let published = setup.cycle().published.unwrap();
    assert!(published.compressed < 64 * 1024, "{published:?}");
    assert!(published.copied > 80_000, "{published:?}");
}

fn damaged_block_is_found_by_sampling(codec: Codec) {
    use logcd::archive::index::Index;
    let (setup, members) = with_history(codec);
    // A wrong checksum in the index looks like a damaged block in the archive.
    let mut known = Index::decode(&std::fs::read(index_of(&setup.archive())).unwrap()).unwrap();
    known.entries[0].blocks[0].packed_crc ^= 1;
    let mut bytes = Vec::new();
    known.encode(&mut bytes).unwrap();
    std::fs::write(index_of(&setup.archive()), bytes).unwrap();
    let mut archiver = setup.archiver();
    let mut cycles = 0;
    let first_block =
        || Index::decode(&std::fs::read(index_of(&setup.archive())).unwrap()).unwrap().entries[0].blocks[0];
    while first_block() == known.entries[0].blocks[0] {
        setup.append("c.log", "more\n");
        cycle(&mut archiver);
        cycles += 1;
        assert!(cycles <= 64, "the rot was not found");
    }
    holds_all(&setup, &members.into_iter().filter(|(name, _)| name != b"c.log").collect());
    run(setup.reader().arg("verify").arg(setup.archive()));
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
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    let day = at(NOON).to_zoned(TimeZone::UTC).date();
    let dir = ArchiveDir::at(&setup.out()).unwrap();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for _ in 0..100 {
                setup.append("x.log", "one more\n");
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
