//! The disk writes of `logcd --pods` over a day. The day takes minutes, because logcd's clock is set in steps:
//! it stands still while logcd works, and jumps to the next second at which something happens. So logcd commits
//! as often as in a day, and as much each time.

use super::kubelet::{self, CONTAINERS, NAMESPACES, Node, WriteCall};
use super::tally::{self, Tally};
use super::{Options, progress};
use crate::process::{Contender, Cost};
use crate::report::{Cell, Report, Table};
use anyhow::{Context, bail, ensure};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use trial::{Clock, ask, metric};

/// The default of `--publish-within`.
const INTERVAL_S: u64 = 60;
const INTERVALS: u64 = 24 * 3600 / INTERVAL_S;
/// The size of the archives after one interval, so that those of a day have 1 GB.
const INTERVAL_ARCHIVED_BYTES: u64 = 1_000_000_000 / INTERVALS;
const ROTATE_BYTES: u64 = 10 << 20;
/// 200 pods are deleted in a day, so each slot gets a new one once.
const DELETION_EVERY_S: u64 = 432;
/// The first guess of how many bytes of lines one byte of an archive holds.
const LINES_PER_ARCHIVED: u64 = 10;
/// For this long after a rotation or deletion, logcd reads logs that have departed.
const DEPARTING_S: u64 = 3;

/// 2026-11-28T00:00:00Z, the day of the lines.
const DAY_BEGINS_S: u64 = 1_795_824_000;
/// An archive of the first hour.
const FIRST_ARCHIVE: &str = "team-0/2026-11-28T00.tar.gz";
/// logcd starts this long before, so that it has opened all logs by then.
const LEAD_S: u64 = 3600;
/// Lines that are not archived by then are lost.
const COMMITS_WITHIN_S: u64 = 2 * INTERVAL_S + 10;

/// The thread of logcd that follows container logs.
const THREAD: &str = "logcd-pods";
/// Interval between two looks at the thread.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// A thread that is busy for longer never sleeps.
const SLEEPS_WITHIN: Duration = Duration::from_secs(120);

/// The clock of logcd. Between two steps, its wall clock and its monotonic clock stand still.
struct SteppedClock {
    clock: Clock,
    /// The directory of the clock's file.
    _directory: TempDir,
    now_s: u64,
}

impl SteppedClock {
    fn new(base: &Path, now_s: u64) -> anyhow::Result<SteppedClock> {
        // In memory if possible: each of the many steps replaces the file.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory } else { base };
        let directory = tempfile::Builder::new().prefix("bench-clock-").tempdir_in(parent)?;
        let clock = Clock::new(directory.path(), &now_s.to_string());
        Ok(SteppedClock { clock, _directory: directory, now_s })
    }

    fn give_to(&self, command: &mut Command) {
        self.clock.give_to(command);
        command.env("FAKETIME_FMT", "%s").env_remove("FAKETIME_DONT_FAKE_MONOTONIC");
    }

    /// Sets the clock. It never goes back.
    fn set(&mut self, second: u64) {
        if second > self.now_s {
            self.now_s = second;
            self.clock.set(&second.to_string());
        }
    }

    fn step(&mut self) {
        self.set(self.now_s + 1);
    }
}

/// The figures on logcd's metrics page.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// The number of logs that the last sweep found.
    logs: u64,
    read_bytes: u64,
    /// The size of all archives.
    archived_bytes: u64,
    commits: u64,
}

/// logcd with its clock, and a node whose logs it follows.
struct Day {
    logcd: Contender,
    /// The file with the state of logcd's thread.
    thread: PathBuf,
    clock: SteppedClock,
    /// A file that is made to wake logcd.
    bell: PathBuf,
    node: Node,
    deletions: u64,
    /// The second of the day until which logcd reads logs that have departed.
    departing_until: u64,
    /// Bytes of lines that logcd did not archive in time.
    lost_bytes: u64,
}

/// The results.
struct Outcome {
    figures: Figures,
    written_bytes: u64,
    called_bytes: u64,
    cost: Cost,
    tally: Tally,
}

