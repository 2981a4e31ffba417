//! What a cycle costs, beside GNU tar, pigz and zstd on the same logs in the same run.
//!
//!     cargo run --release -p logcd --example cycle_cost [-- DIRECTORY [MEBIBYTES]]
//!
//! needs twice that much room in DIRECTORY (`/tmp`), 1024 MiB where none are given. It prints figures and
//! judges nothing: shared processors make every single one a chance.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and one that cannot go on has failed"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FILES: u64 = 50;
const APPENDED: u64 = 10 << 20;
const WARM_ROUNDS: u32 = 3;
const IDLE_FILES: u32 = 1000;

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    peak_kib: i64,
}

/// Runs a command to its end and asks the kernel what it cost, its children included.
#[allow(unsafe_code, clippy::zombie_processes, reason = "no crate here has wait4; it is what waits")]
fn cost(command: &mut Command) -> Cost {
    let began = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage, which the kernel overwrites.
    let mut usage: nix::libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the types that wait4 fills.
    let waited = unsafe { nix::libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert!(waited == pid && status == 0, "{command:?} ended with {status}");
    let time = |t: nix::libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap())
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap())
    };
    Cost {
        wall: began.elapsed(),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_kib: usage.ru_maxrss,
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn there(program: &str) -> bool {
    let found = shell(&format!("command -v {program}")).stdout(Stdio::null()).status().unwrap().success();
    if !found {
        println!("{program} is not installed: its row is missing");
    }
    found
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    /// A line as a container runtime, a JSON logger, a web server, a Java program or a kernel writes it.
    fn line(&mut self, kind: u64, number: u64, out: &mut Vec<u8>) {
        const SAID: [&str; 8] = [
            "connection accepted from peer",
            "request handled",
            "cache miss for key",
            "retrying after failure",
            "lease renewed",
            "reconciling object",
            "queue drained, going idle",
            "slow query detected",
        ];
        let said = SAID[usize::try_from(self.roll(8)).unwrap()];
        let (day, hour, minute, second) =
            (1 + number / 800_000 % 28, number / 36_000 % 24, number / 600 % 60, number / 10 % 60);
        let micros = self.roll(1_000_000);
        let time = format!("2026-11-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
        let (a, b, c) = (self.roll(1 << 48), self.roll(900), self.roll(500));
        match kind {
            0 => writeln!(out, "{time} stdout F level=info msg=\"{said}\" id={a:012x} dur={b}ms"),
            1 => writeln!(out, "{{\"ts\":\"{time}\",\"level\":\"info\",\"logger\":\"controller\",\"msg\":\"{said}\",\"namespace\":\"ns-{}\",\"name\":\"obj-{c}\"}}", c % 20),
            2 => writeln!(out, "10.{}.{}.{} - - [{time}] \"GET /api/v1/orders/{c} HTTP/1.1\" {} {a} \"-\" \"kube-probe/1.31\"", b % 4, a % 256, c % 256, [200, 200, 304, 404][usize::try_from(b % 4).unwrap()]),
            3 => writeln!(out, "{time} ERROR [pool-{}-thread-{}] c.e.Service - {said}\n\tat com.example.Service.call(Service.java:{b})\n\tat com.example.Main.run(Main.java:{c})", c % 4, b % 16),
            _ => writeln!(out, "Nov {day:2} {hour:02}:{minute:02}:{second:02} node-{} kernel: [{number}.{micros:06}] {said} pid={}", c % 3, a % 32768),
        }
        .unwrap();
    }
}

fn write_lines(path: &Path, bytes: u64, seed: u64, from: u64) {
    let mut dice = Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = BufWriter::new(OpenOptions::new().create(true).append(true).open(path).unwrap());
    let (mut written, mut number, mut line) = (0, from, Vec::new());
    while written < bytes {
        line.clear();
        dice.line(seed % 5, number, &mut line);
        out.write_all(&line).unwrap();
        written += line.len() as u64;
        number += 1;
    }
    out.flush().unwrap();
}

fn log(logs: &Path, number: u64) -> PathBuf {
    logs.join(format!("svc-{number:02}.log"))
}

/// Sizes fall off as in a node's log directory: the largest is twenty times the smallest.
fn make_logs(logs: &Path, total: u64) {
    fs::create_dir_all(logs).unwrap();
    let weight = |number: u64| 1_000_000 / (number + 3);
    let sum: u64 = (0..FILES).map(weight).sum();
    for number in 0..FILES {
        write_lines(&log(logs, number), total * weight(number) / sum, number, 0);
    }
}

fn append(logs: &Path, round: u64) {
    for number in 0..FILES {
        write_lines(&log(logs, number), APPENDED / FILES, number + 5 * round + 5, 10_000_000 * round);
    }
}

fn row(name: &str, cost: Cost, than: Option<Cost>) {
    let ratio = than.map_or(String::new(), |than| {
        format!(
            "   {:6.1} x less CPU, {:5.1} x less time",
            than.cpu.as_secs_f64() / cost.cpu.as_secs_f64(),
            than.wall.as_secs_f64() / cost.wall.as_secs_f64()
        )
    });
    println!(
        "  {name:28} {:8.3} s  {:8.3} CPU s  {:5.1} MiB{ratio}",
        cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        f64::from(i32::try_from(cost.peak_kib).unwrap()) / 1024.0
    );
}

fn size(path: &Path) -> f64 {
    f64::from(u32::try_from(fs::metadata(path).unwrap().len() / 1024).unwrap())
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let base = PathBuf::from(arguments.next().unwrap_or_else(|| "/tmp".to_owned())).join("logcd-cycle-cost");
    let total = arguments.next().map_or(1024, |text| text.parse::<u64>().unwrap()) << 20;
    let _ = fs::remove_dir_all(&base);
    let (logs, out) = (base.join("logs"), base.join("out"));
    fs::create_dir_all(&out).unwrap();
    // The program lies beside the directory of the examples.
    let program = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("logcd");
    assert!(program.exists(), "build it first: cargo build --release -p logcd");
    let logcd = |more: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--dir").arg(&logs).arg("--out").arg(&out).args([
            "--once",
            "--prefix=logs",
            "--log-level=error",
        ]);
        command.args(more);
        command
    };
    let tar = |compress: &str, to: &str| {
        shell(&format!("cd {} && tar cf - logs | {compress} > out/{to}", base.display()))
    };

    println!(
        "{} MiB in {FILES} logs, {} processors",
        total >> 20,
        std::thread::available_parallelism().unwrap()
    );
    make_logs(&logs, total);
    println!("cold: everything is new");
    let gzip = cost(&mut tar("gzip -6", "toy"));
    let pigz = there("pigz").then(|| cost(&mut tar("pigz -6 -p2", "pigz")));
    let zstd = there("zstd").then(|| cost(&mut tar("zstd -q -3 -T2", "zstd")));
    let cold = cost(&mut logcd(&["--threads=2"]));
    row("tar czf (the toy)", gzip, None);
    for (name, peer) in [("tar | pigz -p2", pigz), ("tar | zstd -3 -T2", zstd)] {
        if let Some(peer) = peer {
            row(name, peer, Some(gzip));
        }
    }
    row("logcd", cold, Some(gzip));
    if let Some(pigz) = pigz {
        row("  against pigz", cold, Some(pigz));
    }
    let archive = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|e| e == "gz")).unwrap();
    println!("  archive: {:+.2} % against gzip -6", (size(&archive) / size(&out.join("toy")) - 1.0) * 100.0);

    println!("a cycle: {} MiB appended", APPENDED >> 20);
    let mut best: Option<Cost> = None;
    for round in 0..WARM_ROUNDS {
        append(&logs, u64::from(round));
        let warm = cost(&mut logcd(&["--threads=2"]));
        row("logcd", warm, None);
        if best.is_none_or(|best| warm.cpu < best.cpu) {
            best = Some(warm);
        }
    }
    let toy = cost(&mut tar("gzip -6", "toy"));
    row("tar czf (the toy)", toy, None);
    row("logcd, the best", best.unwrap(), Some(toy));
    row("logcd, nothing appended", cost(&mut logcd(&[])), Some(toy));

    fs::remove_dir_all(&logs).unwrap();
    fs::create_dir_all(&logs).unwrap();
    for number in 0..IDLE_FILES {
        File::create(logs.join(format!("idle-{number:04}.log"))).unwrap().write_all(b"a line\n").unwrap();
    }
    cost(&mut logcd(&[]));
    // Once more, so that no file is so new that it has to be read again.
    cost(&mut logcd(&[]));
    println!("a cycle without news over {IDLE_FILES} files, process start and index included");
    row("logcd", cost(&mut logcd(&[])), None);
    fs::remove_dir_all(&base).unwrap();
}
