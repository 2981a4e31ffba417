//! A log directory shared with strangers: nothing outside is read, nothing hangs, and skipped files are
//! counted.

use crate::support::{Setup, cycle, names, run};
use logcd::logs::skip::Skip;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::wait_until;

const SECRET: &[u8] = b"root:x:secret\n";

/// Ends the mischief even if a check fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs cycles while `mischief` goes on in another thread, until both have had many iterations.
fn during(setup: &Setup, mischief: impl Fn() + Sync, mut check: impl FnMut()) {
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let mischief = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                mischief();
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ends = Ends(&stop);
        let mut archiver = setup.archiver();
        let mut cycles = 0;
        while cycles < 300 || turns.load(Ordering::Relaxed) < 300 {
            if mischief.is_finished() {
                break;
            }
            cycle(&mut archiver);
            cycles += 1;
            if cycles % 20 == 0 {
                check();
            }
        }
        drop(ends);
        mischief.join().unwrap();
    });
}

#[test]
fn special_files_are_skipped_and_counted() {
    let setup = Setup::new(&[]);
    let secret = setup.root.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    setup.write("good.log", "fine\n");
    symlink(&secret, setup.log("link.log")).unwrap();
    symlink("/nowhere", setup.log("dangling.log")).unwrap();
    symlink("loop.log", setup.log("loop.log")).unwrap();
    run(std::process::Command::new("mkfifo").arg(setup.log("fifo.log")));
    let _socket = std::os::unix::net::UnixListener::bind(setup.log("socket.log")).unwrap();
    std::fs::create_dir(setup.log("directory.log")).unwrap();
    let outcome = setup.cycle();
    assert_eq!(names(&setup.members()), ["good.log"]);
    let skipped: Vec<_> =
        outcome.skipped.iter().map(|(name, skip)| (std::str::from_utf8(name).unwrap(), *skip)).collect();
    let expected = [
        ("dangling.log", Skip::Symlink),
        ("directory.log", Skip::NotAFile),
        ("fifo.log", Skip::NotAFile),
        ("link.log", Skip::Symlink),
        ("loop.log", Skip::Symlink),
        ("socket.log", Skip::NotAFile),
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn swapped_file_reveals_nothing() {
    let setup = Setup::new(&[]);
    let secret = setup.root.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    setup.write("steady.log", "fine\n");
    let swap = |make: &dyn Fn(&Path)| {
        let new = setup.log("new");
        let _ = std::fs::remove_file(&new);
        make(&new);
        std::fs::rename(&new, setup.log("x.log")).unwrap();
    };
    let fifo = |path: &Path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    let mischief = || {
        swap(&|path| std::fs::write(path, "public\n").unwrap());
        swap(&|path| symlink(&secret, path).unwrap());
        swap(&|path| std::fs::write(path, "public too\n").unwrap());
        swap(&fifo);
    };
    during(&setup, mischief, || {
        for (name, content) in setup.members() {
            assert!(!content.starts_with(b"root"), "{} gives the secret away", name.escape_ascii());
        }
    });
}

#[test]
fn swapped_directory_reveals_nothing() {
    let setup = Setup::new(&["--recursive"]);
    let outside = setup.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x.log"), SECRET).unwrap();
    std::fs::create_dir(setup.log("real")).unwrap();
    setup.write("real/x.log", "public\n");
    symlink(&outside, setup.log("fake")).unwrap();
    let mischief = || {
        let _ = std::fs::rename(setup.log("real"), setup.log("sub"));
        let _ = std::fs::rename(setup.log("sub"), setup.log("real"));
        let _ = std::fs::rename(setup.log("fake"), setup.log("sub"));
        let _ = std::fs::rename(setup.log("sub"), setup.log("fake"));
    };
    during(&setup, mischief, || {
        let listed = run(std::process::Command::new("tar").arg("-xzOf").arg(setup.archive()));
        assert!(!listed.windows(4).any(|bytes| bytes == b"root"), "the secret is in the archive");
    });
}

#[test]
fn log_directory_replaced_by_a_symlink_is_not_followed() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "fine\n");
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    let outside = setup.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("y.log"), SECRET).unwrap();
    std::fs::rename(setup.root.path().join("log"), setup.root.path().join("gone")).unwrap();
    symlink(&outside, setup.root.path().join("log")).unwrap();
    let error = archiver
        .cycle(crate::support::at(crate::support::NOON), logcd::cycle::archiver::CycleMode::Now)
        .unwrap_err();
    assert!(error.to_string().contains("open the log directory"), "{error}");
    assert_eq!(names(&setup.members()), ["x.log"]);
}

#[test]
fn hard_link_to_outside_is_skipped() {
    let setup = Setup::new(&[]);
    let outside = setup.root.path().join("shadow");
    std::fs::write(&outside, SECRET).unwrap();
    std::fs::hard_link(&outside, setup.log("stolen.log")).unwrap();
    setup.write("x.log", "fine\n");
    std::fs::hard_link(setup.log("x.log"), setup.log("x.log.1")).unwrap();
    let outcome = setup.cycle();
    assert_eq!(names(&setup.members()), ["x.log"]);
    assert_eq!(outcome.skipped.get(&b"stolen.log"[..]), Some(&Skip::HardLink));
    let setup = Setup { flags: [&setup.flags[..], &["--hard-links".into()]].concat(), ..setup };
    setup.cycle();
    assert_eq!(names(&setup.members()), ["stolen.log", "x.log"]);
}

