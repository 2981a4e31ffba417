//! Requests to servers that may disappear at any moment.

use serde_json::Value;
use std::io;
use std::net::SocketAddr;

/// One keep-alive connection.
pub struct Http(trial::Http);

impl Http {
    pub fn connect(address: SocketAddr) -> io::Result<Http> {
        trial::Http::connect(address).map(Http)
    }

    /// Sends a request and returns the status and body.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let answer = self.0.call(method, path, "Content-Type: application/json\r\n", body.as_bytes())?;
        Ok((answer.status, answer.text().to_owned()))
    }

    pub fn metric(&mut self, name: &str) -> u64 {
        let (_, page) = self.call("GET", "/metrics", "").unwrap();
        trial::metric(&page, name)
    }

    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let (status, body) = self.call("POST", path, &body.to_string())?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }
}
