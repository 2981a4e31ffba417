//! Load from many connections, with lines that identify themselves. From the log file alone, a test knows
//! which connection sent each line, and at which place.

use crate::client;
use fastrand::Rng;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const LINE_BYTES_MAX: usize = 100_000;

/// Random bytes without newlines. Every line is a slice of them, after its first byte.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = Rng::with_seed(6666);
    std::iter::repeat_with(|| rng.u8(..)).filter(|b| *b != b'\n').take(2 * LINE_BYTES_MAX).collect()
});

/// Connections that each send the same lines at every call. The first byte of a line identifies its
/// connection. Lines have from 1 byte to 100 KB; most are short.
#[derive(Clone, Copy)]
pub(crate) struct MarkedLines {
    pub(crate) connections: u8,
    pub(crate) lines: usize,
}

impl MarkedLines {
    fn lines(self, connection: u8) -> impl Iterator<Item = (u8, &'static [u8])> {
        let mut rng = Rng::with_seed(u64::from(connection));
        (0..self.lines).map(move |number| {
            let rest = match number {
                0 => 0,
                _ if number == self.lines / 2 => LINE_BYTES_MAX - 1,
                _ => match rng.u16(..10_000) {
                    0..7_500 => rng.usize(..100),
                    7_500..9_950 => rng.usize(..400),
                    9_950..9_999 => rng.usize(..5_000),
                    _ => rng.usize(..LINE_BYTES_MAX),
                },
            };
            let start = rng.usize(..LINE_BYTES_MAX);
            (mark(connection), &NOISE[start..start + rest])
        })
    }

    /// Sends on all connections at once, in fragments of random size, and waits for every receipt.
    pub(crate) fn send(self, address: SocketAddr) {
        std::thread::scope(|scope| {
            for connection in 0..self.connections {
                scope.spawn(move || {
                    let mut bytes = Vec::new();
                    for (mark, rest) in self.lines(connection) {
                        bytes.push(mark);
                        bytes.extend_from_slice(rest);
                        bytes.push(b'\n');
                    }
                    let mut rng = Rng::with_seed(u64::from(connection));
                    let mut stream = client::connect(address);
                    let mut left = &bytes[..];
                    while !left.is_empty() {
                        let longest = [16, 1_500, 64 * 1024][rng.usize(..3)];
                        let (fragment, rest) = left.split_at(rng.usize(1..=longest).min(left.len()));
                        stream.write_all(fragment).unwrap();
                        left = rest;
                    }
                    client::receipt(stream).unwrap();
                });
            }
        });
    }

    /// Reads the files in order and checks that they hold every line of every connection once, complete and
    /// in order. `without_additions` removes what the daemon added to a line, such as its time.
    pub(crate) fn check(self, files: &[PathBuf], without_additions: impl Fn(&[u8]) -> Vec<u8>) {
        let mut expected: Vec<_> = (0..self.connections).map(|c| self.lines(c).enumerate()).collect();
        let mut line = Vec::new();
        for path in files {
            let mut file = open(path);
            loop {
                line.clear();
                if file.read_until(b'\n', &mut line).unwrap() == 0 {
                    break;
                }
                assert_eq!(line.pop(), Some(b'\n'), "{} ends within a line", path.display());
                let line = without_additions(&line);
                let connection = connection(line[0]);
                let next = expected[usize::from(connection)].next();
                let (number, (_, rest)) =
                    next.unwrap_or_else(|| panic!("{}: connection {connection} twice", path.display()));
                assert!(
                    line[1..] == *rest,
                    "{}: not line {number} of connection {connection}: {} bytes, expected {}",
                    path.display(),
                    line.len(),
                    rest.len() + 1
                );
            }
        }
        for (connection, mut lines) in expected.into_iter().enumerate() {
            assert_eq!(lines.next().map(|(number, _)| number), None, "connection {connection} lost lines");
        }
    }
}

/// Returns the first byte of a connection's lines, which is never a newline.
fn mark(connection: u8) -> u8 {
    if connection < b'\n' { connection } else { connection + 1 }
}

fn connection(mark: u8) -> u8 {
    if mark < b'\n' { mark } else { mark - 1 }
}

/// Opens the file's text, compressed or not.
pub(crate) fn open(path: &Path) -> Box<dyn BufRead> {
    let file = BufReader::with_capacity(256 * 1024, File::open(path).unwrap());
    if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    }
}

/// Returns the file's whole text.
pub(crate) fn content(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    open(path).read_to_end(&mut content).unwrap();
    content
}
