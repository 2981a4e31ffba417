//! `--zstd` switched on or off in the middle of a day: the day's archive loses nothing.

use crate::support::{Bench, at, for_both_kinds, index_of, names, run, with_history};
use logcd::archive::codec::Codec;
use logcd::cycle::archiver::CycleMode;

/// Makes a bench with the same directories for archives of the other kind.
fn switched(codec: Codec, bench: Bench) -> Bench {
    let mut flags = bench.flags.clone();
    match codec {
        Codec::Gzip => flags.push("--zstd".into()),
        Codec::Zstd => flags.retain(|flag| flag != "--zstd"),
    }
    Bench { flags, ..bench }
}

fn todays_archive_is_converted(codec: Codec) {
    let (bench, members) = with_history(codec);
    let old = bench.archive();
    let bench = switched(codec, bench);
    // Only the kind has changed.
    bench.cycle();
    assert!(bench.archive().to_str().unwrap().ends_with(codec.other().suffix()));
    assert!(bench.members() == members);
    assert!(!index_of(&old).exists() && bench.leftovers().is_empty());
    let verified = run(bench.reader().arg("verify").arg(bench.archive()));
    assert!(String::from_utf8(verified).unwrap().contains("its index matches"));
    assert!(bench.cycle().published.is_none(), "it is done once");
    // Switch back, with news.
    bench.append("a.log", "more\n");
    std::fs::remove_file(bench.log("c.log")).unwrap();
    let bench = switched(codec.other(), bench);
    bench.cycle();
    assert_eq!(bench.archive(), old);
    let after = bench.members();
    assert_eq!(names(&after), ["a.log", "b.log.20261121T120000", "c.log.20261121T120000"]);
    assert!(after[&b"a.log"[..]] == std::fs::read(bench.log("a.log")).unwrap());
    assert!(after[&b"c.log.20261121T120000"[..]] == members[&b"c.log"[..]]);
}

fn interrupted_conversion_keeps_nothing_twice(codec: Codec) {
    let (bench, members) = with_history(codec);
    let old = bench.archive();
    let (bytes, index) = (std::fs::read(&old).unwrap(), std::fs::read(index_of(&old)).unwrap());
    let bench = switched(codec, bench);
    for index_is_there in [true, false] {
        bench.cycle();
        std::fs::write(&old, &bytes).unwrap();
        std::fs::write(index_of(&old), &index).unwrap();
        if !index_is_there {
            let new = bench.archives().into_iter().find(|path| *path != old).unwrap();
            std::fs::remove_file(index_of(&new)).unwrap();
        }
        bench.cycle();
        assert!(bench.members() == members, "{:?}", names(&bench.members()));
        assert!(bench.leftovers().is_empty() && !index_of(&old).exists());
    }
}

fn content_of_the_other_archive_is_kept(codec: Codec) {
    let (bench, _) = with_history(codec);
    let old = bench.archive();
    let aside = bench.root.path().join("aside");
    std::fs::rename(&old, &aside).unwrap();
    let bench = switched(codec, bench);
    bench.write("c.log", "another c\n");
    bench.cycle();
    let before = crate::support::members_of(&aside, codec);
    std::fs::rename(&aside, &old).unwrap();
    bench.cycle();
    let after = bench.members();
    for (name, content) in bench.logs() {
        assert!(after.get(&name) == Some(&content), "{} is not as it is", name.escape_ascii());
    }
    for (name, content) in before {
        assert!(after.values().any(|kept| *kept == content), "{} is lost", name.escape_ascii());
    }
}

fn torn_archive_of_the_other_kind_is_saved(codec: Codec) {
    let (bench, members) = with_history(codec);
    let old = bench.archive();
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_len(file.metadata().unwrap().len() - 150).unwrap();
    let bench = switched(codec, bench);
    bench.cycle();
    assert!(bench.members() == members);
    assert!(old.with_file_name(format!("{}.damaged", old.file_name().unwrap().to_string_lossy())).exists());
    assert!(!old.exists());
}

fn retention_counts_both_kinds(codec: Codec) {
    let bench = Bench::of(codec, &["--keep-days=3"]);
    bench.write("a.log", "line\n");
    bench.archiver().cycle(at("2026-11-20T12:00:00Z"), CycleMode::Now).unwrap();
    let old = bench.archive();
    let bytes = std::fs::read(&old).unwrap();
    let bench = switched(codec, bench);
    let mut archiver = bench.archiver();
    archiver.cycle(at("2026-11-21T12:00:00Z"), CycleMode::Now).unwrap();
    assert_eq!(bench.archives().len(), 2);
    assert!(std::fs::read(&old).unwrap() == bytes);
    archiver.cycle(at("2026-11-22T12:00:00Z"), CycleMode::Now).unwrap();
    let removed = archiver.cycle(at("2026-11-23T12:00:00Z"), CycleMode::Now).unwrap().removed_archives;
    assert_eq!((removed, bench.archives().len()), (1, 3));
    assert!(!old.exists() && !index_of(&old).exists());
}

for_both_kinds!(
    todays_archive_is_converted,
    interrupted_conversion_keeps_nothing_twice,
    content_of_the_other_archive_is_kept,
    torn_archive_of_the_other_kind_is_saved,
    retention_counts_both_kinds,
);
