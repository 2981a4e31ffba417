//! Generates logs like those on a node, the same on every machine.

use fastrand::Rng;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub const FILES: u64 = 50;

/// Makes logs whose sizes fall off as in a node's log directory: the largest is twenty times the smallest.
pub fn make(logs: &Path, total: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(logs)?;
    let weight = |number: u64| 1_000_000 / (number + 3);
    let sum: u64 = (0..FILES).map(weight).sum();
    for number in 0..FILES {
        write_lines(&log(logs, number), total * weight(number) / sum, number, 0)?;
    }
    Ok(())
}

/// Appends `bytes` in equal shares to all logs; each round appends different lines.
pub fn append(logs: &Path, bytes: u64, round: u64) -> anyhow::Result<()> {
    for number in 0..FILES {
        write_lines(&log(logs, number), bytes / FILES, number + 5 * round + 5, 10_000_000 * round)?;
    }
    Ok(())
}

fn log(logs: &Path, number: u64) -> PathBuf {
    logs.join(format!("svc-{number:02}.log"))
}

fn write_lines(path: &Path, bytes: u64, seed: u64, from: u64) -> anyhow::Result<()> {
    let mut rng = Rng::with_seed(seed);
    let mut out = BufWriter::new(OpenOptions::new().create(true).append(true).open(path)?);
    let (mut written, mut number, mut line) = (0, from, Vec::new());
    while written < bytes {
        line.clear();
        write_line(&mut rng, seed % 5, number, &mut line)?;
        out.write_all(&line)?;
        written += line.len() as u64;
        number += 1;
    }
    Ok(out.flush()?)
}

fn one_of<T: Copy, const N: usize>(rng: &mut Rng, values: [T; N]) -> T {
    values[rng.usize(..N)]
}

/// Writes a line like those of a container runtime, a JSON logger, a web server, a Java program or a kernel.
pub fn write_line(rng: &mut Rng, kind: u64, number: u64, out: &mut Vec<u8>) -> std::io::Result<()> {
    let said = one_of(
        rng,
        [
            "connection accepted from peer",
            "request handled",
            "cache miss for key",
            "retrying after failure",
            "lease renewed",
            "reconciling object",
            "queue drained, going idle",
            "slow query detected",
        ],
    );
    let (day, hour, minute, second) =
        (1 + number / 800_000 % 28, number / 36_000 % 24, number / 600 % 60, number / 10 % 60);
    let (micros, id, took, object) =
        (rng.u64(..1_000_000), rng.u64(..1 << 48), rng.u64(..900), rng.u64(..500));
    let time = format!("2026-11-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
    match kind {
        0 => writeln!(out, "{time} stdout F level=info msg=\"{said}\" id={id:012x} dur={took}ms"),
        1 => writeln!(
            out,
            "{{\"ts\":\"{time}\",\"level\":\"info\",\"logger\":\"controller\",\"msg\":\"{said}\",\
             \"namespace\":\"ns-{}\",\"name\":\"obj-{object}\"}}",
            object % 20
        ),
        2 => writeln!(
            out,
            "10.{}.{}.{} - - [{time}] \"GET /api/v1/orders/{object} HTTP/1.1\" {} {id} \"-\" \"kube-probe/1.31\"",
            took % 4,
            id % 256,
            object % 256,
            one_of(rng, [200, 200, 304, 404]),
        ),
        3 => writeln!(
            out,
            "{time} ERROR [pool-{}-thread-{}] c.e.Service - {said}\n\
             \tat com.example.Service.call(Service.java:{took})\n\
             \tat com.example.Main.run(Main.java:{object})",
            object % 4,
            took % 16
        ),
        _ => writeln!(
            out,
            "Nov {day:2} {hour:02}:{minute:02}:{second:02} node-{} kernel: [{number}.{micros:06}] {said} pid={}",
            object % 3,
            id % 32768
        ),
    }
}
