//! Requests to queued; each answer's status is compared with openapi.json.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
pub(crate) use trial::Answer;

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Http {
    connection: trial::Http,
    /// The requests without an answer so far.
    asked: VecDeque<(String, String)>,
    pub(crate) token: Option<String>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Http {
        Http::try_connect(address).unwrap()
    }

    pub(crate) fn on(stream: TcpStream) -> Http {
        Http::new(trial::Http::on(stream).unwrap())
    }

    /// Connects to a server that may be gone.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Http> {
        trial::Http::connect(address).ok().map(Http::new)
    }

    fn new(connection: trial::Http) -> Http {
        Http { connection, asked: VecDeque::new(), token: None }
    }

    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut headers = String::new();
        if !content_type.is_empty() {
            headers += &format!("Content-Type: {content_type}\r\n");
        }
        if let Some(token) = &self.token {
            headers += &format!("Authorization: Bearer {token}\r\n");
        }
        self.asked.push_back((method.to_owned(), path.to_owned()));
        self.connection.send(method, path, &headers, body)
    }

    pub(crate) fn receive(&mut self) -> std::io::Result<Answer> {
        let answer = self.connection.receive()?;
        if let Some((method, path)) = self.asked.pop_front() {
            crate::openapi::check_status(&method, &path, answer.status);
        }
        Ok(answer)
    }

    pub(crate) fn try_call(&mut self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        self.send(method, path, "", body)?;
        self.receive()
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.try_call(method, path, body.as_ref()).unwrap()
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.call("POST", path, body)
    }

    /// Reads the next piece of an endless answer.
    pub(crate) fn read_some(&mut self) -> String {
        self.connection.read_some()
    }
}
