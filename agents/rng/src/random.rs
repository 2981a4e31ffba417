//! Makes the body of an answer from the kernel's random bytes.

use axum::body::Body;
use futures_util::stream;
use kit::exit::{Exit, Fatal};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

/// The kernel's generator. Reading it never waits.
const DEVICE: &str = "/dev/urandom";

/// The size of the pieces in which a body is made. The server holds up to 16 pieces for a client that does
/// not read, so this bounds the memory of a connection.
const PIECE_BYTES: usize = 4 << 10;

/// The open generator; clones share it.
#[derive(Clone, Debug)]
pub struct Random(Arc<File>);

impl Random {
    pub fn open() -> Result<Random, Fatal> {
        let device = File::open(DEVICE);
        let device = device.map_err(|e| Fatal::new(Exit::System, format!("cannot open {DEVICE}")).because(e));
        Ok(Random(Arc::new(device?)))
    }

    /// Returns a body of `count` bytes, which are made as the client reads them.
    pub fn body(&self, count: usize) -> Body {
        Body::from_stream(stream::unfold((self.0.clone(), count), |(device, left)| async move {
            if left == 0 {
                return None;
            }
            let mut piece = vec![0; left.min(PIECE_BYTES)];
            let left = left - piece.len();
            let read = (&*device).read_exact(&mut piece).map(|()| piece);
            Some((read, (device, left)))
        }))
    }
}
