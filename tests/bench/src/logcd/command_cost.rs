//! The cost of a command from start to end, including its children, as the kernel counts it.

use anyhow::{Context, ensure};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// Peak memory of the largest of its processes.
    pub peak_mib: f64,
    /// Data written to disks, as the kernel counts it.
    pub written_mib: f64,
}

#[allow(clippy::zombie_processes, reason = "`of_ended` is what waits")]
pub fn of(command: &mut Command) -> anyhow::Result<Cost> {
    let began = Instant::now();
    let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    of_ended(&child, began).with_context(|| format!("{command:?}"))
}

/// Waits for the end of a process, and returns its cost.
#[allow(unsafe_code, reason = "no crate here has wait4")]
pub fn of_ended(child: &Child, began: Instant) -> anyhow::Result<Cost> {
    let pid = i32::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage, which the kernel overwrites.
    let mut usage: nix::libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the types that wait4 fills.
    let waited = unsafe { nix::libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    ensure!(waited == pid && status == 0, "it ended with status {status}");
    Ok(Cost {
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: seconds(usage.ru_utime)? + seconds(usage.ru_stime)?,
        peak_mib: f64::from(i32::try_from(usage.ru_maxrss)?) / 1024.0,
        written_mib: f64::from(i32::try_from(usage.ru_oublock)?) / 2048.0,
    })
}

/// Returns the round with the median CPU time.
pub fn median(rounds: &[Cost]) -> anyhow::Result<Cost> {
    crate::rank::median(rounds, |cost| cost.cpu_seconds)
}

fn seconds(time: nix::libc::timeval) -> anyhow::Result<f64> {
    Ok(f64::from(i32::try_from(time.tv_sec)?) + f64::from(i32::try_from(time.tv_usec)?) / 1e6)
}
