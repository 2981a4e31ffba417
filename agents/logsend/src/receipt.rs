//! Sends one batch over one connection and waits for its receipt. logd confirms the number of bytes and
//! closes its side in order only after the whole batch is in its file.
//!
//! Any other outcome (a reset, an error, a timeout, another answer, an early end) means *unknown*: the batch
//! is sent again. logd keeps the part that it received in a broken attempt, and adds a newline to a line that
//! was cut. So a broken attempt can repeat lines and leave one fragment of a line. It never loses any.

use crate::answer::{AnswerError, REQUEST, Receipt, ReceiptAnswer};
use crate::plain;
use bytes::Buf;
use kit::client::{Channel, ConnectError, Server};
use kit::net::accept::{close_in_order, reset_on_close};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The size of a read: holds the longest answer, and the first words of a stranger.
const READ_BYTES: usize = 512;

/// The address of logd, its way to confirm a batch, and the timeouts.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) server: Server,
    pub(crate) receipt: Receipt,
    pub(crate) connect_timeout: Duration,
    pub(crate) receipt_timeout: Duration,
}

/// The reason why it is unknown if the batch is in logd's file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiptError {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("the connection broke before the receipt: {0}")]
    Broken(#[from] io::Error),
    #[error("the connection was closed before the batch was sent")]
    ClosedEarly,
    #[error(transparent)]
    AnswerError(#[from] AnswerError),
    #[error("no receipt within {0:?}")]
    Timeout(Duration),
    #[error("cannot read the spool: {0}")]
    Spool(io::Error),
}

/// A connection that has not been used yet.
pub(crate) struct Connection {
    channel: Channel,
    socket: OwnedFd,
    receipt: Receipt,
    receipt_timeout: Duration,
}

impl Receiver {
    pub(crate) async fn connect(&self) -> Result<Connection, ReceiptError> {
        // Until the whole batch is sent, the death of this process must not look like an orderly end.
        let (channel, socket) = self.server.connect(self.connect_timeout, reset_on_close).await?;
        let Receiver { receipt, receipt_timeout, .. } = *self;
        Ok(Connection { channel, socket, receipt, receipt_timeout })
    }
}

impl Connection {
    /// Sends the batch and waits for its receipt. Only `Ok` means that logd has it.
    pub(crate) async fn send(self, batch: &[u8]) -> Result<(), ReceiptError> {
        let Connection { channel, socket, receipt, receipt_timeout } = self;
        let exchange = async {
            match channel {
                Channel::Plain(stream) => exchange(stream, &socket, receipt, batch).await.map(drop),
                Channel::Tls(stream) => {
                    // The peer's close_notify came; the TCP connection must end in order too.
                    let (mut tcp, _) = exchange(*stream, &socket, receipt, batch).await?.into_inner();
                    while tcp.read(&mut [0; READ_BYTES]).await? > 0 {}
                    Ok(())
                }
            }
        };
        let result = match timeout(receipt_timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(ReceiptError::Timeout(receipt_timeout)),
        };
        if result.is_err() {
            // Bytes of a failed attempt that still wait in the kernel need not arrive, since they are sent
            // again.
            let _ = reset_on_close(&socket);
        }
        result
    }
}

/// Writes and reads at the same time, so that a peer that answers early is noticed early.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    socket: &OwnedFd,
    receipt: Receipt,
    batch: &[u8],
) -> Result<S, ReceiptError> {
    let request = if receipt == Receipt::Explicit { REQUEST } else { &[] };
    let guard = if plain::needs_guard(batch) { plain::GUARD } else { &[] };
    let mut answer = ReceiptAnswer::to(receipt, guard.len() + batch.len());
    let (mut reader, mut writer) = tokio::io::split(stream);
    {
        let mut bytes = Buf::chain(request, guard).chain(batch);
        let mut write = pin!(async {
            // One vectored write if the socket has room.
            writer.write_all_buf(&mut bytes).await?;
            writer.shutdown().await?;
            // The kernel has the whole batch now: let it arrive even if this process dies.
            close_in_order(socket)
        });
        let mut read = pin!(read_answer(&mut reader, &mut answer));
        let mut written = None;
        loop {
            tokio::select! {
                biased;
                // After a failed write, read the peer's last words: they explain the failure better than the
                // error.
                result = &mut write, if written.is_none() => written = Some(result),
                end = &mut read => {
                    end?;
                    break match written {
                        Some(Ok(())) => Ok(()),
                        Some(Err(error)) => Err(ReceiptError::Broken(error)),
                        None => Err(ReceiptError::ClosedEarly),
                    };
                }
            }
        }?;
    }
    answer.finish()?;
    Ok(reader.unsplit(writer))
}

/// Reads to the orderly end of the stream.
async fn read_answer(
    mut stream: impl AsyncRead + Unpin,
    answer: &mut ReceiptAnswer,
) -> Result<(), ReceiptError> {
    let mut chunk = [0; READ_BYTES];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            length => answer.feed(&chunk[..length])?,
        }
    }
}
