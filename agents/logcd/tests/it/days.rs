//! One archive a day: midnight, time zones and retention.

use crate::support::{Setup, at, for_both_kinds, log_lines, members, names};
use fastrand::Rng;
use jiff::tz::TimeZone;
use logcd::archive::codec::Codec;
use logcd::cycle::archiver::CycleMode;
use std::time::Duration;

fn midnight_completes_the_day_and_reuses_its_blocks(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    let mut rng = Rng::with_seed(6);
    setup.write("a.log", log_lines(&mut rng, 400_000));
    setup.write("b.log", log_lines(&mut rng, 400));
    let mut archiver = setup.archiver();
    archiver.cycle(at("2026-11-21T23:00:00Z"), CycleMode::Now).unwrap();
    std::fs::remove_file(setup.log("b.log")).unwrap();
    setup.append("a.log", "the last line of the day\n");
    let outcome = archiver.cycle(at("2026-11-22T00:00:10Z"), CycleMode::WhenWorthIt).unwrap();
    let archives = setup.archives();
    let days: Vec<_> = archives.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let end = codec.suffix();
    assert_eq!(days, [format!("all-logs-2026-11-21{end}"), format!("all-logs-2026-11-22{end}")]);
    let finished = members(&archives[0]);
    assert_eq!(names(&finished), ["a.log", "b.log.20261122T000010"]);
    assert!(finished[&b"a.log"[..]].ends_with(b"the last line of the day\n"));
    // Content of yesterday that is gone today stays in yesterday's archive; nothing is compressed twice.
    assert!(members(&archives[1]) == setup.logs());
    assert_eq!(outcome.published.unwrap().compressed, 0);
    let before = std::fs::read(&archives[0]).unwrap();
    setup.append("a.log", "of the new day\n");
    archiver.cycle(at("2026-11-22T00:01:10Z"), CycleMode::Now).unwrap();
    assert!(std::fs::read(&archives[0]).unwrap() == before, "the finished archive stays as it is");
}

fn restart_on_another_day_reuses_blocks(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    setup.write("a.log", log_lines(&mut Rng::with_seed(6), 400_000));
    setup.archiver().cycle(at("2026-11-20T23:00:00Z"), CycleMode::Now).unwrap();
    let outcome = setup.archiver().cycle(at("2026-11-22T12:00:00Z"), CycleMode::Now).unwrap();
    assert_eq!(outcome.published.unwrap().compressed, 0);
    assert!(members(&setup.archives()[1]) == setup.logs());
}

fn clock_set_back_over_midnight_loses_nothing(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    setup.write("a.log", "of the first day\n");
    let mut archiver = setup.archiver();
    archiver.cycle(at("2026-11-21T23:59:00Z"), CycleMode::Now).unwrap();
    std::fs::remove_file(setup.log("a.log")).unwrap();
    archiver.cycle(at("2026-11-22T00:00:00Z"), CycleMode::Now).unwrap();
    setup.write("b.log", "after the clock was set\n");
    archiver.cycle(at("2026-11-21T23:59:30Z"), CycleMode::Now).unwrap();
    assert_eq!(names(&members(&setup.archives()[0])), ["a.log.20261122T000000", "b.log"]);
}

fn old_archives_are_removed_with_their_indexes(codec: Codec) {
    let setup = Setup::of(codec, &["--keep-days=3"]);
    setup.write("a.log", "line\n");
    for other in ["all-logs-2026-01-01.tar.gz.keep", "all-logs-today.tar.gz", "notes.txt"] {
        std::fs::write(setup.out().join(other), "mine").unwrap();
    }
    let mut archiver = setup.archiver();
    let mut removed = 0;
    for day in 10..=15 {
        removed +=
            archiver.cycle(at(&format!("2026-11-{day}T12:00:00Z")), CycleMode::Now).unwrap().removed_archives;
    }
    let mut left: Vec<String> = std::fs::read_dir(setup.out())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let end = codec.suffix();
    let expected = [
        format!(".all-logs-2026-11-13{end}.index"),
        format!(".all-logs-2026-11-14{end}.index"),
        format!(".all-logs-2026-11-15{end}.index"),
        ".logcd.lock".to_owned(),
        "all-logs-2026-01-01.tar.gz.keep".to_owned(),
        format!("all-logs-2026-11-13{end}"),
        format!("all-logs-2026-11-14{end}"),
        format!("all-logs-2026-11-15{end}"),
        "all-logs-today.tar.gz".to_owned(),
        "notes.txt".to_owned(),
    ];
    assert_eq!((left.as_slice(), removed), (&expected[..], 3));
}

