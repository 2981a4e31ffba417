//! A log directory, logcd on it, and the archive as GNU tar sees it.

pub mod daemon;

use fastrand::Rng;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use logcd::archive::codec::Codec;
use logcd::archive_dir::LockedArchiveDir;
use logcd::config::Config;
use logcd::cycle::archiver::{Archiver, CycleMode};
use logcd::cycle::report::CycleReport;
use logcd::day::Calendar;
use logcd::error::ArchiveError;
use logcd::settings::Flags;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::iter;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Members of an archive or files of a directory: names and contents.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// Noon, so that no test crosses midnight by chance.
pub const NOON: &str = "2026-11-21T12:00:00Z";

pub struct Setup {
    pub root: tempfile::TempDir,
    pub flags: Vec<OsString>,
}

/// Makes a test for each kind of archive from each function.
macro_rules! for_both_kinds {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn gzip() {
                super::$name(logcd::archive::codec::Codec::Gzip);
            }

            #[test]
            fn zstd() {
                super::$name(logcd::archive::codec::Codec::Zstd);
            }
        })*
    };
}
pub(crate) use for_both_kinds;

impl Setup {
    /// Makes a setup for archives of one kind.
    pub fn of(codec: Codec, flags: &[&str]) -> Setup {
        let kind = if codec == Codec::Zstd { &["--zstd"][..] } else { &[] };
        Setup::new(&[kind, flags].concat())
    }

    pub fn new(flags: &[&str]) -> Setup {
        let root = tempfile::Builder::new().prefix("logcd-test-").tempdir().unwrap();
        std::fs::create_dir(root.path().join("log")).unwrap();
        std::fs::create_dir(root.path().join("out")).unwrap();
        let mut all: Vec<OsString> = vec![
            "--dir".into(),
            root.path().join("log").into(),
            "--out".into(),
            root.path().join("out").into(),
            "--prefix=p".into(),
            "--utc".into(),
        ];
        all.extend(flags.iter().map(OsString::from));
        Setup { root, flags: all }
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.root.path().join("log").join(name)
    }

    pub fn out(&self) -> PathBuf {
        self.root.path().join("out")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.log(name), content).unwrap();
    }

    pub fn append(&self, name: &str, content: impl AsRef<[u8]>) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.log(name)).unwrap();
        file.write_all(content.as_ref()).unwrap();
    }

    pub fn try_archiver_in(&self, zone: TimeZone) -> Result<Archiver, ArchiveError> {
        let config = Config { calendar: Calendar(zone), ..self.config() };
        let out = LockedArchiveDir::take(&config.out, config.publishing.mode)?;
        Ok(Archiver::new(config, out, Arc::default()))
    }

    /// Returns the settings of the flags, with no floor for free space unless one is given.
    pub fn config(&self) -> Config {
        let own_floor = self.flags.iter().any(|flag| flag.to_string_lossy().starts_with("--min-free="));
        let floor = (!own_floor).then(|| OsString::from("--min-free=1"));
        let argv = iter::once("logcd".into()).chain(floor).chain(self.flags.iter().cloned());
        let settings = kit::settings::load::<Flags>("LOGCD_TEST", argv).unwrap();
        settings.flags.serve.config().unwrap()
    }

    /// Starts an archiver. Waits for the lock: a child that another test forks holds a copy of it until its
    /// `exec`.
    pub fn archiver(&self) -> Archiver {
        self.archiver_in(&TimeZone::UTC)
    }

    pub fn archiver_in(&self, zone: &TimeZone) -> Archiver {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.try_archiver_in(zone.clone()) {
                Err(ArchiveError::Locked { .. }) if Instant::now() < deadline => std::thread::yield_now(),
                taken => return taken.unwrap(),
            }
        }
    }

    /// Starts an archiver and runs one cycle.
    pub fn cycle(&self) -> CycleReport {
        cycle(&mut self.archiver())
    }

    /// Restarts the archiver and runs one cycle.
    pub fn cycle_dropping(&self, archiver: Archiver) -> CycleReport {
        drop(archiver);
        self.cycle()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
        command.args(&self.flags).env("LOGCD_ADMIN", "none").env("LOGCD_MIN_FREE", "1").stdin(Stdio::null());
        command
    }

    pub fn once(&self) -> Output {
        self.command().arg("--once").output().unwrap()
    }

    /// Returns a command that reads archives and takes no flags.
    pub fn reader(&self) -> Command {
        Command::new(env!("CARGO_BIN_EXE_logcd"))
    }

    /// Returns the path of the only archive.
    pub fn archive(&self) -> PathBuf {
        let mut archives = self.archives();
        assert_eq!(archives.len(), 1, "{archives:?}");
        archives.remove(0)
    }

    pub fn archives(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().path());
        let mut archives: Vec<PathBuf> = names
            .filter(|path| path.extension().is_some_and(|extension| extension == "gz" || extension == "zst"))
            .collect();
        archives.sort();
        archives
    }

    /// Lists the files in the output directory that are neither archive nor index nor lock.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let paths = std::fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().path());
        let known = |name: &str| {
            name.ends_with(".tar.gz")
                || name.ends_with(".tar.zst")
                || name.ends_with(".index")
                || name == ".logcd.lock"
        };
        paths.filter(|path| !known(&path.file_name().unwrap().to_string_lossy())).collect()
    }

    /// Returns the archive's files as GNU tar unpacks them, without the prefix.
    pub fn members(&self) -> Contents {
        members(&self.archive())
    }

    /// Returns the current logs.
    pub fn logs(&self) -> Contents {
        files(&self.root.path().join("log"), |name| name.ends_with(b".log"))
    }
}

