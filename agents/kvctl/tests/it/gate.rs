//! A relay in front of a server. It blocks one request, chosen by its number among the requests to all
//! relays.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use trial::{Answer, Http};

/// The number of requests so far, and the number of the request to block.
#[derive(Default)]
pub(crate) struct Requests {
    count: AtomicUsize,
    held: AtomicUsize,
    is_held: AtomicBool,
}

impl Requests {
    /// Starts to count, and blocks the request with this number, from 1. With 0 it blocks none.
    pub(crate) fn hold(&self, number: usize) {
        self.is_held.store(false, Ordering::SeqCst);
        self.held.store(number, Ordering::SeqCst);
        self.count.store(0, Ordering::SeqCst);
    }

    pub(crate) fn one_is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    /// Returns the number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn passes(&self) -> bool {
        let number = 1 + self.count.fetch_add(1, Ordering::SeqCst);
        let passes = number != self.held.load(Ordering::SeqCst);
        if !passes {
            self.is_held.store(true, Ordering::SeqCst);
        }
        passes
    }
}

/// Starts a relay to a server and returns its address. The relay ends with the test's process.
pub(crate) fn relay(server: SocketAddr, requests: &Arc<Requests>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = requests.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let requests = requests.clone();
            std::thread::spawn(move || serve(&client.unwrap(), server, &requests));
        }
    });
    address
}

/// Relays the requests of one connection until the client closes it or is killed.
fn serve(mut client: &TcpStream, server: SocketAddr, requests: &Requests) {
    let mut server = Http::connect(server).unwrap();
    let mut reader = BufReader::new(client);
    while let Some(request) = Request::read(&mut reader) {
        if !requests.passes() {
            // Reads until the client's end closes the connection.
            let _ = reader.read_to_end(&mut Vec::new());
            return;
        }
        let Answer { head, body, .. } =
            server.call(&request.method, &request.path, &request.headers, &request.body).unwrap();
        if client.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

struct Request {
    method: String,
    path: String,
    /// The headers, except those that the relay sends itself.
    headers: String,
    body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` at the end of the connection.
    fn read(reader: &mut impl BufRead) -> Option<Request> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
            if line == "\r\n" {
                break;
            }
            lines.push(line);
        }
        let mut words = lines[0].split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let (mut headers, mut length) = (String::new(), 0);
        for line in &lines[1..] {
            let (name, value) = line.split_once(':').unwrap();
            match name.to_lowercase().as_str() {
                "host" => {}
                "content-length" => length = value.trim().parse().unwrap(),
                _ => headers.push_str(line),
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Request { method, path, headers, body })
    }
}
