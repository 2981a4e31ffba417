//! Sockets: listening, accepting, the allow-list, TLS, and the delays between attempts to connect.

pub mod accept;
pub mod allow;
pub mod backoff;
pub mod browser_ports;
pub mod listen;
pub mod tls;