#[test]
fn sparse_bomb_is_skipped() {
    let setup = Setup::new(&["--max-holes=1GiB"]);
    let sparse = |name: &str, size: u64, tail: &[u8]| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(setup.log(name)).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(tail, size - tail.len() as u64).unwrap();
    };
    sparse("bomb.log", 15 << 40, b"boom\n");
    sparse("holes.log", 5 << 20, b"after the hole\n");
    let outcome = setup.cycle();
    assert_eq!(outcome.skipped.get(&b"bomb.log"[..]), Some(&Skip::Sparse));
    let members = setup.members();
    assert_eq!(names(&members), ["holes.log"]);
    assert!(members[&b"holes.log"[..]] == std::fs::read(setup.log("holes.log")).unwrap());
}

#[test]
fn planted_files_do_not_displace_archived_ones() {
    let setup = Setup::new(&["--max-files=3"]);
    for number in 4..7 {
        setup.write(&format!("{number}.log"), "line\n");
    }
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    for number in 0..4 {
        setup.write(&format!("{number}.log"), "planted\n");
    }
    for number in 0..100 {
        symlink("/nowhere", setup.log(&format!("link-{number}.log"))).unwrap();
    }
    let outcome = cycle(&mut archiver);
    assert_eq!(names(&setup.members()), ["4.log", "5.log", "6.log"]);
    assert_eq!(outcome.skip_counts[&Skip::TooMany], 4);
    assert_eq!(outcome.skip_counts[&Skip::Symlink], 100);
    assert!(outcome.skipped.len() <= 3, "only so many names are kept in memory");
}

#[test]
fn output_follows_no_symlink_and_has_its_mode() {
    let setup = Setup::new(&["--mode=0640"]);
    let victim = setup.root.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    for name in [
        "all-logs-2026-11-21.tar.gz",
        ".all-logs-2026-11-21.tar.gz.draft",
        ".all-logs-2026-11-21.tar.gz.index",
        ".all-logs-2026-11-21.tar.gz.index.draft",
    ] {
        symlink(&victim, setup.out().join(name)).unwrap();
    }
    setup.write("x.log", "line\n");
    setup.cycle();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    let archive = std::fs::symlink_metadata(setup.archive()).unwrap();
    assert!(archive.is_file());
    assert_eq!(archive.permissions().mode() & 0o777, 0o640);
    assert_eq!(names(&setup.members()), ["x.log"]);
    let setup = Setup::new(&[]);
    setup.cycle();
    assert_eq!(std::fs::metadata(setup.archive()).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn second_logcd_exits_with_try_again() {
    let setup = Setup::new(&[]);
    let held = setup.archiver();
    let output = setup.once();
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8(output.stderr).unwrap();
    let holder = trial::holder(std::process::id());
    let why = format!("another logcd {holder} uses {}; only one may", setup.out().display());
    assert!(said.contains(&why), "{said}");
    drop(held);
    wait_until("the directory to be free", || setup.once().status.success());
}

#[test]
fn hostile_archive_unpacks_nothing_outside() {
    use tar::{EntryType, Header};
    let root = tempfile::tempdir().unwrap();
    let victim = root.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let absolute = victim.to_str().unwrap();
    // The entries of the archive: each name, with the target if it is a link.
    let file = |name| (name, None);
    for entries in [
        vec![file("../victim")],
        vec![file("a/../../victim")],
        vec![file(absolute)],
        vec![("link", Some((EntryType::Symlink, ".."))), file("link/victim")],
        vec![("link", Some((EntryType::Symlink, absolute))), file("link")],
        vec![("link", Some((EntryType::Link, "../victim"))), file("link")],
        vec![("link", Some((EntryType::Link, absolute))), file("link")],
    ] {
        let archive = root.path().join("all-logs-2026-11-21.tar.gz");
        let packed = std::fs::File::create(&archive).unwrap();
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(packed, flate2::Compression::fast()));
        for (name, link) in &entries {
            let mut header = Header::new_gnu();
            // Written directly: the library refuses such a name.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            let content: &[u8] = if link.is_some() { b"" } else { b"stolen" };
            header.set_size(content.len() as u64);
            if let Some((kind, target)) = link {
                header.set_entry_type(*kind);
                header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
            }
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        let to = root.path().join("to");
        let mut reader = std::process::Command::new(env!("CARGO_BIN_EXE_logcd"));
        reader.arg("extract").arg(&archive).arg("--to").arg(&to).output().unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious", "{entries:?}");
        let mut beside: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["all-logs-2026-11-21.tar.gz", "to", "victim"], "{entries:?}");
        std::fs::remove_dir_all(&to).unwrap();
    }
}
