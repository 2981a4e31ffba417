//! Containers that write, and kubelet's rotation of their logs.

use super::logs;
use fastrand::Rng;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trial::kubelet::ContainerLogs;

pub const CONTAINERS: u32 = 200;
pub const NAMESPACES: u32 = 10;
/// The rate is kept in steps of this length.
const STEP: Duration = Duration::from_millis(10);
/// The time of day in the first lines.
const START: Duration = Duration::from_secs(10 * 3600);

/// A run: how much is written, how fast, and when a log is rotated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub bytes: u64,
    pub bytes_a_second: u64,
    pub rotate_bytes: u64,
}

/// The lines that one call writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCall {
    /// One line, as a container runtime does.
    Line,
    /// All lines of a container in this step, which takes less time.
    Step,
}

/// The lines and bytes that all containers wrote.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The number of lines of each container, including the deleted ones.
    pub lines: Vec<usize>,
    pub bytes: u64,
    pub rotations: usize,
}

struct Container {
    /// The number of this container among all that ever were. Its lines name it.
    number: usize,
    logs: ContainerLogs,
    file_bytes: u64,
    lines: usize,
    rng: Rng,
}

/// A place on the node. It always has a container, and gets another one when the pod is deleted.
struct Slot {
    number: u32,
    container: Container,
    /// The share of all bytes, in millionths.
    share: u64,
    /// The bytes of all its containers.
    written_bytes: u64,
}

/// All containers of a node.
pub struct Node {
    root: PathBuf,
    rotate_bytes: u64,
    write_call: WriteCall,
    slots: Vec<Slot>,
    written: Written,
}

/// Makes the directories of all containers, each with an empty log.
pub fn make(root: &Path) {
    for (slot, number) in (0..CONTAINERS).zip(0..) {
        Container::open(root, slot, number);
    }
}

fn pod_directory(root: &Path, slot: u32, number: usize) -> PathBuf {
    let namespace = slot % NAMESPACES;
    root.join(format!("team-{namespace}_web-{number}_00000000-0000-4000-8000-{number:012}"))
}

/// Writes all lines.
pub fn write(root: &Path, plan: Plan) -> anyhow::Result<Written> {
    let mut node = Node::open(root, plan.rotate_bytes, WriteCall::Line);
    let began = Instant::now();
    while node.bytes() < plan.bytes {
        let elapsed = began.elapsed();
        let due = plan.bytes_a_second.saturating_mul(u64::try_from(elapsed.as_millis())?) / 1000;
        node.write(due.min(plan.bytes), START + elapsed)?;
        if due >= plan.bytes {
            break;
        }
        std::thread::park_timeout(STEP);
    }
    Ok(node.written())
}

impl Node {
    /// Opens the logs of all containers. The sizes fall off as on a node: the largest log is 68 times the
    /// smallest.
    pub fn open(root: &Path, rotate_bytes: u64, write_call: WriteCall) -> Node {
        let weight = |slot: u32| 1_000_000 / u64::from(slot + 3);
        let sum: u64 = (0..CONTAINERS).map(weight).sum();
        let open = |(slot, number): (u32, usize)| Slot {
            number: slot,
            container: Container::open(root, slot, number),
            share: weight(slot) * 1_000_000 / sum,
            written_bytes: 0,
        };
        let slots: Vec<Slot> = (0..CONTAINERS).zip(0..).map(open).collect();
        let written = Written { lines: vec![0; slots.len()], ..Written::default() };
        Node { root: root.to_owned(), rotate_bytes, write_call, slots, written }
    }

    /// Writes lines with this time of day until all containers have written `total_bytes` together.
    pub fn write(&mut self, total_bytes: u64, time: Duration) -> anyhow::Result<()> {
        for slot in &mut self.slots {
            let due_bytes = total_bytes * slot.share / 1_000_000;
            let missing_bytes = due_bytes.saturating_sub(slot.written_bytes);
            let kind = 1 + u64::from(slot.number % 2);
            let (rotate_bytes, call) = (self.rotate_bytes, self.write_call);
            let rotations = &mut self.written.rotations;
            let bytes = slot.container.write(missing_bytes, kind, time, rotate_bytes, call, rotations)?;
            slot.written_bytes += bytes;
            self.written.bytes += bytes;
        }
        Ok(())
    }

    /// Deletes a pod with its logs, and makes a new one in its place.
    pub fn replace_pod(&mut self, slot: usize) -> anyhow::Result<()> {
        let slot = &mut self.slots[slot];
        let new = self.written.lines.len();
        self.written.lines[slot.container.number] = slot.container.lines;
        self.written.lines.push(0);
        std::fs::remove_dir_all(pod_directory(&self.root, slot.number, slot.container.number))?;
        slot.container = Container::open(&self.root, slot.number, new);
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.written.bytes
    }

    pub fn rotations(&self) -> usize {
        self.written.rotations
    }

    pub fn written(&self) -> Written {
        let mut written = self.written.clone();
        for Slot { container, .. } in &self.slots {
            written.lines[container.number] = container.lines;
        }
        written
    }
}

impl Container {
    fn open(root: &Path, slot: u32, number: usize) -> Container {
        Container {
            number,
            logs: ContainerLogs::open(&pod_directory(root, slot, number).join("app")),
            file_bytes: 0,
            lines: 0,
            rng: Rng::with_seed(number as u64),
        }
    }

    /// Writes at least `bytes` of lines. Returns the bytes that it wrote.
    fn write(
        &mut self,
        bytes: u64,
        kind: u64,
        time: Duration,
        rotate_bytes: u64,
        call: WriteCall,
        rotations: &mut usize,
    ) -> anyhow::Result<u64> {
        let (mut written_bytes, mut text) = (0, Vec::new());
        let seconds = time.as_secs();
        while written_bytes < bytes {
            let start = text.len();
            write!(
                text,
                "2026-11-28T{:02}:{:02}:{:02}.{:09}Z stdout F ",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60,
                time.subsec_nanos()
            )?;
            // Kinds 1 and 2 are lines of a JSON logger and of a web server.
            logs::write_line(&mut self.rng, kind, self.lines as u64, &mut text)?;
            text.pop();
            writeln!(text, " c={} n={}", self.number, self.lines)?;
            let line_bytes = (text.len() - start) as u64;
            self.lines += 1;
            written_bytes += line_bytes;
            self.file_bytes += line_bytes;
            let is_full = self.file_bytes >= rotate_bytes;
            if is_full || call == WriteCall::Line {
                self.logs.live.write_all(&text)?;
                text.clear();
            }
            if is_full {
                *rotations += 1;
                self.logs.rotate(&format!("20261128-{rotations:06}"));
                self.logs.live = self.logs.next();
                self.file_bytes = 0;
            }
        }
        self.logs.live.write_all(&text)?;
        Ok(written_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_deleted_pod_still_count() {
        let directory = tempfile::tempdir().unwrap();
        let mut node = Node::open(directory.path(), 4096, WriteCall::Step);
        node.write(100_000, Duration::ZERO).unwrap();
        let before = node.written();
        node.replace_pod(3).unwrap();
        node.write(200_000, Duration::from_secs(60)).unwrap();
        let after = node.written();
        assert!(before.lines[3] > 0 && after.lines[3] == before.lines[3]);
        assert!(after.lines.len() == 201 && after.lines[200] > 0);
        assert!(after.rotations > 0 && after.bytes >= 190_000);
    }
}
