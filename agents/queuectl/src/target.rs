//! Where the server is, and one connection to it.

use crate::failure::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kit::exit::{Exit, Fatal};
use kit::tls::ClientFiles;
use nix::sys::socket::{Shutdown, shutdown};
use rustls_pki_types::ServerName;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a batch of large items may come to.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Where Debian, Alpine and the images built on them keep the public authorities.
const PUBLIC_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A server's address, out of its URL.
#[derive(Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
    /// What goes in front of `/v1`, without a slash at its end.
    prefix: String,
    authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Target {
    /// `url` as in `http://queue:8080`; a path in it is kept in front of all others.
    pub(crate) fn parse(url: &str, files: &ClientFiles) -> Result<Target, Fatal> {
        let bad = |why: &str| {
            Fatal::new(
                Exit::Usage,
                format!("{url:?} is no URL such as http://queue:8080: {why} (see --server)"),
            )
        };
        let uri: Uri = url.parse().map_err(|_| bad("it cannot be parsed"))?;
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(files),
            _ => return Err(bad("its scheme must be http or https")),
        };
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(bad("user names and queries have no meaning here (see --token-file)"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let tls = tls.map(|files| tls_config(files, &host)).transpose()?;
        Ok(Target { host, port, prefix, authority: authority.to_string(), tls })
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Resolves the name anew each time: a server's address may change while it is away.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        match timeout(CONNECT_TIMEOUT, self.connect_patiently()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::ConnectTimeout(CONNECT_TIMEOUT)),
        }
    }

    async fn connect_patiently(&self) -> Result<Connection, Failure> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let socket = stream.as_fd().try_clone_to_owned().map_err(Failure::Connect)?;
        let sender = match &self.tls {
            None => handshake(stream).await?,
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                handshake(connector.connect(name.clone(), stream).await.map_err(Failure::Tls)?).await?
            }
        };
        Ok(Connection { sender, socket })
    }
}

fn tls_config(files: &ClientFiles, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), Fatal> {
    let mut files = files.clone();
    if files.tls_ca.is_none() && Path::new(PUBLIC_CA).exists() {
        files.tls_ca = Some(PUBLIC_CA.into());
    }
    let config = files.load()?.ok_or_else(|| Fatal::new(Exit::Usage, "https needs --tls-ca FILE"))?;
    let name = files.tls_name.clone().unwrap_or_else(|| host.to_owned());
    let server_name = ServerName::try_from(name.clone()).map_err(|e| {
        Fatal::new(Exit::Usage, format!("{name:?} is no name for a certificate, see --tls-name")).because(e)
    })?;
    Ok((config, server_name))
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Broken)?;
    // It ends with its sender; what went wrong is told to whoever waits for the answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// A connection that carries one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The same socket once more, to end a wait without losing its answer.
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

    /// A handle that outlives a borrow of the connection.
    pub(crate) fn hang_up_handle(&self) -> std::io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

/// Ends this side only. A server that has not answered yet sees that nobody waits any longer; an answer that
/// is on its way, and the items that were leased with it, still arrives.
pub(crate) fn end_our_side(socket: &OwnedFd) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_port_and_what_goes_in_front_of_each_path() {
        let target = |url| Target::parse(url, &ClientFiles::default()).unwrap();
        let queue = target("http://queue");
        assert_eq!(
            (queue.host.as_str(), queue.port, queue.path("/v1/stats")),
            ("queue", 80, "/v1/stats".into())
        );
        let six = target("http://[::1]:8080/behind/proxy/");
        assert_eq!((six.host.as_str(), six.port), ("::1", 8080));
        assert_eq!((six.authority(), six.path("/v1")), ("[::1]:8080", "/behind/proxy/v1".into()));
    }

    #[test]
    fn what_is_no_url_is_named() {
        for url in
            ["queue:8080", "ftp://queue", "/v1", "http://", "http://me:secret@queue", "http://queue/?x=1"]
        {
            let fatal = Target::parse(url, &ClientFiles::default()).err().unwrap();
            assert_eq!(fatal.exit(), Exit::Usage, "{url}");
            assert!(fatal.one_line().contains("no URL such as"), "{fatal}");
        }
    }
}
