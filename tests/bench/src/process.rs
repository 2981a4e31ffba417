//! The process of a contender: started, watched through /proc with all its children, and killed at the end.

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Interval between two looks at the children, which may be gone at the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server that does not listen within this time does not work here.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// Number of ports to try.
const PORTS: u32 = 3;

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.port())
}

/// A running contender.
#[derive(Debug)]
pub struct Contender {
    child: Child,
    pub port: u16,
}

/// The cost of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub cpu_seconds: f64,
    pub peak_mib: f64,
    pub resident_mib: f64,
}

impl Contender {
    pub fn start(
        mut command: Command,
        find_port: impl FnOnce(&mut Child) -> anyhow::Result<u16>,
    ) -> anyhow::Result<Contender> {
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        match find_port(&mut child) {
            Ok(port) => Ok(Contender { child, port }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    /// Starts a server that is given its port and prints nothing when it listens. If another process takes
    /// the port first, the server is started again with a new one.
    pub fn on_a_free_port(
        name: &str,
        command: impl Fn(u16) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Contender> {
        let mut tries = 0;
        loop {
            let port = free_port()?;
            let mut command = command(port)?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            tries += 1;
            match Contender::start(command, |child| wait_until_it_listens(child, port, name)) {
                Err(_) if tries < PORTS => {}
                result => return result,
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the contender as a service manager does. It must end with success.
    pub fn end(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended: {status}");
        Ok(())
    }

    /// Returns the CPU time of all its threads so far, to the nanosecond, and its peak and current memory.
    pub fn cost(&self) -> anyhow::Result<Cost> {
        cost_of_process(self.child.id())
    }

    /// Returns the cost of the process and its children while `work` runs. A child's last moments may be
    /// missed.
    pub fn cost_of<R>(&self, work: impl FnOnce() -> R) -> anyhow::Result<(R, Cost)> {
        let (done, is_done) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let before = family(self.child.id());
            let watch = scope.spawn(move || {
                let mut most: BTreeMap<u32, f64> = BTreeMap::new();
                let mut peak_mib = 0f64;
                loop {
                    let last = is_done.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout);
                    let now = family(self.child.id());
                    peak_mib = peak_mib.max(now.values().map(|cost| cost.peak_mib).sum());
                    most.extend(now.into_iter().map(|(pid, cost)| (pid, cost.cpu_seconds)));
                    if last {
                        return (most, peak_mib);
                    }
                }
            });
            let result = work();
            drop(done);
            let Ok((most, peak_mib)) = watch.join() else { bail!("the watch panicked") };
            let spent = |(pid, seconds): (&u32, &f64)| {
                seconds - before.get(pid).map_or(0.0, |before| before.cpu_seconds)
            };
            let cpu_seconds = most.iter().map(spent).sum();
            Ok((result, Cost { cpu_seconds, peak_mib, ..self.cost()? }))
        })
    }
}

fn wait_until_it_listens(child: &mut Child, port: u16, name: &str) -> anyhow::Result<u16> {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("{name} ended: {status}");
        }
        if began.elapsed() > LISTENS_WITHIN {
            bail!("{name} does not listen");
        }
        std::thread::yield_now();
    }
    Ok(port)
}

/// Returns the cost of this process and all its descendants, by pid. Processes that end meanwhile are left
/// out.
fn family(pid: u32) -> BTreeMap<u32, Cost> {
    let mut family = BTreeMap::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let Ok(cost) = cost_of_process(pid) else { continue };
        family.insert(pid, cost);
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        open.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    family
}

pub fn cost_of_process(pid: u32) -> anyhow::Result<Cost> {
    let process = format!("/proc/{pid}");
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("{process}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += stat.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    }
    let status = std::fs::read_to_string(format!("{process}/status"))?;
    let mib = |name: &str| -> anyhow::Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such figure")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    };
    Ok(Cost { cpu_seconds: nanoseconds / 1e9, peak_mib: mib("VmHWM:")?, resident_mib: mib("VmRSS:")? })
}

impl Drop for Contender {
    fn drop(&mut self) {
        // Kill the children too, which would otherwise keep running.
        for pid in family(self.child.id()).into_keys().filter_map(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