fn superseded_content_is_bounded(codec: Codec) {
    let mut rng = Rng::with_seed(8);
    let setup = Setup::of(codec, &["--max-superseded=60KB"]);
    let mut archiver = setup.archiver();
    for hour in 10..20 {
        setup.write("state.log", log_lines(&mut rng, 100_000));
        archiver.cycle(at(&format!("2026-11-21T{hour}:00:00Z")), CycleMode::Now).unwrap();
    }
    let all = names(&setup.members());
    assert!(all.len() >= 3 && all.len() < 8, "{all:?}");
    assert_eq!(all.last().unwrap(), "state.log.20261121T190000", "the newest are kept");
    let latest = Setup { flags: [&setup.flags[..], &["--latest-only".into()]].concat(), ..setup };
    drop(archiver);
    latest.write("state.log", log_lines(&mut rng, 100));
    latest.cycle();
    assert_eq!(names(&latest.members()), ["state.log"]);
}

/// Summer time begins on the 29th of March 2026 at 2:00, which is 1:00 UTC, and ends on the 25th of October
/// at 3:00.
const CENTRAL_EUROPE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

fn daylight_saving_day_has_one_archive(codec: Codec) {
    let zone = TimeZone::posix(CENTRAL_EUROPE).unwrap();
    for (day, next, moments) in [
        (
            "2026-03-29",
            "2026-03-30",
            ["2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T21:59:59Z"],
        ),
        (
            "2026-10-25",
            "2026-10-26",
            ["2026-10-24T22:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T22:59:59Z"],
        ),
    ] {
        let setup = Setup::of(codec, &[]);
        let mut archiver = setup.archiver_in(&zone);
        for (number, moment) in moments.into_iter().enumerate() {
            setup.append("a.log", format!("{number}\n"));
            archiver.cycle(at(moment), CycleMode::Now).unwrap();
            assert!(setup.archive().to_str().unwrap().contains(day), "{moment}");
        }
        archiver.cycle(at(moments[2]) + Duration::from_secs(1), CycleMode::Now).unwrap();
        let archives = setup.archives();
        assert_eq!(archives.len(), 2);
        assert!(archives[1].to_str().unwrap().contains(next));
        assert_eq!(members(&archives[0])[&b"a.log"[..]], b"0\n1\n2\n");
    }
}

fn repeated_hour_keeps_both_contents(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    let mut archiver = setup.archiver_in(&TimeZone::posix(CENTRAL_EUROPE).unwrap());
    for (moment, content) in [
        ("2026-10-25T00:00:00Z", "before\n"),
        ("2026-10-25T00:30:00Z", "from the first half past two on\n"),
        ("2026-10-25T01:30:00Z", "from the second half past two on\n"),
    ] {
        setup.write("new", content);
        std::fs::rename(setup.log("new"), setup.log("state.log")).unwrap();
        archiver.cycle(at(moment), CycleMode::Now).unwrap();
    }
    let mut held: Vec<_> = setup.members().into_values().collect();
    held.sort();
    assert_eq!(
        held,
        [&b"before\n"[..], b"from the first half past two on\n", b"from the second half past two on\n"]
    );
    assert!(names(&setup.members()).contains(&"state.log.20261025T023000".to_owned()));
}

fn leap_day_has_an_archive(codec: Codec) {
    let setup = Setup::of(codec, &["--keep-days=2"]);
    setup.write("a.log", "line\n");
    let mut archiver = setup.archiver();
    for moment in [
        "2028-02-27T12:00:00Z",
        "2028-02-28T23:59:59Z",
        "2028-02-29T00:00:00Z",
        "2028-02-29T23:59:59Z",
        "2028-03-01T00:00:00Z",
    ] {
        archiver.cycle(at(moment), CycleMode::Now).unwrap();
    }
    let left = setup.archives();
    let days: Vec<_> = left.iter().map(|path| &path.file_name().unwrap().to_str().unwrap()[9..19]).collect();
    assert_eq!(days, ["2028-02-29", "2028-03-01"]);
}

for_both_kinds!(
    daylight_saving_day_has_one_archive,
    repeated_hour_keeps_both_contents,
    leap_day_has_an_archive,
    midnight_completes_the_day_and_reuses_its_blocks,
    restart_on_another_day_reuses_blocks,
    clock_set_back_over_midnight_loses_nothing,
    old_archives_are_removed_with_their_indexes,
    superseded_content_is_bounded,
);
