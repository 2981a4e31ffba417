//! Compares each program with the original of the same name: the same words give the same answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File, FileTimes};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

const TOOLBOX: &str = env!("CARGO_BIN_EXE_toolbox");

/// Makes files of known sizes, names and times.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("sub/deeper")).unwrap();
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let lines: String = (1..=500).map(|n| format!("line {n} of the log\n")).collect();
    for (name, content) in [
        ("lines.log", lines.as_bytes()),
        ("binary", &binary),
        ("empty", b""),
        ("sub/no newline.txt", b"last line without an end"),
        ("sub/all-logs-2026-11-21.tar.gz", b"not really"),
        ("sub/deeper/x.gz", b"x"),
    ] {
        fs::write(at(name), content).unwrap();
    }
    symlink("lines.log", at("link")).unwrap();
    symlink("nowhere", at("sub/dangling")).unwrap();
    let names =
        ["lines.log", "binary", "empty", "sub/no newline.txt", "sub/deeper/x.gz", "sub/deeper", "sub"];
    for (name, minute) in names.iter().zip(1_u64..) {
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 60 * minute);
        File::open(at(name)).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }
    directory
}

fn run(program: &mut Command, words: &[&str], directory: &Path) -> Output {
    program.args(words).current_dir(directory).env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    program.output().unwrap()
}

fn ours(words: &[&str], directory: &Path) -> Output {
    run(&mut Command::new(TOOLBOX), words, directory)
}

fn real(words: &[&str], directory: &Path) -> Output {
    run(&mut Command::new(words[0]), &words[1..], directory)
}

/// Checks that stdout and exit code are the same. If the program fails, both print an error.
#[track_caller]
fn agrees(line: &str, directory: &Path) {
    let words: Vec<&str> = line.split(' ').collect();
    let (ours, real) = (ours(&words, directory), real(&words, directory));
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        text(&ours),
        text(&real),
        "stdout of {line}; stderr: {:?}",
        ours.stderr.escape_ascii().to_string()
    );
    assert_eq!(ours.status.code(), real.status.code(), "exit code of {line}");
    assert_eq!(ours.stderr.is_empty(), real.stderr.is_empty(), "stderr of {line}");
}

#[test]
fn cat_head_tail_wc_and_ls_answer_as_the_real_ones() {
    let directory = directory();
    for line in [
        "cat lines.log",
        "cat -n lines.log sub/deeper/x.gz",
        "cat binary empty",
        "cat nowhere lines.log",
        "head lines.log",
        "head -n 3 lines.log empty",
        "head -c 100 binary",
        "head -n -490 lines.log",
        "tail lines.log",
        "tail -n 2 lines.log",
        "tail -n +495 lines.log",
        "tail -c 7 lines.log",
        "tail -c+9000 lines.log",
        "tail -1 lines.log",
        "wc lines.log empty sub/deeper/x.gz",
        "wc -l lines.log",
        "wc -c binary",
        "ls",
        "ls -a sub",
        "ls -l",
        "ls -la sub",
        "ls -lh binary",
        "ls -ltr sub",
        "ls -R",
        "ls -1 nowhere",
        "ls -ld sub",
    ] {
        agrees(line, directory.path());
    }
}

#[test]
fn find_answers_as_the_real_one_up_to_the_order_of_a_directory() {
    let directory = directory();
    for line in [
        "find .",
        "find sub -name *.gz",
        "find . -type f",
        "find . -type l",
        "find . -maxdepth 1 -type d",
        "find . -size +1k",
        "find . -newer empty",
        "find . -mmin +5 -type f",
        "find . -empty",
        "find . -not -name *.gz -and ( -name x* -or -name l* )",
        "find . -path ./sub/* -print0",
        "find . -name lines.log -exec cat {} ;",
        "find . -iname LINES*",
        "find sub empty -mindepth 1 -type f -o -name empty",
        "find . -name sub -prune -o -print",
        "find . ! ( -type f -o -type l )",
        "find . -size -2k -type f -mtime +1",
        "find . -name",
        "find . -type x",
        "find . -nothing",
        "find nowhere",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let (ours, real) = (ours(&words, directory.path()), real(&words, directory.path()));
        let sorted = |output: &Output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut lines: Vec<String> = text.split_inclusive(['\n', '\0']).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&ours), sorted(&real), "{line}");
        assert_eq!(ours.status.code(), real.status.code(), "exit code of {line}");
    }
}

#[test]
fn find_deletes_what_a_directory_holds_before_the_directory() {
    let (ours_in, real_in) = (directory(), directory());
    let words = ["find", "sub", "(", "-name", "*.gz", "-o", "-name", "deeper", ")", "-delete"];
    assert_eq!(ours(&words, ours_in.path()).status.code(), Some(0));
    assert_eq!(real(&words, real_in.path()).status.code(), Some(0));
    let left = |directory: &Path| String::from_utf8(real(&["ls", "-R"], directory).stdout).unwrap();
    assert_eq!(left(ours_in.path()), left(real_in.path()));
    assert!(!ours_in.path().join("sub/deeper").exists());
}

#[test]
fn date_expr_and_test_answer_as_the_real_ones() {
    let directory = directory();
    for line in [
        "date -u -d @1700000000 +%F-%H:%M:%S.%N",
        "date -u -d @1700000000",
        "date -u -d 2026-11-21T08:44:24Z +%s",
        "date -u -d @1700000000 --iso-8601=seconds",
        "date -u -I -d @1700000000",
        "date -R -d @1700000000",
        "date -d nonsense",
        "expr 21 * 2",
        "expr 7 % 7",
        "expr 1 / 0",
        "expr length crew",
        "test -d sub",
        "test -d lines.log",
        "test -s empty",
        "test 3 -lt 4",
    ] {
        agrees(line, directory.path());
    }
    let now: u64 =
        String::from_utf8(ours(&["date", "+%s"], directory.path()).stdout).unwrap().trim().parse().unwrap();
    let elapsed = UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(elapsed.abs_diff(now) < 60, "{now} is not the time, {elapsed}");
}

#[test]
fn a_reader_that_goes_away_ends_a_program_without_a_word() {
    let directory = directory();
    fs::write(directory.path().join("long"), vec![b'\n'; 10 << 20]).unwrap();
    for words in [&["cat", "long"][..], &["tar", "cf", "-", "long"], &["tail", "-n", "+1", "long"]] {
        let mut child = Command::new(TOOLBOX)
            .args(words)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    }
}

#[test]
fn tail_follows_a_file_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node_log");
    fs::write(&path, "first\n").unwrap();
    let mut tail =
        Command::new(TOOLBOX).args(["tail", "-F"]).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"second\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    fs::rename(&path, directory.path().join("node_log.000001")).unwrap();
    fs::write(&path, "third\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "third");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn a_program_is_a_link_or_the_first_word_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["cat", "date", "expr", "find", "head", "ls", "tail", "tar", "test", "wc"] {
        let link = directory.path().join(name);
        symlink(TOOLBOX, &link).unwrap();
        let words: &[&str] = if name == "test" { &["-d", "."] } else { &["--help"] };
        let output = Command::new(&link).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(!help.contains(&format!("{name}-about")), "the name of a message, not the message: {help}");
    }
    assert_eq!(ours(&["nothing"], directory.path()).status.code(), Some(64));
    assert_eq!(ours(&[], directory.path()).status.code(), Some(64));
    let help = String::from_utf8(ours(&["--help"], directory.path()).stdout).unwrap();
    assert!(help.contains("cat, date, expr, find, head, ls, tail, tar, test, wc"), "{help}");
}