pub fn run(options: &Options, base: &Path) -> anyhow::Result<()> {
    require_libfaketime()?;
    let intervals = if options.quick { INTERVALS / 10 } else { INTERVALS };
    let out = base.join("out");
    std::fs::create_dir(&out)?;
    let mut day = Day::start(options, base, &out)?;
    let mut figures = day.begin()?;
    for interval in 0..intervals {
        if (interval * INTERVAL_S).is_multiple_of(3600) {
            progress(&format!("{:02}:00 of the day", interval * INTERVAL_S / 3600));
        }
        figures = day.pass(interval, figures)?;
        ensure!(
            out.join(FIRST_ARCHIVE).exists(),
            "logcd does not have the time that libfaketime gives it: is it linked statically?"
        );
    }
    let pid = day.logcd.pid();
    let cost = day.logcd.cost()?;
    let (written_bytes, called_bytes) = (io_bytes(pid, "write_bytes:")?, io_bytes(pid, "wchar:")?);
    let (written, deletions) = (day.node.written(), day.deletions);
    day.logcd.end().context("logcd")?;
    progress("reading the archives");
    let tally = Tally::of(&mut tally::reader(tally::PRINT_ARCHIVES, &out), &written.lines)?;
    let mut report = Report::new("logcd-day", "disk writes of container logs over a day");
    report.note(&format!(
        "{intervals} intervals of {INTERVAL_S} s (--publish-within), {:.2} GB in {CONTAINERS} logs of {NAMESPACES} \
         namespaces, {} rotations at {} MiB, {deletions} pods deleted and made again, {} archives",
        gigabytes(written.bytes)?,
        written.rotations,
        ROTATE_BYTES >> 20,
        archives(&out)?
    ));
    report.note(
        "logcd's clock is set by libfaketime and stands still while logcd works, so it commits as often as in a day; its \
         CPU time includes that of libfaketime",
    );
    report.note(
        "MiB written: write_bytes of the process. The kernel counts folios, of which the disk may get a part; MiB in \
         calls: the bytes that logcd passed to write calls (wchar)",
    );
    let outcome = Outcome { figures, written_bytes, called_bytes, cost, tally };
    report.add(table(&outcome, written.bytes)?);
    report.finish()
}

fn table(outcome: &Outcome, lines_bytes: u64) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "container logs over a day",
        &[
            "MiB written",
            "MiB compressed",
            "written ÷ compressed",
            "MiB in calls",
            "commits",
            "peak MiB",
            "CPU s a GB of lines",
            "lines lost",
            "lines twice",
            "lines torn",
        ],
    );
    let Outcome { figures, written_bytes, called_bytes, cost, tally } = outcome;
    let (written, compressed) = (mebibytes(*written_bytes)?, mebibytes(figures.archived_bytes)?);
    let count = |number: usize| Cell::Text(number.to_string());
    table.row(
        "logcd --pods",
        vec![
            Cell::number(written, 1),
            Cell::number(compressed, 1),
            Cell::number(written / compressed, 2),
            Cell::number(mebibytes(*called_bytes)?, 1),
            Cell::Text(figures.commits.to_string()),
            Cell::number(cost.peak_mib, 1),
            Cell::number(cost.cpu_seconds / gigabytes(lines_bytes)?, 2),
            count(tally.lost),
            count(tally.repeated),
            count(tally.torn),
        ],
    );
    Ok(table)
}

impl Day {
    fn start(options: &Options, base: &Path, out: &Path) -> anyhow::Result<Day> {
        let pods = base.join("pods");
        kubelet::make(&pods);
        // logcd watches this container, which has no logs.
        let bell = pods.join("clock_bell_00000000-0000-4000-8000-0000000000ff/app");
        std::fs::create_dir_all(&bell)?;
        let clock = SteppedClock::new(base, DAY_BEGINS_S - LEAD_S)?;
        let program = options.logcd.canonicalize()?;
        let logcd = Contender::on_a_free_port("logcd", |port| {
            let mut command = Command::new(&program);
            command.args(["--dir", "none", "--log-level", "error", "--utc", "--publish-within"]);
            command.arg(format!("{INTERVAL_S}s")).arg("--admin").arg(format!("127.0.0.1:{port}"));
            command.arg("--pods").arg(&pods).arg("--pods-out").arg(out);
            clock.give_to(&mut command);
            Ok(command)
        })?;
        Ok(Day {
            thread: thread_of(logcd.pid())?,
            logcd,
            clock,
            bell: bell.join("bell"),
            node: Node::open(&pods, ROTATE_BYTES, WriteCall::Step),
            deletions: 0,
            departing_until: 0,
            lost_bytes: 0,
        })
    }

    /// Waits until logcd has opened all logs, and lets the day begin.
    fn begin(&mut self) -> anyhow::Result<Figures> {
        while self.figures().logs < u64::from(CONTAINERS) {
            ensure!(self.clock.now_s < DAY_BEGINS_S, "logcd does not open all logs");
            self.clock.step();
            self.wake()?;
        }
        self.clock.set(DAY_BEGINS_S);
        self.wake()?;
        Ok(self.figures())
    }

