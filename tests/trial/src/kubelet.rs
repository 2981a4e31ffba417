//! Imitates kubelet and the container runtime: writes, rotates and deletes container logs, and counts the
//! lines. The checks compare these with the lines in logcd's archives.

use crate::{Process, ask, metric};
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

/// The container and the number of a line.
pub type Seen = (String, u64);

/// The log files of one container.
pub struct ContainerLogs {
    directory: PathBuf,
    restart: u32,
    /// The file to which the runtime writes.
    pub live: File,
}

impl ContainerLogs {
    /// Creates the directory and the first log, unless they exist.
    pub fn open(directory: &Path) -> ContainerLogs {
        std::fs::create_dir_all(directory).unwrap();
        ContainerLogs { directory: directory.to_owned(), restart: 0, live: log(&directory.join("0.log")) }
    }

    fn live_path(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.restart))
    }

    /// Compresses the previous rotated log, removes the oldest, and renames the live one. The runtime writes
    /// to the renamed log until it opens the next one. Returns the inodes of the removed logs.
    pub fn rotate(&self, time: &str) -> Vec<u64> {
        let mut removed = Vec::new();
        let mut remove = |path: &Path| removed.push(remove(path));
        let mut rotated = self.rotated();
        while rotated.len() > FILES_MAX - 2 {
            remove(&rotated.remove(0));
        }
        for path in rotated.iter().filter(|path| path.extension().is_none_or(|extension| extension != "gz")) {
            let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
            let mut gzip = GzEncoder::new(File::create(with(".tmp")).unwrap(), Compression::fast());
            gzip.write_all(&std::fs::read(path).unwrap()).unwrap();
            gzip.finish().unwrap();
            std::fs::rename(with(".tmp"), with(".gz")).unwrap();
            remove(path);
        }
        let live = self.live_path();
        std::fs::rename(&live, format!("{}.{time}", live.display())).unwrap();
        removed
    }

    /// Creates the next live log. The runtime does not write to it yet.
    pub fn next(&self) -> File {
        log(&self.live_path())
    }

    fn names(&self) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    fn names_with(&self, prefix: &str) -> Vec<PathBuf> {
        let is_wanted = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
        self.names().into_iter().filter(is_wanted).collect()
    }

    fn rotated(&self) -> Vec<PathBuf> {
        self.names_with(&format!("{}.log.", self.restart))
    }
}

/// Removes a log and returns its inode.
fn remove(path: &Path) -> u64 {
    let inode = path.metadata().unwrap().ino();
    std::fs::remove_file(path).unwrap();
    inode
}

/// A container and the number of lines that it wrote.
struct Written {
    /// The name in archives: `NAMESPACE_POD_UID/CONTAINER`.
    name: String,
    logs: ContainerLogs,
    lines: u64,
    /// The inodes of deleted logs. A daemon may still have them open.
    deleted: BTreeSet<u64>,
    is_deleted: bool,
}

/// A node's pods, each with one container, below one directory.
pub struct Kubelet {
    root: PathBuf,
    pods: Vec<Written>,
    rotations: u64,
    /// True while a daemon runs. Logs are removed only then, since nobody else may read them.
    pub is_watched: bool,
}

impl Kubelet {
    pub fn new(root: &Path) -> Kubelet {
        Kubelet { root: root.to_owned(), pods: Vec::new(), rotations: 0, is_watched: true }
    }

    /// Creates a pod with a container and its first log. Returns the pod's index.
    pub fn pod(&mut self, namespace: &str, pod: &str) -> usize {
        let uid = format!("00000000-{:04}", self.pods.len());
        let name = format!("{namespace}_{pod}_{uid}/app");
        let logs = ContainerLogs::open(&self.root.join(&name));
        self.pods.push(Written { name, logs, lines: 0, deleted: BTreeSet::new(), is_deleted: false });
        self.pods.len() - 1
    }

    pub fn dir(&self, pod: usize) -> PathBuf {
        self.pods[pod].logs.directory.clone()
    }

    /// Writes numbered lines, each with one system call, as the runtime does.
    pub fn write(&mut self, pod: usize, lines: u64) {
        let pod = &mut self.pods[pod];
        for _ in 0..lines {
            let line = format!("{} stdout F {} line {}\n", jiff::Timestamp::now(), pod.name, pod.lines);
            pod.logs.live.write_all(line.as_bytes()).unwrap();
            pod.lines += 1;
        }
    }

    /// Writes a text to the live log. Its lines are not counted.
    pub fn write_text(&mut self, pod: usize, text: &str) {
        self.pods[pod].logs.live.write_all(text.as_bytes()).unwrap();
    }

    /// Writes lines that hardly compress. They are not counted.
    pub fn write_noise(&mut self, pod: usize, rng: &mut Rng, bytes: u64) {
        let mut noise = String::new();
        while (noise.len() as u64) < bytes {
            noise += &format!("{} stdout F ", jiff::Timestamp::now());
            for _ in 0..60 {
                noise += &format!("{:x}", rng.u64(..u64::MAX >> 11));
            }
            noise += "\n";
        }
        self.pods[pod].logs.live.write_all(noise.as_bytes()).unwrap();
    }

