//! Every reader on this machine accepts every archive, with any file names and sizes.

use crate::support::{Setup, cycle, for_both_kinds, gnu_tar, log_lines, run};
use fastrand::Rng;
use logcd::archive::codec::Codec;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::process::Command;

/// True if the reader is on this machine. Prints the missing ones, so that the output shows what was checked.
fn is_asked(program: &str) -> bool {
    let there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !there.status.success() {
        eprintln!("{program} is not installed: not asked");
    }
    there.status.success()
}

fn all_readers_accept(setup: &Setup) {
    let archive = setup.archive();
    let path = archive.to_str().unwrap();
    let by_kind = match archive.extension().unwrap().to_str().unwrap() {
        // GNU tar starts this program.
        "zst" if !is_asked("zstd") => Vec::new(),
        "zst" => zstd_readers(path),
        _ => gzip_readers(path),
    };
    for (program, arguments) in by_kind {
        if is_asked(program) {
            run(Command::new(program).args(arguments));
        }
    }
    let verified = run(setup.reader().args(["verify", path]));
    assert!(String::from_utf8_lossy(&verified).contains("sound"));
}

fn zstd_readers(path: &str) -> Vec<(&'static str, Vec<&str>)> {
    vec![
        // The kind is detected from the first bytes.
        ("tar", vec!["-tf", path]),
        ("tar", vec!["--zstd", "-tf", path]),
        ("zstd", vec!["-qt", path]),
        ("pzstd", vec!["-qt", path]),
        ("bsdtar", vec!["-tf", path]),
    ]
}

fn gzip_readers(path: &str) -> Vec<(&'static str, Vec<&str>)> {
    vec![
        ("tar", vec!["-tf", path]),
        ("tar", vec!["-tzf", path]),
        ("gzip", vec!["-t", path]),
        ("pigz", vec!["-t", path]),
        ("busybox", vec!["tar", "-tzf", path]),
        ("busybox", vec!["gunzip", "-t", path]),
        ("bsdtar", vec!["-tf", path]),
        (
            "python3",
            vec!["-c", "import sys,tarfile\nfor m in tarfile.open(sys.argv[1]):\n  assert m.isfile()", path],
        ),
    ]
}

/// Checks that this machine has every reader, so that the other tests skip none.
#[test]
#[ignore = "needs every reader: just test-programs"]
fn every_reader_is_installed() {
    for (program, _) in [zstd_readers(""), gzip_readers("")].concat() {
        assert!(is_asked(program), "{program} is not installed");
    }
}

fn awkward_names_and_sizes_read_back_everywhere(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    let mut rng = Rng::with_seed(1);
    for size in [0, 1, 511, 512, 513, 32_768, 262_143, 262_144, 262_145, 700_000] {
        let mut content = log_lines(&mut rng, size);
        content.truncate(usize::try_from(size).unwrap());
        setup.write(&format!("size-{size}.log"), content);
    }
    let long = format!("{}.log", "n".repeat(240));
    for name in [&b"new\nline.log"[..], b"not utf-8 \xff\xfe.log", b" .log", b"-rf.log", long.as_bytes()] {
        std::fs::write(setup.root.path().join("log").join(OsStr::from_bytes(name)), b"line\n").unwrap();
    }
    setup.write("noise.log", (0..500_000).map(|_| rng.u8(..)).collect::<Vec<_>>());
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    all_readers_accept(&setup);
    for (name, content) in setup.logs() {
        assert!(setup.members().get(&name) == Some(&content), "{}", name.escape_ascii());
    }
    // Again, with an archive that is mostly kept blocks.
    for name in ["size-0.log", "size-700000.log", "noise.log"] {
        setup.append(name, log_lines(&mut rng, 3000));
    }
    std::fs::remove_file(setup.log("size-513.log")).unwrap();
    cycle(&mut archiver);
    all_readers_accept(&setup);
    for (name, content) in setup.logs() {
        assert!(setup.members().get(&name) == Some(&content), "{}", name.escape_ascii());
    }
}

fn no_logs_at_all_make_an_archive_too(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    setup.cycle();
    all_readers_accept(&setup);
    assert!(setup.members().is_empty());
}

fn file_above_eight_gibibytes_keeps_its_size(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    let size = (8 << 30) + 5;
    let file = std::fs::File::create(setup.log("big.log")).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"last\n", size - 5).unwrap();
    setup.write("next.log", "line\n");
    setup.cycle();
    let archive = setup.archive();
    let listed = match codec {
        // GNU gzip would take a minute.
        Codec::Gzip if is_asked("pigz") => {
            run(Command::new("tar").args(["-I", "pigz", "-tvf"]).arg(&archive))
        }
        _ => gnu_tar(&archive, codec, &["-tv".as_ref()]),
    };
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.contains(&size.to_string()) && listed.contains("p/next.log"), "{listed}");
    // Read directly from its blocks: the eight gibibytes before it are not inflated.
    let next = run(setup.reader().arg("cat").arg(&archive).arg("next.log"));
    assert_eq!(next, b"line\n");
}

for_both_kinds!(
    awkward_names_and_sizes_read_back_everywhere,
    no_logs_at_all_make_an_archive_too,
    file_above_eight_gibibytes_keeps_its_size,
);