    /// Lets the time until the next commit pass, in which containers write as much as fills the archives to
    /// their due size.
    fn pass(&mut self, interval: u64, before: Figures) -> anyhow::Result<Figures> {
        let (start_bytes, start_s) = (self.node.bytes(), interval * INTERVAL_S);
        let bytes = lines_for((interval + 1) * INTERVAL_ARCHIVED_BYTES, before);
        for passed_s in 0..INTERVAL_S {
            let second = start_s + passed_s;
            self.clock.set(DAY_BEGINS_S + second);
            let (rotations, deletions) = (self.node.rotations(), self.deletions);
            if second % DELETION_EVERY_S == DELETION_EVERY_S / 2 {
                // The factor has no divisor in common with the number of slots.
                let slot = self.deletions * 37 % u64::from(CONTAINERS);
                self.node.replace_pod(usize::try_from(slot)?)?;
                self.deletions += 1;
            }
            self.node
                .write(start_bytes + bytes * (passed_s + 1) / INTERVAL_S, Duration::from_secs(second))?;
            if (rotations, deletions) != (self.node.rotations(), self.deletions) {
                self.departing_until = second + DEPARTING_S;
            }
            if second <= self.departing_until {
                self.wake()?;
            }
        }
        self.clock.set(DAY_BEGINS_S + start_s + INTERVAL_S);
        self.commit()
    }

    /// Waits until logcd has committed all lines.
    fn commit(&mut self) -> anyhow::Result<Figures> {
        let end_s = self.clock.now_s + COMMITS_WITHIN_S;
        loop {
            self.wake()?;
            let figures = self.figures();
            if figures.read_bytes + self.lost_bytes >= self.node.bytes() {
                return Ok(figures);
            }
            if self.clock.now_s >= end_s {
                self.lost_bytes = self.node.bytes().saturating_sub(figures.read_bytes);
                return Ok(figures);
            }
            self.clock.step();
        }
    }

    /// Wakes logcd's thread, which then looks at its clock, and waits until it sleeps again.
    fn wake(&self) -> anyhow::Result<()> {
        File::create(&self.bell)?;
        std::fs::remove_file(&self.bell)?;
        // The kernel has woken the thread by now, so it only sleeps after it has handled these changes and all
        // earlier ones.
        let began = Instant::now();
        loop {
            let stat = std::fs::read_to_string(&self.thread).context("logcd ended")?;
            // The state follows the name, which is in parentheses.
            if stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S')) {
                return Ok(());
            }
            ensure!(began.elapsed() < SLEEPS_WITHIN, "logcd is busy without an end");
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn figures(&self) -> Figures {
        let page = ask(SocketAddr::from(([127, 0, 0, 1], self.logcd.port)), "GET", "/metrics");
        let figure = |name: &str| metric::<u64>(page.text(), name);
        Figures {
            logs: figure("logcd_pods_logs"),
            read_bytes: figure("logcd_pods_read_bytes_total"),
            archived_bytes: figure("logcd_pods_kept_bytes"),
            commits: figure("logcd_pods_commits_total"),
        }
    }
}

/// Returns the bytes of lines that bring the archives to their due size, if they compress as those so far.
fn lines_for(due_bytes: u64, figures: Figures) -> u64 {
    let missing_bytes = due_bytes.saturating_sub(figures.archived_bytes);
    match figures.archived_bytes {
        0 => missing_bytes * LINES_PER_ARCHIVED,
        archived_bytes => missing_bytes * figures.read_bytes / archived_bytes,
    }
}

/// Returns the file with the state of logcd's thread.
fn thread_of(pid: u32) -> anyhow::Result<PathBuf> {
    let began = Instant::now();
    while began.elapsed() < SLEEPS_WITHIN {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?.path();
            if std::fs::read_to_string(thread.join("comm")).unwrap_or_default().trim_end() == THREAD {
                return Ok(thread.join("stat"));
            }
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    bail!("logcd has no thread {THREAD}")
}

/// Returns a figure from the kernel's count of a process's input and output.
fn io_bytes(pid: u32, name: &str) -> anyhow::Result<u64> {
    let counts = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let count = counts.lines().find_map(|line| line.strip_prefix(name));
    Ok(count.with_context(|| format!("/proc/{pid}/io has no {name}"))?.trim().parse()?)
}

fn archives(out: &Path) -> anyhow::Result<usize> {
    let mut archives = 0;
    for namespace in 0..NAMESPACES {
        archives += std::fs::read_dir(out.join(format!("team-{namespace}")))?.count();
    }
    Ok(archives)
}

fn require_libfaketime() -> anyhow::Result<()> {
    let machine = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let is_there =
        |directory: &str| Path::new("/usr").join(directory).join("faketime/libfaketime.so.1").exists();
    ensure!([machine.as_str(), "lib64", "lib"].into_iter().any(is_there), "libfaketime is not installed");
    Ok(())
}

fn mebibytes(bytes: u64) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(bytes >> 10)?) / 1024.0)
}

fn gigabytes(bytes: u64) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(bytes / 1000)?) / 1e6)
}
