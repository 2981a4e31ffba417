//! A stand-in for logd: each connection meets the next behaviour of a list, later ones the last.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use trial::DEADLINE;

/// The first line of a client that wants an explicit receipt.
const REQUEST: &[u8] = b"LOGD-RECEIPT 1\n";

/// The fate of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Everything is read and kept, then the answer to a request for a receipt and an orderly end, as from logd.
    Receipt,
    /// Everything is read and kept, then an orderly end without an answer, as from nc.
    Close,
    /// Everything is read and kept, then a receipt for one byte less.
    ReceiptForLess,
    /// Everything is read and kept, then the right answer and a reset.
    ReceiptThenReset,
    /// Everything is read and kept, then these bytes and an orderly end.
    Answer(&'static str),
    /// These bytes at once, before anything is read, and an orderly end.
    AnswerAtOnce(&'static str),
    /// A reset before anything is read.
    Reset,
    /// This many bytes are read and kept, then a reset.
    ResetAfter(usize),
    /// Everything is read and kept, then a reset in place of the receipt.
    ResetInsteadOfReceipt,
    /// An orderly end at once, with nothing read: no receipt by any measure.
    CloseAtOnce,
    /// Everything is read and kept, and no answer is given while the receiver lives.
    NoAnswer,
    /// Nothing is read and no answer is given while the receiver lives.
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

    /// Comes (back) on a port of its own choice.
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
                meet(stream.unwrap(), act, &shared);
            }
        });
        Receiver { address, seen, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything that was answered with a receipt.
    pub(crate) fn receipted(&self) -> Vec<u8> {
        let seen = self.seen.0.lock().unwrap();
        seen.batches.iter().filter(|(_, receipt)| *receipt).flat_map(|(bytes, _)| bytes.clone()).collect()
    }

    /// Everything that was read, as logd would keep it: a line that was cut gets a newline.
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

    /// Goes away and gives the port's listener up.
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

fn meet(mut stream: TcpStream, act: Act, shared: &(Mutex<Seen>, Condvar)) {
    shared.0.lock().unwrap().connections += 1;
    // logd: a reset unless the end is in order.
    kit::accept::reset_on_close(&stream).unwrap();
    let mut bytes = Vec::new();
    let whole = match act {
        Act::Reset | Act::Stall => false,
        Act::CloseAtOnce | Act::AnswerAtOnce(_) => {
            if let Act::AnswerAtOnce(answer) = act {
                stream.write_all(answer.as_bytes()).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
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
        kit::accept::close_in_order(&stream).unwrap();
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
        // A request that was cut is nothing that logd would keep.
        None if REQUEST.starts_with(bytes) => (false, &[]),
        None => (false, bytes),
    }
}

/// Returns logd's answer for this many bytes.
pub(crate) fn receipt(payload_bytes: usize) -> String {
    format!("LOGD-RECEIPT 1 {payload_bytes}\n")
}

/// Returns a port without a listener, for a receiver that starts later.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn listen_on(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).unwrap()
}

/// Numbered lines of growing and shrinking length.
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

/// Each line's first appearance, in order: what is left of the received when repetition is taken away.
pub(crate) fn first_appearances(bytes: &[u8]) -> Vec<u8> {
    let mut known = std::collections::HashSet::new();
    lines(bytes).into_iter().filter(|line| known.insert(*line)).flatten().copied().collect()
}
