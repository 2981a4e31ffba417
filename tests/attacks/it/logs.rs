//! A directory of logs from which logcd deletes archived ones, and the content that must be in a log or in an
//! archive.

use crate::binaries::binary;
use crate::disk::run;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use trial::Process;

/// Makes logcd as busy as it can be.
pub fn configure(command: &mut Command, directory: &Path, out: &Path) {
    command.arg("--dir").arg(directory).arg("--out").arg(out).args([
        "--prefix=p",
        "--min-free=1",
        "--interval=20ms",
        "--publish-within=20ms",
        "--poll=20ms",
        "--remove-after=1ms",
        "--admin=127.0.0.1:0",
        "--log-format=json",
    ]);
}

pub fn command(directory: &Path, out: &Path) -> Command {
    let mut command = Command::new(binary("logcd"));
    configure(&mut command, directory, out);
    command
}

pub struct Logs {
    directory: PathBuf,
    out: PathBuf,
    /// Content that is safely on the disk.
    written: BTreeMap<String, Vec<u8>>,
}

impl Logs {
    /// Makes both directories below `root`.
    pub fn below(root: &Path) -> Logs {
        let (directory, out) = (root.join("log"), root.join("out"));
        for made in [&directory, &out] {
            std::fs::create_dir(made).unwrap();
        }
        File::open(root).unwrap().sync_all().unwrap();
        Logs { directory, out, written: BTreeMap::new() }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn out(&self) -> &Path {
        &self.out
    }

    pub fn count(&self) -> usize {
        self.written.len()
    }

    /// Writes a new log, which is on the disk when this returns.
    pub fn write(&mut self, bytes: usize) {
        let name = format!("{}.log", self.written.len());
        let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
        let mut file = File::create_new(self.directory.join(&name)).unwrap();
        writeln!(file, "{text}").unwrap();
        file.sync_all().unwrap();
        File::open(&self.directory).unwrap().sync_all().unwrap();
        self.written.insert(name, text.into_bytes().into_iter().chain([b'\n']).collect());
    }

    /// Counts the logs that are deleted by now, without those that are only renamed before their deletion.
    pub fn gone(&self) -> usize {
        self.written.len() - std::fs::read_dir(&self.directory).unwrap().count()
    }

    /// Waits until the agent has deleted `count` logs, or has ended. Meanwhile `act` is called repeatedly.
    pub fn until_gone(&mut self, count: usize, agent: &Process, mut act: impl FnMut(&mut Logs)) {
        agent.wait_until("that it deletes", || {
            let over = self.gone() >= count || agent.is_over();
            if !over {
                act(self);
            }
            over
        });
    }

    /// Checks that an undisturbed run deletes every log, and that each is in an archive.
    pub fn all_go(&mut self) {
        let agent = Process::start_ready(&mut command(&self.directory, &self.out));
        self.until_gone(self.count(), &agent, |_| {});
        agent.kill9();
        self.check();
    }

    /// Checks that each log is in an archive or still in the directory.
    pub fn check(&self) {
        let archived = contents_of_archives(&self.out);
        for (name, content) in &self.written {
            if !archived.contains(content) {
                let there = std::fs::read(self.directory.join(name));
                let there = there.unwrap_or_else(|e| panic!("{name} is not archived, and: {e}"));
                assert!(there == *content, "{name} is neither archived nor whole");
            }
        }
    }
}

/// Reads all archives, which must be whole for GNU tar and for logcd.
fn contents_of_archives(out: &Path) -> BTreeSet<Vec<u8>> {
    let mut contents = BTreeSet::new();
    for archive in std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()) {
        if archive.extension().is_none_or(|extension| extension != "gz") {
            continue;
        }
        let unpacked = tempfile::tempdir().unwrap();
        run(Command::new(binary("logcd")).arg("verify").arg(&archive));
        run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(unpacked.path()));
        let Ok(logs) = std::fs::read_dir(unpacked.path().join("p")) else { continue };
        contents.extend(logs.map(|log| std::fs::read(log.unwrap().path()).unwrap()));
    }
    contents
}
