//! HTTP: the server, its timeouts, server-sent events, and requests that come from other sites.

pub mod events;
mod head_timer;
pub mod origin;
mod patient;
pub mod pieces;
mod serve;

pub use serve::{Answer, Peer, serve, serve_one, serve_tls};
