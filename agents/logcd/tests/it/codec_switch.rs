//! `--zstd` switched on or off in the middle of a day: the day's archive loses nothing.

use crate::support::{Setup, at, for_both_kinds, index_of, names, run, with_history};
use logcd::archive::codec::Codec;
use logcd::cycle::archiver::CycleMode;

/// Makes a setup with the same directories for archives of the other kind.
fn switched(codec: Codec, setup: Setup) -> Setup {
    let mut flags = setup.flags.clone();
    match codec {
        Codec::Gzip => flags.push("--zstd".into()),
        Codec::Zstd => flags.retain(|flag| flag != "--zstd"),
    }
    Setup { flags, ..setup }
}

fn todays_archive_is_converted(codec: Codec) {
    let (setup, members) = with_history(codec);
    let old = setup.archive();
    let setup = switched(codec, setup);
    // Only the kind has changed.
    setup.cycle();
    assert!(setup.archive().to_str().unwrap().ends_with(codec.other().suffix()));
    assert!(setup.members() == members);
    assert!(!index_of(&old).exists() && setup.leftovers().is_empty());
    let verified = run(setup.reader().arg("verify").arg(setup.archive()));
    assert!(String::from_utf8(verified).unwrap().contains("its index matches"));
    assert!(setup.cycle().published.is_none(), "it is done once");
    // Switch back, with news.
    setup.append("a.log", "more\n");
    std::fs::remove_file(setup.log("c.log")).unwrap();
    let setup = switched(codec.other(), setup);
    setup.cycle();
    assert_eq!(setup.archive(), old);
    let after = setup.members();
    assert_eq!(names(&after), ["a.log", "b.log.20261121T120000", "c.log.20261121T120000"]);
    assert!(after[&b"a.log"[..]] == std::fs::read(setup.log("a.log")).unwrap());
    assert!(after[&b"c.log.20261121T120000"[..]] == members[&b"c.log"[..]]);
}

fn interrupted_conversion_keeps_nothing_twice(codec: Codec) {
    let (setup, members) = with_history(codec);
    let old = setup.archive();
    let (bytes, index) = (std::fs::read(&old).unwrap(), std::fs::read(index_of(&old)).unwrap());
    let setup = switched(codec, setup);
    for index_is_there in [true, false] {
        setup.cycle();
        std::fs::write(&old, &bytes).unwrap();
        std::fs::write(index_of(&old), &index).unwrap();
        if !index_is_there {
            let new = setup.archives().into_iter().find(|path| *path != old).unwrap();
            std::fs::remove_file(index_of(&new)).unwrap();
        }
        setup.cycle();
        assert!(setup.members() == members, "{:?}", names(&setup.members()));
        assert!(setup.leftovers().is_empty() && !index_of(&old).exists());
    }
}

fn content_of_the_other_archive_is_kept(codec: Codec) {
    let (setup, _) = with_history(codec);
    let old = setup.archive();
    let aside = setup.root.path().join("aside");
    std::fs::rename(&old, &aside).unwrap();
    let setup = switched(codec, setup);
    setup.write("c.log", "another c\n");
    setup.cycle();
    let before = crate::support::members_of(&aside, codec);
    std::fs::rename(&aside, &old).unwrap();
    setup.cycle();
    let after = setup.members();
    for (name, content) in setup.logs() {
        assert!(after.get(&name) == Some(&content), "{} is not as it is", name.escape_ascii());
    }
    for (name, content) in before {
        assert!(after.values().any(|kept| *kept == content), "{} is lost", name.escape_ascii());
    }
}

fn torn_archive_of_the_other_kind_is_saved(codec: Codec) {
    let (setup, members) = with_history(codec);
    let old = setup.archive();
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_len(file.metadata().unwrap().len() - 150).unwrap();
    let setup = switched(codec, setup);
    setup.cycle();
    assert!(setup.members() == members);
    assert!(old.with_file_name(format!("{}.damaged", old.file_name().unwrap().to_string_lossy())).exists());
    assert!(!old.exists());
}

fn retention_counts_both_kinds(codec: Codec) {
    let setup = Setup::of(codec, &["--keep-days=3"]);
    setup.write("a.log", "line\n");
    setup.archiver().cycle(at("2026-11-20T12:00:00Z"), CycleMode::Now).unwrap();
    let old = setup.archive();
    let bytes = std::fs::read(&old).unwrap();
    let setup = switched(codec, setup);
    let mut archiver = setup.archiver();
    archiver.cycle(at("2026-11-21T12:00:00Z"), CycleMode::Now).unwrap();
    assert_eq!(setup.archives().len(), 2);
    assert!(std::fs::read(&old).unwrap() == bytes);
    archiver.cycle(at("2026-11-22T12:00:00Z"), CycleMode::Now).unwrap();
    let removed = archiver.cycle(at("2026-11-23T12:00:00Z"), CycleMode::Now).unwrap().removed_archives;
    assert_eq!((removed, setup.archives().len()), (1, 3));
    assert!(!old.exists() && !index_of(&old).exists());
}

for_both_kinds!(
    todays_archive_is_converted,
    interrupted_conversion_keeps_nothing_twice,
    content_of_the_other_archive_is_kept,
    torn_archive_of_the_other_kind_is_saved,
    retention_counts_both_kinds,
);