/// Makes logs and an archive of them that has superseded content.
pub fn with_history(codec: Codec) -> (Setup, Contents) {
    let setup = Setup::of(codec, &[]);
    let mut rng = Rng::with_seed(5);
    for (name, size) in [("a.log", 700_000), ("b.log", 10_000), ("c.log", 50)] {
        setup.write(name, log_lines(&mut rng, size));
    }
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    std::fs::remove_file(setup.log("b.log")).unwrap();
    cycle(&mut archiver);
    let members = setup.members();
    assert_eq!(names(&members), ["a.log", "b.log.20261121T120000", "c.log"]);
    (setup, members)
}

/// Returns the path of an archive's index.
pub fn index_of(archive: &Path) -> PathBuf {
    archive.with_file_name(format!(".{}.index", archive.file_name().unwrap().to_string_lossy()))
}

pub fn cycle(archiver: &mut Archiver) -> CycleReport {
    archiver.cycle(NOON.parse().unwrap(), CycleMode::Now).unwrap()
}

pub fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// Unpacks with GNU tar, which must not complain about anything.
pub fn members(archive: &Path) -> Contents {
    let zstd = archive.extension().unwrap() == "zst";
    members_of(archive, if zstd { Codec::Zstd } else { Codec::Gzip })
}

pub fn members_of(archive: &Path, codec: Codec) -> Contents {
    let into = tempfile::Builder::new().prefix("logcd-test-x-").tempdir().unwrap();
    gnu_tar(archive, codec, &["-x".as_ref(), "-C".as_ref(), into.path().as_os_str()]);
    let below = into.path().join("p");
    if below.exists() { files(&below, |_| true) } else { Contents::new() }
}

/// Runs GNU tar on an archive. libzstd decompresses for it, because not every host has the zstd program that
/// tar would start.
pub fn gnu_tar(archive: &Path, codec: Codec, arguments: &[&OsStr]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(arguments);
    match codec {
        Codec::Gzip => run(tar.arg("-zf").arg(archive)),
        Codec::Zstd => {
            let (plain, into_tar) = std::io::pipe().unwrap();
            let packed = File::open(archive).unwrap();
            let unpacking = std::thread::spawn(move || zstd::stream::copy_decode(packed, into_tar).unwrap());
            let said = run(tar.arg("-f").arg("-").stdin(plain));
            unpacking.join().unwrap();
            said
        }
    }
}

pub fn files(dir: &Path, matches: impl Fn(&[u8]) -> bool) -> Contents {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_vec(), entry.path()))
        .filter(|(name, _)| matches(name))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect()
}

/// Runs a command that must succeed and write nothing to stderr.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{command:?}: {} {said}", output.status);
    output.stdout
}

pub fn names(contents: &Contents) -> Vec<String> {
    contents.keys().map(|name| OsStr::from_bytes(name).to_string_lossy().into_owned()).collect()
}

/// Returns log lines of about this many bytes.
pub fn log_lines(rng: &mut Rng, bytes: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    while (lines.len() as u64) < bytes {
        let (a, b) = (rng.u64(..1 << 40), rng.u64(..100));
        lines
            .extend(format!("2026-11-21T12:00:00Z level=info id={a:x} took={b}ms request handled\n").bytes());
    }
    lines
}
