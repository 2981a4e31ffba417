//! HTTP: the server, its timeouts and tokens, server-sent events, and requests that come from other sites.

pub mod body;
pub mod error_answer;
pub mod events;
mod head_timer;
mod head_wait;
pub mod origin;
mod prefixed;
mod serve;
pub mod tokens;
mod write_timeout;

pub use head_wait::{HEADERS_WITHIN, HEADERS_WITHIN_CROWD, HeadWait, Received, Waited};
pub use serve::{Answer, Peer, serve, serve_one, serve_tls};
