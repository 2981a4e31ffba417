//! Containers that write, and kubelet's rotation of their logs.

use super::logs;
use anyhow::Context;
use fastrand::Rng;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub const CONTAINERS: u32 = 200;
const NAMESPACES: u32 = 10;
/// The default of kubelet's `containerLogMaxFiles`, the live log included.
const FILES_MAX: usize = 5;
/// The rate is kept in steps of this length.
const STEP: Duration = Duration::from_millis(10);

/// A run: how much is written, how fast, and when a log is rotated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub bytes: u64,
    pub bytes_a_second: u64,
    pub rotate_bytes: u64,
}

/// The lines and bytes that all containers wrote.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The number of lines of each container.
    pub lines: Vec<usize>,
    pub bytes: u64,
    pub rotations: usize,
}

struct Container {
    number: u32,
    directory: PathBuf,
    file: File,
    file_bytes: u64,
    lines: usize,
    rng: Rng,
    /// The container's share of all bytes, in millionths.
    share: u64,
    written_bytes: u64,
    /// The rotated logs, the oldest first.
    rotated: VecDeque<PathBuf>,
}

/// Makes the directories of all containers, each with an empty log.
pub fn make(root: &Path) -> anyhow::Result<()> {
    for number in 0..CONTAINERS {
        let directory = directory(root, number);
        std::fs::create_dir_all(&directory)?;
        File::create(directory.join("0.log"))?;
    }
    Ok(())
}

fn directory(root: &Path, number: u32) -> PathBuf {
    let namespace = number % NAMESPACES;
    root.join(format!("team-{namespace}_web-{number}_00000000-0000-4000-8000-{number:012}/app"))
}

/// Writes all lines. The sizes fall off as on a node: the largest log is 68 times the smallest.
pub fn write(root: &Path, plan: Plan) -> anyhow::Result<Written> {
    let weight = |number: u32| 1_000_000 / u64::from(number + 3);
    let sum: u64 = (0..CONTAINERS).map(weight).sum();
    let mut containers = (0..CONTAINERS)
        .map(|number| Container::open(root, number, weight(number) * 1_000_000 / sum))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    let mut written = Written::default();
    while written.bytes < plan.bytes {
        let elapsed = began.elapsed();
        let due = plan.bytes_a_second.saturating_mul(u64::try_from(elapsed.as_millis())?) / 1000;
        for container in &mut containers {
            let bytes = container.written_bytes;
            container.write(due.min(plan.bytes), plan.rotate_bytes, elapsed, &mut written.rotations)?;
            written.bytes += container.written_bytes - bytes;
        }
        if due >= plan.bytes {
            break;
        }
        std::thread::park_timeout(STEP);
    }
    written.lines = containers.iter().map(|container| container.lines).collect();
    Ok(written)
}

impl Container {
    fn open(root: &Path, number: u32, share: u64) -> anyhow::Result<Container> {
        let directory = directory(root, number);
        let file = live(&directory)?;
        Ok(Container {
            number,
            directory,
            file,
            file_bytes: 0,
            lines: 0,
            rng: Rng::with_seed(u64::from(number)),
            share,
            written_bytes: 0,
            rotated: VecDeque::new(),
        })
    }

    /// Writes the container's share of `total_bytes`, each line with one call, as the runtime does.
    fn write(
        &mut self,
        total_bytes: u64,
        rotate_bytes: u64,
        time: Duration,
        rotations: &mut usize,
    ) -> anyhow::Result<()> {
        let mut line = Vec::new();
        let seconds = time.as_secs();
        while self.written_bytes < total_bytes / 1_000_000 * self.share {
            line.clear();
            write!(
                line,
                "2026-11-28T{:02}:{:02}:{:02}.{:09}Z stdout F ",
                10 + seconds / 3600,
                seconds / 60 % 60,
                seconds % 60,
                time.subsec_nanos()
            )?;
            // Kinds 1 and 2 are lines of a JSON logger and of a web server.
            logs::write_line(&mut self.rng, 1 + u64::from(self.number % 2), self.lines as u64, &mut line)?;
            line.pop();
            writeln!(line, " c={} n={}", self.number, self.lines)?;
            self.file.write_all(&line)?;
            self.lines += 1;
            self.written_bytes += line.len() as u64;
            self.file_bytes += line.len() as u64;
            if self.file_bytes >= rotate_bytes {
                *rotations += 1;
                self.rotate(*rotations)?;
            }
        }
        Ok(())
    }

    /// Removes the oldest log, compresses the one that was renamed last, and renames the live one.
    fn rotate(&mut self, number: usize) -> anyhow::Result<()> {
        while self.rotated.len() > FILES_MAX - 2 {
            std::fs::remove_file(self.rotated.pop_front().context("no rotated log")?)?;
        }
        if let Some(plain) = self.rotated.pop_back() {
            let compressed = with_suffix(&plain, ".gz");
            let temporary = with_suffix(&plain, ".tmp");
            let status =
                Command::new("gzip").arg("-1c").arg(&plain).stdout(File::create(&temporary)?).status()?;
            anyhow::ensure!(status.success(), "gzip failed: {status}");
            std::fs::rename(temporary, &compressed)?;
            std::fs::remove_file(plain)?;
            self.rotated.push_back(compressed);
        }
        let renamed = self.directory.join(format!("0.log.20261128-{number:06}"));
        std::fs::rename(self.directory.join("0.log"), &renamed)?;
        self.rotated.push_back(renamed);
        self.file = live(&self.directory)?;
        self.file_bytes = 0;
        Ok(())
    }
}

fn live(directory: &Path) -> anyhow::Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(directory.join("0.log"))?)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
