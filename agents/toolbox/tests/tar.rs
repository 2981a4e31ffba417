//! `tar` against GNU tar: each lists and unpacks archives that the other made.
//! The commands of `kubectl cp` work too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

const TOOLBOX: &str = env!("CARGO_BIN_EXE_toolbox");

fn ours(line: &str, directory: &Path) -> Output {
    let mut program = Command::new(TOOLBOX);
    program.arg("tar").args(line.split(' ')).current_dir(directory).env("TZ", "UTC");
    program.output().unwrap()
}

fn gnu(line: &str, directory: &Path) -> Output {
    let mut program = Command::new("tar");
    program.args(line.split(' ')).current_dir(directory).env("TZ", "UTC").env("LC_ALL", "C");
    program.output().unwrap()
}

#[track_caller]
fn succeeded(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let long = format!("tree/{}", "long-name-".repeat(15));
    fs::create_dir_all(at("tree/sub")).unwrap();
    fs::write(at("tree/client2-x7.log"), "21 Nov - Greetings from client2-x7\n".repeat(1000)).unwrap();
    fs::write(at("tree/sub/empty"), "").unwrap();
    fs::write(at("tree/sub/script"), "#!/bin/true\n").unwrap();
    fs::write(at(&long), vec![7; 100_000]).unwrap();
    fs::set_permissions(at("tree/sub/script"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("sub/script", at("tree/link")).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for name in ["tree/client2-x7.log", "tree/sub/empty", "tree/sub/script", &long, "tree/sub", "tree"] {
        File::open(at(name)).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }
    directory
}

/// The state of a directory: names, kinds, permissions, times and contents.
fn state(directory: &Path) -> String {
    let script = "find tree -not -type l -printf '%p %y %m %T@\\n' -o -printf '%p %y %l\\n' | sort; \
        find tree -type f -exec sha256sum {} + | sort";
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().unwrap();
    succeeded(output)
}

#[test]
fn what_gnu_tar_made_is_listed_and_unpacked_as_gnu_tar_does() {
    let directory = tree();
    let path = directory.path();
    succeeded(gnu("-cf plain.tar tree", path));
    succeeded(gnu("-czf packed.tar.gz tree", path));
    for line in [
        "-tf plain.tar",
        "-tzf packed.tar.gz",
        "-tf packed.tar.gz",
        "tf plain.tar",
        "-tvf plain.tar",
        "-tvzf packed.tar.gz",
        "-tf plain.tar tree/sub",
        "-xzOf packed.tar.gz tree/client2-x7.log",
        "-xOf plain.tar tree/sub/script",
    ] {
        assert_eq!(succeeded(ours(line, path)), succeeded(gnu(line, path)), "{line}");
    }
    let before = state(path);
    let target = tempfile::tempdir().unwrap();
    succeeded(ours(&format!("-xpzf packed.tar.gz -C {}", target.path().display()), path));
    assert_eq!(state(target.path()), before);
}

#[test]
fn gnu_tar_unpacks_what_is_made_here() {
    let directory = tree();
    let path = directory.path();
    for (make, take) in [("-cf a.tar tree", "-xpf"), ("czf a.tar tree", "-xpzf")] {
        succeeded(ours(make, path));
        let target = tempfile::tempdir().unwrap();
        succeeded(gnu(&format!("{take} a.tar -C {}", target.path().display()), path));
        assert_eq!(state(target.path()), state(path));
    }
}

/// Runs the commands of `kubectl cp`, with GNU tar in place of kubectl's own.
#[test]
fn kubectl_cp_works_both_ways() {
    let directory = tree();
    let path = directory.path();
    let output = ours(&format!("cf - {}/tree/client2-x7.log", path.display()), Path::new("/"));
    let members = format!("{}/tree/client2-x7.log", path.display());
    let target = tempfile::tempdir().unwrap();
    let mut unpack = Command::new("tar")
        .args(["xf", "-"])
        .current_dir(target.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    unpack.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    assert!(unpack.wait().unwrap().success());
    let copied = target.path().join(members.trim_start_matches('/'));
    assert_eq!(fs::read(copied).unwrap(), fs::read(path.join("tree/client2-x7.log")).unwrap());

    let made = gnu("-cf - tree", path).stdout;
    for words in [
        &["-xmf", "-", "-C"][..],
        &["xmf", "-", "-C"],
        &["--no-same-permissions", "--no-same-owner", "-xmf", "-", "-C"],
    ] {
        let target = tempfile::tempdir().unwrap();
        let mut unpack = Command::new(TOOLBOX)
            .arg("tar")
            .args(words)
            .arg(target.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        unpack.stdin.take().unwrap().write_all(&made).unwrap();
        assert!(unpack.wait().unwrap().success());
        let copied = target.path().join("tree/sub/script");
        assert_eq!(fs::read(&copied).unwrap(), b"#!/bin/true\n");
        let age = copied.metadata().unwrap().modified().unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(3600), "-m: the present time");
    }
}

#[test]
fn an_archive_of_a_file_that_is_being_written_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("growing.log");
    fs::write(&path, "a line\n".repeat(100_000)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"another\n").unwrap();
            }
        });
        let archives: Vec<Vec<u8>> =
            (0..20).map(|_| ours("cf - growing.log", directory.path()).stdout).collect();
        stop.store(true, Ordering::Relaxed);
        for archive in archives {
            fs::write(directory.path().join("a.tar"), archive).unwrap();
            assert_eq!(succeeded(gnu("-tf a.tar", directory.path())), "growing.log\n");
        }
    });
}

