//! The server's address, and connections to it.

use crate::failure::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kit::client::{Channel, Server};
use kit::exit::{Exit, Fatal};
use kit::net::tls::ClientFiles;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The bound on an answer, which may be a batch of large items.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// The file of public authorities, in Debian, Alpine and the images built on them.
const PUBLIC_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A server's address, parsed from its URL.
#[derive(Clone)]
pub(crate) struct Target {
    server: Server,
    /// The path in front of `/v1`, without a slash at its end.
    prefix: String,
    authority: String,
}

impl Target {
    /// Parses a URL such as `http://queue:8080`. Its path is put in front of all others.
    pub(crate) fn parse(url: &str, files: &ClientFiles) -> Result<Target, Fatal> {
        let example = if url.contains("/") || url.is_empty() { "queue:8080" } else { url };
        let bad = |why: &str| {
            let message = format!("{url:?} is not a URL such as http://{example}: {why} (see --server)");
            Fatal::new(Exit::Usage, message)
        };
        let uri: Uri = url.parse().map_err(|_| bad("it cannot be parsed"))?;
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("its scheme must be http or https")),
        };
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(bad("user names and queries are not supported (see --token-file)"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let files = if is_secure { trusting(files)? } else { ClientFiles::default() };
        let server = Server::new(host, port, &files)?;
        Ok(Target { server, prefix, authority: authority.to_string() })
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let (channel, socket) = self.server.connect(CONNECT_TIMEOUT, |_| Ok(())).await?;
        let sender = match channel {
            Channel::Plain(stream) => handshake(stream).await?,
            Channel::Tls(stream) => handshake(*stream).await?,
        };
        Ok(Connection { sender, socket })
    }
}

/// Adds the public authorities, unless a file names others.
fn trusting(files: &ClientFiles) -> Result<ClientFiles, Fatal> {
    let mut files = files.clone();
    if files.tls_ca.is_none() {
        if !Path::new(PUBLIC_CA).exists() {
            let message = format!("https needs --tls-ca FILE: this system has no {PUBLIC_CA}");
            return Err(Fatal::new(Exit::Usage, message));
        }
        files.tls_ca = Some(PUBLIC_CA.into());
    }
    Ok(files)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Broken)?;
    // The task ends with its sender, which also reports errors.
    tokio::spawn(connection);
    Ok(sender)
}

/// A connection that carries one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// A second handle of the socket, which ends a wait without losing its answer.
    socket: OwnedFd,
}

impl Connection {
    pub(crate) fn is_usable(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.sender.ready().await.map_err(Failure::Broken)?;
        let answer = self.sender.send_request(request).await.map_err(Failure::Broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return Failure::TooLong(ANSWER_BYTES_MAX);
            }
            match error.downcast::<hyper::Error>() {
                Ok(error) => Failure::Broken(*error),
                Err(_) => Failure::TooLong(ANSWER_BYTES_MAX),
            }
        })?;
        Ok((status, body.to_bytes()))
    }

    /// Returns a handle that outlives a borrow of the connection.
    pub(crate) fn hang_up_handle(&self) -> std::io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

/// Closes this side of the connection only. A server that has not answered yet sees that nobody waits any
/// longer. An answer that is on its way, with the items that were leased, still arrives.
pub(crate) fn end_our_side(socket: &OwnedFd) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_host_port_and_path_prefix() {
        let target = |url| Target::parse(url, &ClientFiles::default()).unwrap();
        let queue = target("http://queue");
        assert_eq!(
            (queue.server.host.as_str(), queue.server.port, queue.path("/v1/stats")),
            ("queue", 80, "/v1/stats".into())
        );
        let six = target("http://[::1]:8080/behind/proxy/");
        assert_eq!((six.server.host.as_str(), six.server.port), ("::1", 8080));
        assert_eq!((six.authority(), six.path("/v1")), ("[::1]:8080", "/behind/proxy/v1".into()));
    }

    #[test]
    fn bad_url_is_named() {
        for url in
            ["queue:8080", "ftp://queue", "/v1", "http://", "http://me:secret@queue", "http://queue/?x=1"]
        {
            let fatal = Target::parse(url, &ClientFiles::default()).err().unwrap();
            assert_eq!(fatal.exit(), Exit::Usage, "{url}");
            assert!(fatal.one_line().contains("not a URL such as"), "{fatal}");
        }
    }
}
