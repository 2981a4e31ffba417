//! Senders for logd that remember which lines got a receipt, and a check of the file against that.

use crate::binaries::binary;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::{DEADLINE, Process};

/// Configures small files, all of which are kept.
pub fn configure(command: &mut Command, file: &Path, sync: &str) {
    command.args(["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--log-format=json", "--rotate-bytes=20KB"]);
    command.args(["--keep-files=0", "--keep-bytes=0", "--sync", sync, "--file"]).arg(file);
}

pub fn command(file: &Path, sync: &str) -> Command {
    let mut command = Command::new(binary("logd"));
    configure(&mut command, file, sync);
    command
}

pub fn door(agent: &Process) -> SocketAddr {
    agent.address("lines")
}

/// Builds a line that shows whether it is whole: its name, filler, and the filler's length.
fn line(name: &str, filler: usize) -> String {
    format!("{name} {} {filler}.", "=".repeat(filler))
}

fn is_whole(text: &str) -> bool {
    let parts: Vec<&str> = text.split(' ').collect();
    matches!(parts[..], [_, filler, end] if end == format!("{}.", filler.len()))
}

/// True if the text may be the beginning of a single line.
fn is_cut(text: &str) -> bool {
    let mut parts = text.splitn(3, ' ');
    let [name, filler, end] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let digits = |text: &str, other: char| text.chars().all(|c| c.is_ascii_digit() || c == other);
    digits(name, '-') && filler.chars().all(|c| c == '=') && digits(end, '.')
}

#[derive(Default)]
pub struct Senders {
    next: AtomicU64,
    pub receipts: AtomicU64,
    safe: Mutex<BTreeSet<String>>,
    /// While set, receipts do not count.
    pub blackout: AtomicBool,
}

impl Senders {
    /// Numbers the lines from `first`, so that no other senders use the same names.
    pub fn starting_at(first: u64) -> Senders {
        Senders { next: AtomicU64::new(first), ..Senders::default() }
    }

    /// Sends some lines over a new connection and records whether there was a receipt.
    pub fn send(&self, address: SocketAddr) -> io::Result<()> {
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        let names: Vec<String> =
            (0..fastrand::usize(1..20)).map(|number| format!("{connection}-{number}")).collect();
        // Now and then a much longer line, so that the end may come in the middle of a write.
        let longest = if fastrand::u8(..) < 16 { 30_000 } else { 300 };
        let lines = names.iter().map(|name| line(name, fastrand::usize(..longest)) + "\n");
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.write_all(lines.collect::<String>().as_bytes())?;
        let _ = stream.shutdown(Shutdown::Write);
        if stream.read(&mut [0])? == 0 && !self.blackout.load(Ordering::SeqCst) {
            self.safe.lock().unwrap().extend(names);
            self.receipts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends until the server is gone.
    pub fn go_on(&self, address: SocketAddr) {
        while self.send(address).is_ok() {}
    }

    /// Forgets all receipts so far: their lines were not promised.
    pub fn forget(&self) {
        self.safe.lock().unwrap().clear();
    }

    /// Checks that every line with a receipt is in the file exactly once. Of the others at most `cut_max` are
    /// cut, and no line is mixed with another.
    pub fn check(&self, file: &Path, cut_max: u64) {
        let read = Command::new(binary("logd")).arg("read").arg("--file").arg(file).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let text = String::from_utf8(read.stdout).expect("nothing but what was sent");
        let (mut names, mut cut) = (BTreeSet::new(), 0);
        for line in text.lines() {
            if is_whole(line) {
                let name = line.split(' ').next().unwrap();
                assert!(names.insert(name.to_owned()), "twice: {line}");
            } else {
                assert!(is_cut(line), "not the beginning of one line: {line}");
                cut += 1;
            }
        }
        let lost: Vec<_> = self.safe.lock().unwrap().difference(&names).cloned().collect();
        assert!(lost.is_empty(), "{} lines with a receipt are lost: {lost:?}", lost.len());
        assert!(cut <= cut_max, "{cut} lines are cut");
    }
}
