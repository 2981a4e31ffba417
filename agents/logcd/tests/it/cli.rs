//! The commands, exit codes and messages of the program.

use crate::support::{Setup, for_both_kinds, log_lines, run};
use fastrand::Rng;
use logcd::archive::codec::Codec;
use std::process::{Command, Output, Stdio};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn once_exits_0_with_and_without_news(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    setup.write("x.log", "line\n");
    for expected in ["event=archive_published", "event=archive_unchanged"] {
        let output = setup.once();
        assert!(output.status.success() && said(&output).contains(expected), "{}", said(&output));
        assert!(setup.members() == setup.logs());
    }
}

fn readers_work_with_and_without_the_index(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    let content = log_lines(&mut Rng::with_seed(1), 600_000);
    setup.write("a.log", "first\n");
    setup.write("big.log", &content);
    setup.cycle();
    let archive = setup.archive();
    let index = archive.with_file_name(format!(".{}.index", archive.file_name().unwrap().to_string_lossy()));
    for with_index in [true, false] {
        if !with_index {
            std::fs::remove_file(&index).unwrap();
        }
        let listed = String::from_utf8(run(setup.reader().arg("list").arg(&archive))).unwrap();
        let names: Vec<_> = listed.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(names, ["p/a.log", "p/big.log"]);
        for name in ["p/big.log", "big.log"] {
            assert!(run(setup.reader().arg("cat").arg(&archive).arg(name)) == content);
        }
        let into = setup.root.path().join(format!("into-{with_index}"));
        run(setup.reader().arg("extract").arg(&archive).arg("p/big.log").arg("--to").arg(&into));
        assert!(std::fs::read(into.join("p/big.log")).unwrap() == content);
        assert!(!into.join("p/a.log").exists());
        let verified = String::from_utf8(run(setup.reader().arg("verify").arg(&archive))).unwrap();
        let expected = if with_index { "and its index matches" } else { "no matching index" };
        assert!(verified.contains("sound, 2 files, ") && verified.contains(expected), "{verified}");
    }
}

fn errors_are_one_line_with_an_exit_code(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    setup.write("a.log", log_lines(&mut Rng::with_seed(1), 10_000));
    setup.cycle();
    let archive = setup.archive();
    let missing = setup.reader().arg("cat").arg(&archive).arg("b.log").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing).contains("holds no b.log; `logcd list"), "{}", said(&missing));
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&archive, bytes).unwrap();
    let damaged = setup.reader().arg("verify").arg(&archive).output().unwrap();
    assert_eq!(damaged.status.code(), Some(1));
    assert!(said(&damaged).contains("is damaged: "), "{}", said(&damaged));
    for (flags, code) in [
        (vec!["--no-such-flag"], 64),
        (vec!["--level=9"], 64),
        (vec!["--zstd", "--level=13"], 64),
        (vec!["--mode=0444"], 64),
        (vec!["--interval=60"], 64),
        (vec!["--interval=0s"], 64),
        (vec!["--poll=0s"], 64),
        (vec!["--remove-after=0s"], 64),
        (vec!["--include=["], 64),
        (vec!["--exclude=/var/log/x.log"], 64),
        (vec!["--once", "--dir=/tmp", "--dir=/var", "--prefix=p"], 64),
        (vec!["--once", "--dir=/var", "--dir=/var/log", "--recursive"], 64),
        (vec!["--once", "--dir=/no/such/directory"], 1),
        (vec!["--config=/no/such/file"], 78),
        (vec!["verify", "/no/such/archive"], 1),
    ] {
        let output = setup.reader().args(&flags).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {}", said(&output));
        assert_eq!(said(&output).lines().count(), 1, "{flags:?}: {}", said(&output));
        let flag =
            flags.iter().rfind(|flag| flag.starts_with("--")).map(|flag| flag.split('=').next().unwrap());
        assert!(code != 64 || said(&output).contains(flag.unwrap()), "{flags:?}: {}", said(&output));
    }
}

fn closed_pipe_is_success(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    setup.write("a.log", log_lines(&mut Rng::with_seed(1), 2_000_000));
    setup.cycle();
    let mut cat =
        setup.reader().arg("cat").arg(setup.archive()).arg("a.log").stdout(Stdio::piped()).spawn().unwrap();
    drop(cat.stdout.take());
    assert!(cat.wait().unwrap().success());
}

#[test]
fn settings_come_from_the_environment() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
    command.env("LOGCD_DIR", setup.root.path().join("log")).env("LOGCD_OUT", setup.out());
    command.env("LOGCD_PREFIX", "p").env("LOGCD_MIN_FREE", "1").env("LOGCD_ONCE", "true");
    assert!(command.output().unwrap().status.success());
    assert!(setup.members() == setup.logs());
}

for_both_kinds!(
    once_exits_0_with_and_without_news,
    readers_work_with_and_without_the_index,
    errors_are_one_line_with_an_exit_code,
    closed_pipe_is_success,
);
