//! Writes, rotates and deletes container logs as kubelet and the container runtime do, and knows every line.

use super::daemon::Daemon;
use fastrand::Rng;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Kubelet's `containerLogMaxFiles`, the live log included.
const FILES_MAX: usize = 5;

/// A line as it was written: its container and its number.
pub type Seen = (String, u64);

/// The logs of one container.
struct Written {
    dir: PathBuf,
    /// The name in archives: `NAMESPACE_POD_UID/CONTAINER`.
    name: String,
    file: File,
    restart: u32,
    lines: u64,
    /// Inodes of deleted logs that a daemon may still have open.
    deleted: BTreeSet<u64>,
    is_deleted: bool,
}

pub struct Kubelet {
    root: PathBuf,
    pods: Vec<Written>,
    rotations: u64,
    /// True while a daemon runs: only then are logs removed.
    pub is_watched: bool,
}

impl Kubelet {
    pub fn new(root: &Path) -> Kubelet {
        Kubelet { root: root.to_owned(), pods: Vec::new(), rotations: 0, is_watched: true }
    }

    /// Makes a pod with a container and its first log.
    pub fn pod(&mut self, namespace: &str, pod: &str) -> usize {
        let uid = format!("00000000-{:04}", self.pods.len());
        let name = format!("{namespace}_{pod}_{uid}/app");
        let dir = self.root.join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        let file = log(&dir.join("0.log"));
        self.pods.push(Written {
            dir,
            name,
            file,
            restart: 0,
            lines: 0,
            deleted: BTreeSet::new(),
            is_deleted: false,
        });
        self.pods.len() - 1
    }

    pub fn dir(&self, pod: usize) -> PathBuf {
        self.pods[pod].dir.clone()
    }

    /// Writes numbered lines, each with one call, as the runtime does.
    pub fn write(&mut self, pod: usize, lines: u64) {
        let pod = &mut self.pods[pod];
        for _ in 0..lines {
            let line = format!("{} stdout F {} line {}\n", jiff::Timestamp::now(), pod.name, pod.lines);
            pod.file.write_all(line.as_bytes()).unwrap();
            pod.lines += 1;
        }
    }

    /// Writes anything to the live log.
    pub fn write_text(&mut self, pod: usize, text: &str) {
        self.pods[pod].file.write_all(text.as_bytes()).unwrap();
    }

    /// Writes lines that do not compress.
    pub fn write_noise(&mut self, pod: usize, rng: &mut Rng, bytes: u64) {
        let mut noise = String::new();
        while (noise.len() as u64) < bytes {
            noise += &format!("{} stdout F ", jiff::Timestamp::now());
            for _ in 0..60 {
                noise += &format!("{:x}", rng.u64(..u64::MAX >> 11));
            }
            noise += "\n";
        }
        self.pods[pod].file.write_all(noise.as_bytes()).unwrap();
    }

    /// Compresses the log rotated before, removes the oldest, and renames the live one. The runtime writes to
    /// the renamed log until it opens the new one.
    pub fn rotate(&mut self, pod: usize) {
        self.rotations += 1;
        let time = 20_261_128_000_000 + self.rotations;
        let time = format!("{}-{:06}", time / 1_000_000, time % 1_000_000);
        let (dir, restart) = (self.pods[pod].dir.clone(), self.pods[pod].restart);
        let live = dir.join(format!("{restart}.log"));
        let mut rotated = self.rotated(pod);
        while rotated.len() > FILES_MAX - 2 {
            let oldest = rotated.remove(0);
            self.remove(pod, &oldest);
        }
        for path in rotated.iter().filter(|path| path.extension().is_none_or(|extension| extension != "gz")) {
            let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
            let mut gzip = GzEncoder::new(File::create(with(".tmp")).unwrap(), Compression::fast());
            gzip.write_all(&std::fs::read(path).unwrap()).unwrap();
            gzip.finish().unwrap();
            std::fs::rename(with(".tmp"), with(".gz")).unwrap();
            self.remove(pod, path);
        }
        std::fs::rename(&live, dir.join(format!("{restart}.log.{time}"))).unwrap();
        self.write(pod, 2);
        let new = log(&live);
        self.write(pod, 1);
        self.pods[pod].file = new;
    }

