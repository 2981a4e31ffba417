//! A connection to the server, whose wait for an answer can be ended early.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use kit::caller::{CallError, HttpSender, ServerOrigin, whole_body};
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsRawFd, OwnedFd};

/// A connection that carries one request after the other.
pub(crate) struct Connection {
    sender: HttpSender,
    /// A second handle of the socket, which ends a wait without losing its answer.
    socket: OwnedFd,
}

impl Connection {
    pub(crate) async fn open(origin: &ServerOrigin) -> Result<Connection, CallError> {
        let (sender, socket) = origin.connect().await?;
        Ok(Connection { sender, socket })
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        self.sender.ready().await.map_err(CallError::Broken)?;
        let answer = self.sender.send_request(request).await.map_err(CallError::Broken)?;
        Ok((answer.status(), whole_body(answer.into_body()).await?))
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
