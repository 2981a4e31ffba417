//! A contender's process: started, watched through /proc, and killed at the end.

use anyhow::Context;
use std::process::{Child, Command};

/// A running contender.
#[derive(Debug)]
pub struct Contender {
    child: Child,
    pub port: u16,
}

/// What a round cost.
#[derive(Clone, Copy, Debug)]
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

    /// CPU time of all its threads so far, to the nanosecond, and its memory, at most and now.
    pub fn cost(&self) -> anyhow::Result<Cost> {
        let process = format!("/proc/{}", self.child.id());
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
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
