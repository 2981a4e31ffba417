//! A fake logd: each connection gets the next behaviour of a list, and later ones get the last.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use trial::{DEADLINE, Port, wait_until};

/// The first line of a client that requests an explicit receipt.
const REQUEST: &[u8] = b"LOGD-RECEIPT 1\n";

/// The receiver's behaviour in one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Reads and keeps everything, answers a request for a receipt, and ends in order, as logd does.
    Receipt,
    /// Reads and keeps everything, and ends in order without an answer, as nc does.
    Close,
    /// Reads and keeps everything, then sends a receipt for one byte less.
    ReceiptForLess,
    /// Reads and keeps everything, then sends the right answer and resets.
    ReceiptThenReset,
    /// Reads and keeps everything, then sends these bytes and ends in order.
    Answer(&'static str),
    /// Sends these bytes at once, before anything is read, and ends in order.
    AnswerAtOnce(&'static str),
    /// Resets before anything is read.
    Reset,
    /// Reads and keeps this many bytes, then resets.
    ResetAfter(usize),
    /// Reads and keeps everything, then resets instead of sending the receipt.
    ResetInsteadOfReceipt,
    /// Ends in order at once, with nothing read, which is never a receipt.
    CloseAtOnce,
    /// Reads and keeps everything, and gives no answer while the receiver lives.
    NoAnswer,
    /// Reads nothing and gives no answer while the receiver lives.
    Stall,
}

#[derive(Default)]
struct Seen {
    /// The payload of each connection, and true if it got a receipt.
    batches: Vec<(Vec<u8>, bool)>,
    connections: usize,
    held: Vec<TcpStream>,
    closing: bool,
}

pub(crate) struct Receiver {
    address: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start(acts: &[Act]) -> Receiver {
        Receiver::on(TcpListener::bind("127.0.0.1:0").unwrap(), acts)
    }

    /// Starts a receiver on this listener, also again on a port that was used before.
    pub(crate) fn on(listener: TcpListener, acts: &[Act]) -> Receiver {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let (shared, acts) = (seen.clone(), acts.to_vec());
        let thread = thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if shared.0.lock().unwrap().closing {
                    return;
                }
                let act = *acts.get(number).or(acts.last()).unwrap();
                receive_from(stream.unwrap(), act, &shared);
            }
        });
        Receiver { address, seen, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The bytes that were answered with a receipt.
    pub(crate) fn receipted(&self) -> Vec<u8> {
        let seen = self.seen.0.lock().unwrap();
        seen.batches.iter().filter(|(_, receipt)| *receipt).flat_map(|(bytes, _)| bytes.clone()).collect()
    }

    /// The bytes that were read, as logd would keep them: a line that was cut gets a newline.
    pub(crate) fn kept(&self) -> Vec<u8> {
        let seen = self.seen.0.lock().unwrap();
        let mut kept = Vec::new();
        for (bytes, _) in &seen.batches {
            kept.extend(bytes);
            if kept.last().is_some_and(|last| *last != b'\n') {
                kept.push(b'\n');
            }
        }
        kept
    }

    pub(crate) fn receipts(&self) -> usize {
        self.seen.0.lock().unwrap().batches.iter().filter(|(_, receipt)| *receipt).count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.0.lock().unwrap().connections
    }

    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Receiver) -> bool) {
        let start = std::time::Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
            let guard = self.seen.0.lock().unwrap();
            drop(self.seen.1.wait_timeout(guard, Duration::from_millis(20)).unwrap());
        }
    }

    /// Stops and closes the port's listener.
    pub(crate) fn stop(mut self) -> u16 {
        self.close();
        self.port()
    }

    fn close(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        {
            let mut seen = self.seen.0.lock().unwrap();
            seen.closing = true;
            seen.held.clear();
        }
        let _ = TcpStream::connect(self.address);
        thread.join().unwrap();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}

fn receive_from(mut stream: TcpStream, act: Act, shared: &(Mutex<Seen>, Condvar)) {
    shared.0.lock().unwrap().connections += 1;
    // Reset unless the end is in order, as logd does.
    kit::net::accept::reset_on_close(&stream).unwrap();
    let mut bytes = Vec::new();
    let whole = match act {
        Act::Reset | Act::Stall => false,
        Act::CloseAtOnce | Act::AnswerAtOnce(_) => {
            if let Act::AnswerAtOnce(answer) = act {
                stream.write_all(answer.as_bytes()).unwrap();
            }
            // The client may have closed the connection after the answer.
            let _ = stream.shutdown(Shutdown::Write);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            false
        }
        Act::ResetAfter(bytes_max) => {
            let _ = (&stream).take(bytes_max as u64).read_to_end(&mut bytes);
            false
        }
        _ => stream.read_to_end(&mut bytes).is_ok(),
    };
    let (asked, payload) = payload(&bytes);
    let (is_orderly, answer) = match act {
        Act::Receipt if asked => (true, receipt(payload.len())),
        Act::Receipt | Act::Close => (true, String::new()),
        Act::ReceiptForLess => (true, receipt(payload.len() - 1)),
        Act::ReceiptThenReset => (false, receipt(payload.len())),
        Act::Answer(answer) => (true, answer.to_owned()),
        _ => (false, String::new()),
    };
    if whole {
        let _ = stream.write_all(answer.as_bytes());
    }
    let mut seen = shared.0.lock().unwrap();
    let is_receipt = act == Act::Receipt || (act == Act::Close && !asked);
    seen.batches.push((payload.to_vec(), whole && is_receipt));
    if whole && is_orderly {
        kit::net::accept::close_in_order(&stream).unwrap();
    }
    if matches!(act, Act::NoAnswer | Act::Stall) {
        seen.held.push(stream);
    }
    shared.1.notify_all();
}

/// Returns true if an explicit receipt was requested, and the bytes after the request.
pub(crate) fn payload(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes.strip_prefix(REQUEST) {
        Some(payload) => (true, payload),
        // logd would keep no part of a request that was cut.
        None if REQUEST.starts_with(bytes) => (false, &[]),
        None => (false, bytes),
    }
}

/// Returns logd's answer for this many bytes.
pub(crate) fn receipt(payload_bytes: usize) -> String {
    format!("LOGD-RECEIPT 1 {payload_bytes}\n")
}

/// Returns a port without a listener, for a receiver that starts later. It stays reserved until the test's
/// process ends.
pub(crate) fn free_port() -> u16 {
    Box::leak(Box::new(Port::reserve())).address.port()
}

pub(crate) fn listen_on(port: u16) -> TcpListener {
    let mut listener = None;
    // A process that another test is just starting holds an old listener until its `exec`.
    wait_until("the port is free", || {
        listener = TcpListener::bind(("127.0.0.1", port)).ok();
        listener.is_some()
    });
    listener.unwrap()
}

/// Makes numbered lines of growing and shrinking length.
pub(crate) fn numbered(range: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in range {
        writeln!(bytes, "{number:08} {}", "x".repeat(number % 97)).unwrap();
    }
    bytes
}

pub(crate) fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Returns each line's first appearance, in order: the received lines without repetitions.
pub(crate) fn first_appearances(bytes: &[u8]) -> Vec<u8> {
    let mut known = std::collections::HashSet::new();
    lines(bytes).into_iter().filter(|line| known.insert(*line)).flatten().copied().collect()
}
