//! Runs a client once, and connects it to its server.

use crate::daemon;
use crate::exit::{Exit, Fatal};
use crate::net::tls::ClientFiles;
use crate::settings::Common;
use crate::telemetry::logs;
use rustls_pki_types::ServerName;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// Runs the client from its first log line to its end. No task continues after it.
pub fn run<T>(common: &Common, body: impl Future<Output = Result<T, Fatal>>) -> Result<T, Fatal> {
    logs::start(&common.log_level, common.log_format)?;
    let runtime = daemon::runtime()?;
    let result = runtime.block_on(body);
    // Name resolution or a read from the terminal must not delay the exit.
    runtime.shutdown_background();
    result
}

/// The server's address, and its TLS configuration if it has one.
#[derive(Clone, Debug)]
pub struct Server {
    pub host: String,
    pub port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A new connection, before anything is sent.
#[derive(Debug)]
pub enum Channel {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect: {0}")]
    Refused(io::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
}

/// The message already contains the cause: as a source it would be printed twice.
impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        ConnectError::Refused(error)
    }
}

impl Server {
    /// Uses TLS if the files name an authority.
    pub fn new(host: String, port: u16, files: &ClientFiles) -> Result<Server, Fatal> {
        let name = || {
            let name = files.tls_name.as_ref().unwrap_or(&host);
            ServerName::try_from(name.clone()).map_err(|e| {
                Fatal::new(Exit::Usage, format!("{name:?} is not a name for a certificate, see --tls-name"))
                    .because(e)
            })
        };
        let tls = files.load()?.map(|config| Ok((config, name()?))).transpose()?;
        Ok(Server { host, port, tls })
    }

    /// Connects to the server. Calls `prepare` with the socket before anything is sent, and returns the
    /// socket a second time, so that the caller decides how it is closed. The name is resolved each time,
    /// since a server's address may change while it is away.
    pub async fn connect(
        &self,
        within: Duration,
        prepare: impl FnOnce(&TcpStream) -> io::Result<()>,
    ) -> Result<(Channel, OwnedFd), ConnectError> {
        let connected = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            prepare(&stream)?;
            let socket = stream.as_fd().try_clone_to_owned()?;
            let Some((config, name)) = &self.tls else { return Ok((Channel::Plain(stream), socket)) };
            let handshake = TlsConnector::from(config.clone()).connect(name.clone(), stream);
            Ok((Channel::Tls(Box::new(handshake.await.map_err(ConnectError::Tls)?)), socket))
        };
        timeout(within, connected).await.unwrap_or(Err(ConnectError::Timeout(within)))
    }
}