    /// Starts the container again, and removes the log of the start before the previous one.
    fn restart(&mut self, pod: usize) {
        let restart = self.pods[pod].restart + 1;
        if let (true, Some(old)) = (self.is_watched, restart.checked_sub(2)) {
            let prefix = format!("{old}.log");
            for path in self
                .names(pod)
                .into_iter()
                .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix))
            {
                self.remove(pod, &path);
            }
        }
        let written = &mut self.pods[pod];
        written.restart = restart;
        written.file = log(&written.dir.join(format!("{restart}.log")));
    }

    fn remove(&mut self, pod: usize, path: &Path) {
        self.pods[pod].deleted.insert(path.metadata().unwrap().ino());
        std::fs::remove_file(path).unwrap();
    }

    pub fn delete(&mut self, pod: usize) {
        for path in self.names(pod) {
            self.remove(pod, &path);
        }
        let written = &mut self.pods[pod];
        written.is_deleted = true;
        std::fs::remove_dir(&written.dir).unwrap();
        std::fs::remove_dir(written.dir.parent().unwrap()).unwrap();
    }

    fn names(&self, pod: usize) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&self.pods[pod].dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    fn rotated(&self, pod: usize) -> Vec<PathBuf> {
        let prefix = format!("{}.log.", self.pods[pod].restart);
        self.names(pod)
            .into_iter()
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix))
            .collect()
    }

    /// Does something at random.
    pub fn act(&mut self, rng: &mut Rng) {
        let alive: Vec<usize> = (0..self.pods.len()).filter(|pod| !self.pods[*pod].is_deleted).collect();
        if alive.is_empty() || alive.len() < 6 && rng.u64(..8) == 0 {
            let namespace = ["shop", "kube-system", "dev"][usize::try_from(rng.u64(..3)).unwrap()];
            let pod = self.pod(namespace, "web");
            self.write(pod, rng.u64(..20));
            return;
        }
        let pod = alive[usize::try_from(rng.u64(..alive.len() as u64)).unwrap()];
        match rng.u64(..10) {
            // While nobody reads, logs are not rotated more often than kubelet keeps rotated logs.
            0..=2 if self.is_watched || self.rotated(pod).len() < FILES_MAX - 1 => self.rotate(pod),
            3 => self.restart(pod),
            4 if self.is_watched && rng.u64(..3) == 0 => self.delete(pod),
            _ => self.write(pod, rng.u64(..200)),
        }
    }

    /// True if the daemon holds the container's live log open.
    pub fn is_open_in(&self, daemon: &Daemon, pod: usize) -> bool {
        open_inodes(daemon).contains(&self.pods[pod].file.metadata().unwrap().ino())
    }

    /// True if the daemon waits for the next write to the container's live log.
    pub fn is_quiet_in(&self, daemon: &Daemon, pod: usize) -> bool {
        let watch = format!(" ino:{:x} ", self.pods[pod].file.metadata().unwrap().ino());
        let entries = std::fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).unwrap();
        let mut texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
        texts.any(|text| text.lines().any(|line| line.starts_with("inotify ") && line.contains(&watch)))
    }

    pub fn all_are_open(&self, daemon: &Daemon) -> bool {
        let open = open_inodes(daemon);
        self.pods
            .iter()
            .filter(|pod| !pod.is_deleted)
            .all(|pod| open.contains(&pod.file.metadata().unwrap().ino()))
    }

    /// True if the daemon has closed, and so read, all logs that are deleted.
    pub fn deleted_are_closed(&self, daemon: &Daemon) -> bool {
        daemon.metric("logcd_pods_departed_logs") == 0.0 && deleted_and_open(daemon) == 0
    }

    pub fn written(&self) -> BTreeMap<Seen, u64> {
        let lines = self.pods.iter().flat_map(|pod| (0..pod.lines).map(|line| ((pod.name.clone(), line), 1)));
        lines.collect()
    }

    pub fn check(&self, out: &Path) -> Result<(), String> {
        let mut seen = BTreeMap::<Seen, u64>::new();
        for line in lines_of_all(out) {
            let (name, number) = line.split_once(" line ").ok_or_else(|| format!("torn: {line}"))?;
            *seen
                .entry((name.to_owned(), number.parse().map_err(|_| format!("torn: {line}"))?))
                .or_default() += 1;
        }
        let written = self.written();
        let missing: Vec<_> = written.keys().filter(|line| !seen.contains_key(line)).collect();
        let repeated: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
        match missing.is_empty() && repeated.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "of {}: {} missing {:?}, {} repeated {:?}",
                written.len(),
                missing.len(),
                &missing[..missing.len().min(5)],
                repeated.len(),
                &repeated[..repeated.len().min(5)]
            )),
        }
    }

    pub fn assert_archived(&self, out: &Path) {
        self.check(out).unwrap();
    }
}

/// Opens a log as the container runtime does.
fn log(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn descriptors(daemon: &Daemon) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn open_inodes(daemon: &Daemon) -> BTreeSet<u64> {
    descriptors(daemon).iter().filter_map(|path| Some(path.metadata().ok()?.ino())).collect()
}

fn deleted_and_open(daemon: &Daemon) -> usize {
    let is_deleted =
        |path: &PathBuf| path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 0);
    descriptors(daemon).iter().filter(|path| is_deleted(path)).count()
}

/// Lists all archives.
pub fn archives(out: &Path) -> Vec<PathBuf> {
    let mut archives = Vec::new();
    let Ok(namespaces) = std::fs::read_dir(out) else { return archives };
    for namespace in namespaces.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let names = std::fs::read_dir(namespace).unwrap().map(|entry| entry.unwrap().path());
        archives.extend(names.filter(|path| path.to_string_lossy().ends_with(".tar.gz")));
    }
    archives.sort();
    archives
}

/// Returns the content of all lines in all archives, entry after entry.
pub fn lines_of_all(out: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for archive in archives(out) {
        // It may be evicted meanwhile.
        let Ok(file) = File::open(archive) else { continue };
        let mut tar = tar::Archive::new(MultiGzDecoder::new(file));
        for entry in tar.entries().unwrap() {
            let mut text = String::new();
            entry.unwrap().read_to_string(&mut text).unwrap();
            let content = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or(line).to_owned();
            lines.extend(text.lines().map(content));
        }
    }
    lines
}

/// The numbers of the listed entries.
pub fn numbers(listed: &[u8]) -> Vec<String> {
    let listed = String::from_utf8_lossy(listed);
    listed.lines().map(|line| line.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}