    /// Rotates the live log. The runtime writes three more lines to the renamed log before it switches.
    pub fn rotate(&mut self, pod: usize) {
        self.rotations += 1;
        let time = 20_261_128_000_000 + self.rotations;
        let removed = self.pods[pod].logs.rotate(&format!("{}-{:06}", time / 1_000_000, time % 1_000_000));
        self.pods[pod].deleted.extend(removed);
        self.write(pod, 2);
        let next = self.pods[pod].logs.next();
        self.write(pod, 1);
        self.pods[pod].logs.live = next;
    }

    /// Restarts the container. While a daemon runs, removes the logs of the start before the previous one.
    fn restart(&mut self, pod: usize) {
        let written = &mut self.pods[pod];
        let restart = written.logs.restart + 1;
        if let (true, Some(old)) = (self.is_watched, restart.checked_sub(2)) {
            let old = written.logs.names_with(&format!("{old}.log"));
            written.deleted.extend(old.iter().map(|path| remove(path)));
        }
        written.logs.restart = restart;
        written.logs.live = written.logs.next();
    }

    pub fn delete(&mut self, pod: usize) {
        let written = &mut self.pods[pod];
        written.deleted.extend(written.logs.names().iter().map(|path| remove(path)));
        written.is_deleted = true;
        std::fs::remove_dir(&written.logs.directory).unwrap();
        std::fs::remove_dir(written.logs.directory.parent().unwrap()).unwrap();
    }

    /// Creates a pod, or writes to, rotates, restarts or deletes a random one.
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
            // While no daemon reads, rotate only if kubelet then removes no log.
            0..=2 if self.is_watched || self.pods[pod].logs.rotated().len() < FILES_MAX - 1 => {
                self.rotate(pod);
            }
            3 => self.restart(pod),
            4 if self.is_watched && rng.u64(..3) == 0 => self.delete(pod),
            _ => self.write(pod, rng.u64(..200)),
        }
    }

    /// True if the daemon holds the container's live log open.
    pub fn is_open_in(&self, daemon: &Process, pod: usize) -> bool {
        open_inodes(daemon).contains(&self.pods[pod].logs.live.metadata().unwrap().ino())
    }

    /// True if the daemon watches the container's live log for the next write, through inotify.
    pub fn is_quiet_in(&self, daemon: &Process, pod: usize) -> bool {
        let watch = format!(" ino:{:x} ", self.pods[pod].logs.live.metadata().unwrap().ino());
        let entries = std::fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).unwrap();
        let mut texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
        texts.any(|text| text.lines().any(|line| line.starts_with("inotify ") && line.contains(&watch)))
    }

    pub fn all_are_open(&self, daemon: &Process) -> bool {
        let open = open_inodes(daemon);
        self.pods
            .iter()
            .filter(|pod| !pod.is_deleted)
            .all(|pod| open.contains(&pod.logs.live.metadata().unwrap().ino()))
    }

    /// True if the daemon has closed, and so read, all logs that are deleted.
    pub fn deleted_are_closed(&self, daemon: &Process) -> bool {
        let page = ask(daemon.address("admin"), "GET", "/metrics");
        let departed: u64 = metric(page.text(), "logcd_pods_departed_logs");
        departed == 0 && deleted_and_open(daemon).is_empty()
    }

    pub fn written(&self) -> BTreeMap<Seen, u64> {
        let lines = self.pods.iter().flat_map(|pod| (0..pod.lines).map(|line| ((pod.name.clone(), line), 1)));
        lines.collect()
    }

    pub fn check(&self, out: &Path) -> Result<(), String> {
        let lines = lines_of_all(out);
        let in_order: Vec<Seen> = lines.iter().filter_map(|line| seen(line)).collect();
        check_lines(&self.written(), &counted(lines)?)?;
        check_order(&in_order)
    }

    pub fn assert_archived(&self, out: &Path) {
        self.check(out).unwrap();
    }

    /// Closes all live logs, so that their disk can be unmounted.
    pub fn close(&mut self) {
        for pod in &mut self.pods {
            pod.logs.live = File::open("/dev/null").unwrap();
        }
    }

    /// Marks the pods whose directory is gone after a power loss as deleted.
    pub fn find_all(&mut self) {
        for written in &mut self.pods {
            written.is_deleted = !written.logs.directory.exists();
        }
    }

    /// Restarts all containers, as a restart of the node does. Removes no log: no daemon may have read it.
    pub fn restart_all(&mut self) {
        let is_watched = std::mem::replace(&mut self.is_watched, false);
        for pod in (0..self.pods.len()).filter(|pod| !self.pods[*pod].is_deleted).collect::<Vec<_>>() {
            self.restart(pod);
        }
        self.is_watched = is_watched;
    }

    /// Returns the whole lines in all logs of the pods. Skips a compressed log that is not whole.
    pub fn lines_in_logs(&self) -> BTreeSet<Seen> {
        let mut lines = BTreeSet::new();
        for written in self.pods.iter().filter(|written| !written.is_deleted) {
            for path in written.logs.names() {
                let mut text = Vec::new();
                let file = File::open(&path).unwrap();
                let is_whole = match path.extension().is_some_and(|extension| extension == "gz") {
                    true => MultiGzDecoder::new(file).read_to_end(&mut text).is_ok(),
                    false => (&file).read_to_end(&mut text).is_ok(),
                };
                if is_whole {
                    lines.extend(whole_lines(&String::from_utf8_lossy(&text)));
                }
            }
        }
        lines
    }
}

