//! Ten thousand peers, peers that break off at every step, and a process that has no descriptor left.

use crate::client::{connect, receipt, reset, send};
use crate::daemon::{Logd, Setup};
use crate::marked_lines::content;
use nix::sys::resource::Resource;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Instant;
use trial::{Http, connect_from, descriptors_for, metric, wait_until};

const MIB: u64 = 1024 * 1024;
const CROWD: usize = 10_000;

#[test]
fn ten_thousand_connections_take_bounded_memory() {
    let crowd = descriptors_for(CROWD);
    let logd = Logd::start(&["--max-connections", "10100", "--max-held", "4MiB"]);
    let empty = logd.memory_bytes("VmHWM");
    // The peers have more than one address: a test must not use up the host's ports.
    let mut open: Vec<TcpStream> = (0..crowd)
        .map(|number| connect_from(&format!("127.0.1.{}", 1 + number / 2_500), logd.address()))
        .collect();
    wait_until("all are taken", || logd.metric("connections_open") == crowd as u64);
    // One peer in ten has begun a line and does not continue.
    for stream in open.iter_mut().step_by(10) {
        stream.write_all(b"half a line").unwrap();
    }
    for number in 0..100 {
        send(logd.address(), format!("served {number}\n").as_bytes()).unwrap();
    }
    let served: String = (0..100).map(|number| format!("served {number}\n")).collect();
    assert_eq!(String::from_utf8(logd.file()).unwrap(), served);
    let most = logd.memory_bytes("VmHWM");
    let each = (most - empty) / crowd as u64;
    println!("{crowd} connections: {empty} bytes before, {most} at most, {each} each");
    assert!(
        most < empty + crowd as u64 * 4096 + 4 * MIB,
        "{most} bytes, {empty} before: {each} a connection"
    );
    // Each of them is still served.
    open.last_mut().unwrap().write_all(b"the last\n").unwrap();
    receipt(open.pop().unwrap()).unwrap();
    assert!(logd.file().ends_with(b"the last\n"));
    drop(open);
    wait_until("all are gone", || logd.metric("connections_open") == 0);
}

#[test]
fn broken_connections_leave_nothing() {
    let logd = Logd::start(&["--max-connections", "20"]);
    // The bytes that are sent, and true if the stream's end is sent, too.
    let steps: [(&[u8], bool); 5] =
        [(b"", false), (b"half", false), (b"whole\n", false), (b"12 <1>octet", false), (b"whole\n", true)];
    send(logd.address(), b"before\n").unwrap();
    logd.counts("connections_open", 0);
    let descriptors = logd.descriptors();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..100 {
                    let mut stream = connect(logd.address());
                    let (bytes, end) = steps[round % steps.len()];
                    stream.write_all(bytes).unwrap();
                    if end {
                        stream.shutdown(Shutdown::Write).unwrap();
                    }
                    reset(stream);
                }
            });
        }
        // Meanwhile, at the limit of connections, a well-behaved sender is served.
        for number in 0..100 {
            send(logd.address(), format!("served {number}\n").as_bytes()).unwrap();
        }
    });
    logd.counts("connections_open", 0);
    wait_until("no descriptor is left open", || logd.descriptors() <= descriptors);
    let file = String::from_utf8(logd.file()).unwrap();
    let served: Vec<_> = file.lines().filter(|line| line.starts_with("served ")).collect();
    assert_eq!(served, (0..100).map(|number| format!("served {number}")).collect::<Vec<_>>());
    assert!(
        file.lines().all(|line| line.starts_with("served ")
            || ["before", "whole", "half", "12 <1>octet", "<1>octet"].contains(&line)),
        "{file}"
    );
}

#[test]
fn exhausted_descriptors_lose_nothing() {
    let logd = Logd::start(&["--rotate-bytes", "4KiB", "--no-gzip"]);
    // Opened before descriptors become scarce.
    let mut admin = Http::connect(logd.admin_address()).unwrap();
    let mut accept_errors = || {
        let page = admin.call("GET", "/metrics", "", b"").unwrap();
        metric::<u64>(page.text(), "logd_accept_errors_total")
    };
    let mut early = connect(logd.address());
    early.write_all(b"early\n").unwrap();
    wait_until("it is served", || logd.metric("lines_total") == 1);
    assert_eq!(accept_errors(), 0);
    logd.limit(Resource::RLIMIT_NOFILE, logd.descriptors() as u64 + 3);
    let waiting: Vec<_> = (0..20).map(|_| connect(logd.address())).collect();
    wait_until("nothing can be accepted", || accept_errors() > 0);
    // Neither a new file nor a new connection can be opened; open ones go on.
    let (began, before) = (Instant::now(), logd.cpu_seconds());
    let errors = accept_errors();
    wait_until("it has tried again and again", || accept_errors() >= errors + 20);
    let (took, used) = (began.elapsed().as_secs_f64(), logd.cpu_seconds() - before);
    println!("20 failed accepts: {used:.2} s of processor time in {took:.2} s");
    assert!(used < took / 3.0, "it spins: {used} s of processor time in {took} s");
    let lines = b"a line without a descriptor\n".repeat(1_000);
    early.write_all(&lines).unwrap();
    receipt(early).unwrap();
    let said = logd.events("accept_failed").len();
    assert!(said <= 3, "said {said} times: the log would fill the disk");
    logd.limit(Resource::RLIMIT_NOFILE, 1_000);
    for (number, mut stream) in waiting.into_iter().enumerate() {
        stream.write_all(format!("late {number}\n").as_bytes()).unwrap();
        receipt(stream).unwrap();
    }
    let all: Vec<u8> = logd.files().iter().flat_map(|path| content(path)).collect();
    let late: String = (0..20).map(|number| format!("late {number}\n")).collect();
    assert_eq!(all.len(), "early\n".len() + lines.len() + late.len(), "no line is lost or doubled");
}

#[test]
fn low_descriptor_limit_keeps_probes() {
    let setup = Setup::new().arguments(&["--rotate-bytes", "4KiB", "--no-gzip"]);
    let command = trial::with_descriptors(256, &setup.command());
    let logd = setup.start_with(command);
    let crowd: Vec<_> = (0..300).map(|_| connect(logd.address())).collect();
    wait_until("it takes no more", || logd.metric("connections_open") == 128);
    assert_eq!(logd.ready().0, 200);
    let mut first = crowd.into_iter().next().unwrap();
    for batch in 1..=3 {
        first.write_all(&b"a line that is rotated\n".repeat(300)).unwrap();
        logd.counts("lines_total", batch * 300);
    }
    receipt(first).unwrap();
    assert_eq!(logd.metric("rotations_total"), 2);
    assert_eq!((logd.metric("accept_errors_total"), logd.metric("rotation_errors_total")), (0, 0));
}
