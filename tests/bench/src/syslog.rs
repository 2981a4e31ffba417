//! Starts rsyslog and syslog-ng with a configuration, so that they touch nothing outside of one directory.

use crate::programs;
use std::path::Path;
use std::process::Command;

pub fn rsyslog(config: &str, directory: &Path) -> anyhow::Result<Command> {
    let path = directory.join("rsyslog.conf");
    std::fs::write(&path, config)?;
    let mut command = programs::command(&programs::required("rsyslogd")?);
    let machine = format!("usr/lib/{}-linux-gnu/rsyslog", std::env::consts::ARCH);
    if let Some(modules) = programs::fetched(&machine) {
        command.arg("-M").arg(modules);
    }
    command.arg("-n").arg("-f").arg(path).arg("-i").arg(directory.join("pid"));
    Ok(command)
}

pub fn syslog_ng(config: &str, directory: &Path) -> anyhow::Result<Command> {
    let path = directory.join("syslog-ng.conf");
    std::fs::write(&path, config)?;
    let mut command = programs::command(&programs::required("syslog-ng")?);
    if let Some(modules) = programs::fetched("usr/lib/syslog-ng/3.38") {
        command.arg("--module-path").arg(modules);
    }
    command.args(["--foreground", "--no-caps", "-f"]).arg(path);
    for (flag, name) in [("-p", "pid"), ("-R", "persist"), ("-c", "control")] {
        command.arg(flag).arg(directory.join(name));
    }
    Ok(command)
}
