//! One batch over one connection, until its receipt: logd closes its side in order only when it has all of
//! it in its file.
//!
//! Anything else, be it a reset, an error, a time-out or an end that comes too early, means *unknown*: the
//! batch is sent again. What logd got of a broken attempt it keeps, and closes a line that was cut with a
//! newline; so a broken attempt can repeat lines and leave one fragment of a line, and never loses any.

use crate::plain;
use kit::accept::{close_in_order, reset_on_close};
use kit::client::{Channel, NoConnection, Server};
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Where logd is, and how patient to be with it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) server: Server,
    pub(crate) connect_timeout: Duration,
    pub(crate) receipt_timeout: Duration,
}

/// Why it is not known whether the batch is in logd's file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReceipt {
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    #[error("the connection broke before the receipt: {0}")]
    Broken(#[from] io::Error),
    #[error("the connection was closed before the batch was sent")]
    ClosedEarly,
    #[error("no receipt within {0:?}")]
    Timeout(Duration),
    #[error("cannot read the spool: {0}")]
    Spool(io::Error),
}

/// A connection that has not been used yet.
pub(crate) struct Connection {
    channel: Channel,
    socket: OwnedFd,
    receipt_timeout: Duration,
}

impl Target {
    pub(crate) async fn connect(&self) -> Result<Connection, NoReceipt> {
        // Until the whole batch is on its way, dying must not look like a sender that was done.
        let (channel, socket) = self.server.connect(self.connect_timeout, reset_on_close).await?;
        Ok(Connection { channel, socket, receipt_timeout: self.receipt_timeout })
    }
}

impl Connection {
    /// Sends the batch and waits for its receipt. Only `Ok` means that logd has it.
    pub(crate) async fn hand_over(self, batch: &[u8]) -> Result<(), NoReceipt> {
        let Connection { channel, socket, receipt_timeout } = self;
        let exchange = async {
            match channel {
                Channel::Plain(stream) => exchange(stream, &socket, batch).await.map(drop),
                Channel::Tls(stream) => {
                    // close_notify from the peer came; the connection below must end in order too.
                    let (tcp, _) = exchange(*stream, &socket, batch).await?.into_inner();
                    end_of(tcp).await
                }
            }
        };
        let result = match timeout(receipt_timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(NoReceipt::Timeout(receipt_timeout)),
        };
        if result.is_err() {
            // What still waits in the kernels of an attempt that is given up had better not arrive: it will
            // be sent again.
            let _ = reset_on_close(&socket);
        }
        result
    }
}

/// Writes and reads side by side: an end that comes before all was written is no receipt.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    socket: &OwnedFd,
    batch: &[u8],
) -> Result<S, NoReceipt> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent = Cell::new(false);
    let write = async {
        if plain::looks_like_a_frame(batch) {
            writer.write_all(plain::GUARD).await?;
        }
        writer.write_all(batch).await?;
        writer.shutdown().await?;
        // All of it is in the kernel's hands now: if this process dies, let it arrive.
        close_in_order(socket)?;
        sent.set(true);
        Ok(())
    };
    let read = async {
        end_of(&mut reader).await?;
        if sent.get() { Ok(()) } else { Err(NoReceipt::ClosedEarly) }
    };
    tokio::try_join!(write, read)?;
    Ok(reader.unsplit(writer))
}

async fn end_of(mut stream: impl AsyncRead + Unpin) -> Result<(), NoReceipt> {
    // logd says nothing; whatever a stranger on that port says is no receipt either.
    let mut ignored = [0; 512];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