#[test]
fn what_cannot_be_read_or_found_is_named_and_the_rest_is_done() {
    let directory = tree();
    let path = directory.path();
    let output = ours("-cf a.tar tree nowhere", path);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("tar: nowhere: No such file"));
    assert!(succeeded(gnu("-tf a.tar", path)).contains("tree/sub/empty"));

    let output = ours("-tf a.tar tree/sub/empty tree/nothing", path);
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b"tree/sub/empty\n"[..]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("tree/nothing: not found in archive"));

    let whole = fs::read(path.join("a.tar")).unwrap();
    fs::write(path.join("torn.tar"), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(ours("-tf torn.tar", path).status.code(), Some(2));
    assert_eq!(ours("-tf nowhere.tar", path).status.code(), Some(2));
    assert_eq!(ours("-f a.tar", path).status.code(), Some(2));
    assert_eq!(ours("-cf b.tar", path).status.code(), Some(2));
}

#[test]
fn nothing_is_unpacked_outside_of_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::create_dir_all(path.join("inner/target")).unwrap();
    fs::write(path.join("evil"), "evil").unwrap();
    succeeded(gnu("-cPf up.tar --transform=s,^,../, evil", path));
    let output = ours("-xf up.tar -C inner/target", path);
    assert_eq!(output.status.code(), Some(2));
    assert!(!path.join("inner/evil").exists());

    // A link that leads outside, and a file through it.
    symlink("..", path.join("door")).unwrap();
    succeeded(gnu("-cf through.tar door", path));
    fs::remove_file(path.join("door")).unwrap();
    fs::create_dir(path.join("door")).unwrap();
    fs::write(path.join("door/evil"), "evil").unwrap();
    succeeded(gnu("-rf through.tar door/evil", path));
    let output = ours("-xf through.tar -C inner/target", path);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!path.join("inner/evil").exists());
}

#[test]
fn an_archive_in_its_own_directory_does_not_contain_itself_and_sockets_are_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
    fs::write(directory.path().join("kept"), "kept").unwrap();
    let output = ours("-cf own.tar .", directory.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(succeeded(gnu("-tf own.tar", directory.path())), "./\nkept\n");
    let mut content = String::new();
    File::open(directory.path().join("kept")).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "kept");
}

#[test]
fn file_named_like_stdout_is_archived() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("-"), "dash").unwrap();
    let archive = ours("cf - .", directory.path());
    assert_eq!(String::from_utf8_lossy(&archive.stderr), "");
    let beside = tempfile::tempdir().unwrap();
    fs::write(beside.path().join("archive.tar"), archive.stdout).unwrap();
    assert_eq!(succeeded(gnu("tf archive.tar", beside.path())), "./\n-\n");
}