/// Returns the lines of a text that are whole. A power loss leaves zeros, or half a line at the end.
fn whole_lines(text: &str) -> Vec<Seen> {
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.filter_map(|line| seen(&content(line))).collect()
}

/// Parses the content of a numbered line.
fn seen(content: &str) -> Option<Seen> {
    let (name, number) = content.split_once(" line ")?;
    Some((name.to_owned(), number.parse().ok()?))
}

/// Counts how often each line occurs. Returns an error for a torn line.
pub fn counted(lines: Vec<String>) -> Result<BTreeMap<Seen, u64>, String> {
    let mut counted = BTreeMap::<Seen, u64>::new();
    for line in lines {
        let seen = seen(&line).ok_or_else(|| format!("torn: {line}"))?;
        *counted.entry(seen).or_default() += 1;
    }
    Ok(counted)
}

/// Counts how often each whole line occurs in all archives.
pub fn whole_lines_of_all(out: &Path) -> BTreeMap<Seen, u64> {
    let mut counted = BTreeMap::<Seen, u64>::new();
    for seen in entries_of_all(out).iter().flat_map(|text| whole_lines(text)) {
        *counted.entry(seen).or_default() += 1;
    }
    counted
}

/// Returns an error unless each line of `written` was seen, and none twice.
pub fn check_lines(written: &BTreeMap<Seen, u64>, seen: &BTreeMap<Seen, u64>) -> Result<(), String> {
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

/// Returns an error unless the lines of each container are in the order in which they were written.
pub fn check_order(lines: &[Seen]) -> Result<(), String> {
    let mut latest = BTreeMap::new();
    for (container, number) in lines {
        match latest.insert(container, number) {
            Some(before) if before > number => {
                return Err(format!("{container}: line {number} comes after line {before}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns a line without the prefix of the container runtime.
fn content(line: &str) -> String {
    line.splitn(4, ' ').nth(3).unwrap_or(line).to_owned()
}

/// Opens a log as the container runtime does.
fn log(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn descriptors(daemon: &Process) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn open_inodes(daemon: &Process) -> BTreeSet<u64> {
    descriptors(daemon).iter().filter_map(|path| Some(path.metadata().ok()?.ino())).collect()
}

/// Lists the deleted files that the daemon holds open, with their disk space in bytes.
pub fn deleted_and_open(daemon: &Process) -> Vec<u64> {
    let looks = descriptors(daemon).into_iter().filter_map(|path| path.metadata().ok());
    looks.filter(|look| look.is_file() && look.nlink() == 0).map(|look| look.blocks() * 512).collect()
}

/// Lists all archives.
pub fn archives(out: &Path) -> Vec<PathBuf> {
    let mut archives = Vec::new();
    let Ok(namespaces) = std::fs::read_dir(out) else { return archives };
    for namespace in namespaces.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let names = std::fs::read_dir(namespace).unwrap().map(|entry| entry.unwrap().path());
        archives.extend(names.filter(|path| {
            let path = path.to_string_lossy();
            path.ends_with(".tar.gz") || path.ends_with(".tar.zst")
        }));
    }
    archives.sort();
    archives
}

/// Returns the content of all lines in all archives, in the order of the entries' numbers.
pub fn lines_of_all(out: &Path) -> Vec<String> {
    entries_of_all(out).iter().flat_map(|text| text.lines().map(content).collect::<Vec<_>>()).collect()
}

fn entries_of_all(out: &Path) -> Vec<String> {
    let mut entries = Vec::new();
    for archive in archives(out) {
        // The archive may have been evicted since it was listed.
        let Ok(file) = File::open(&archive) else { continue };
        let unpacked: Box<dyn Read> = match archive.extension().is_some_and(|extension| extension == "zst") {
            true => Box::new(zstd::stream::read::Decoder::new(file).unwrap()),
            false => Box::new(MultiGzDecoder::new(file)),
        };
        let mut tar = tar::Archive::new(unpacked);
        for entry in tar.entries().unwrap() {
            let (mut entry, mut bytes) = (entry.unwrap(), Vec::new());
            entry.read_to_end(&mut bytes).unwrap();
            let number = number_of(&entry.path().unwrap());
            entries.push((number, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    entries.sort_by_key(|(number, _)| *number);
    entries.into_iter().map(|(_, text)| text).collect()
}

/// Returns the number in an entry's name, which grows with each entry of any archive.
fn number_of(entry: &Path) -> Option<u64> {
    entry.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

/// Returns the file names of listed entries, which begin with their numbers.
pub fn numbers(listed: &[u8]) -> Vec<String> {
    let listed = String::from_utf8_lossy(listed);
    listed.lines().map(|line| line.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}
