//! The servers that take lines over TCP and write them to one file, each configured as its own users run it.

use crate::process::Contender;
use crate::{programs, syslog};
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    BareLoop,
    Logd,
    LogdEachSecond,
    LogdAlways,
    RsyslogImptcp,
    RsyslogImtcp,
    RsyslogAlways,
    SyslogNg,
    SyslogNgAlways,
    Socat,
    Toy,
}

use Server::{
    BareLoop, Logd, LogdAlways, LogdEachSecond, RsyslogAlways, RsyslogImptcp, RsyslogImtcp, Socat, SyslogNg,
    SyslogNgAlways, Toy,
};

impl Server {
    /// All servers, starting with the limit.
    pub const ALL: [Server; 8] =
        [BareLoop, Logd, LogdEachSecond, RsyslogImptcp, RsyslogImtcp, SyslogNg, Socat, Toy];

    /// Servers that sync their writes to the disk before they continue.
    pub const ALWAYS_SYNCED: [Server; 3] = [LogdAlways, RsyslogAlways, SyslogNgAlways];

    pub fn name(self) -> &'static str {
        match self {
            BareLoop => "bare loop",
            Logd => "logd",
            LogdEachSecond => "logd, sync 1s",
            LogdAlways => "logd, sync always",
            RsyslogAlways => "rsyslog, imptcp, sync on",
            SyslogNgAlways => "syslog-ng, fsync(yes)",
            RsyslogImptcp => "rsyslog, imptcp",
            RsyslogImtcp => "rsyslog, imtcp",
            SyslogNg => "syslog-ng",
            Socat => "socat, fork",
            Toy => "busybox nc, cat >>",
        }
    }

    /// True if the server keeps lines whole, so that it could replace logd.
    pub fn is_peer(self) -> bool {
        matches!(self, RsyslogImptcp | RsyslogImtcp | RsyslogAlways | SyslogNg | SyslogNgAlways)
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Logd | LogdEachSecond | LogdAlways)
    }

    /// The program that must be installed for this server, if any.
    pub fn program(self) -> Option<&'static str> {
        match self {
            BareLoop | Logd | LogdEachSecond | LogdAlways => None,
            RsyslogImptcp | RsyslogImtcp | RsyslogAlways => Some("rsyslogd"),
            SyslogNg | SyslogNgAlways => Some("syslog-ng"),
            Socat => Some("socat"),
            Toy => Some("busybox"),
        }
    }

    pub fn is_there(self) -> bool {
        self.program().is_none_or(|program| programs::find(program).is_some())
    }

    /// Starts the server, which writes to `file` and keeps everything else in `directory`.
    pub fn start(self, logd: &Path, directory: &Path, file: &Path) -> anyhow::Result<Contender> {
        match self {
            BareLoop => start_bare_loop(file),
            server => {
                Contender::on_a_free_port(self.name(), |port| server.command(logd, port, directory, file))
            }
        }
    }

    /// Builds the command of a server that is given its port.
    fn command(self, logd: &Path, port: u16, directory: &Path, file: &Path) -> anyhow::Result<Command> {
        match self {
            BareLoop => bail!("{} chooses its port", self.name()),
            Logd => Ok(logd_command(logd, "never", port, file)),
            LogdEachSecond => Ok(logd_command(logd, "1s", port, file)),
            LogdAlways => Ok(logd_command(logd, "always", port, file)),
            RsyslogImptcp => rsyslog("imptcp", "", port, directory, file),
            RsyslogImtcp => rsyslog("imtcp", "", port, directory, file),
            RsyslogAlways => rsyslog("imptcp", r#"sync="on""#, port, directory, file),
            SyslogNg => syslog_ng("", port, directory, file),
            SyslogNgAlways => syslog_ng("fsync(yes)", port, directory, file),
            Socat => {
                let mut command = programs::command(&programs::required("socat")?);
                command
                    .arg("-u")
                    .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,backlog=1024,reuseaddr,fork"));
                command.arg(format!("OPEN:{},creat,append", file.display()));
                Ok(command)
            }
            Toy => {
                let mut command = programs::command(&programs::required("busybox")?);
                // Debian's busybox has -ll where the busybox of the images has -lk.
                command.args(["nc", "-ll", "-p", &port.to_string(), "127.0.0.1", "-e", "sh", "-c"]);
                command.arg(format!("cat >> {}", file.display()));
                Ok(command)
            }
        }
    }
}

fn start_bare_loop(file: &Path) -> anyhow::Result<Contender> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare-loop").arg(file).stdout(Stdio::piped());
    Contender::start(command, |child| {
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        Ok(line.trim().parse()?)
    })
}

fn logd_command(logd: &Path, sync: &str, port: u16, file: &Path) -> Command {
    let mut command = Command::new(logd);
    command.arg("--file").arg(file).arg("--listen").arg(format!("127.0.0.1:{port}"));
    command.args(["--admin", "none", "--rotate-bytes", "0", "--log-level", "error", "--sync", sync]);
    command
}

/// Configures rsyslog to keep lines as they are: no octet counting, which takes a line's first digits for its
/// length, and nothing rewritten. The backlog has room for all concurrent connections, which are otherwise
/// cut off.
fn rsyslog(
    input: &str,
    of_output: &str,
    port: u16,
    directory: &Path,
    file: &Path,
) -> anyhow::Result<Command> {
    let (of_module, of_input) = match input {
        "imptcp" => ("", r#"socketBacklog="1024""#),
        _ => (r#"maxSessions="2000""#, ""),
    };
    let config = format!(
        r#"global(workDirectory="{directory}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="{input}" {of_module})
template(name="raw" type="string" string="%rawmsg%\n")
ruleset(name="lines") {{ action(type="omfile" file="{file}" template="raw" {of_output}) }}
input(type="{input}" address="127.0.0.1" port="{port}" supportOctetCountedFraming="off" {of_input} ruleset="lines")
"#,
        directory = directory.display(),
        file = file.display(),
    );
    syslog::rsyslog(&config, directory)
}

/// Configures syslog-ng with flow control, without which it drops lines, and with more than its default of
/// ten connections.
fn syslog_ng(of_output: &str, port: u16, directory: &Path, file: &Path) -> anyhow::Result<Command> {
    let config = format!(
        r#"@version: 3.38
options {{ keep-hostname(yes); log-fifo-size(100000); }};
source lines {{ network(ip("127.0.0.1") port({port}) transport("tcp") flags(no-parse) max-connections(1000) log-msg-size(65536)); }};
destination lines {{ file("{}" template("$MSG\n") {of_output}); }};
log {{ source(lines); destination(lines); flags(flow-control); }};
"#,
        file.display(),
    );
    syslog::syslog_ng(&config, directory)
}
