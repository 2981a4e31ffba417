//! Code shared by the nodecrew daemons and clients: settings, logs, signals, readiness, the admin endpoint,
//! metrics, sockets, TLS, locks, retries, live reload, commands, lines and tables in a terminal. It knows
//! nothing of archives or queues.

pub mod accept;
pub mod admin;
pub mod allow;
pub mod backoff;
pub mod browser_ports;
pub mod client;
pub mod colour;
pub mod commands;
pub mod completion;
pub mod daemon;
pub mod disk;
pub mod events;
pub mod exit;
pub mod free_space;
mod head_timer;
pub mod help;
pub mod history;
pub mod http;
pub mod identity;
pub mod lines;
pub mod listen;
pub mod lock;
pub mod logs;
pub mod metrics;
pub mod origin;
pub mod page;
pub mod page_access;
mod patient;
pub mod pieces;
pub mod priority;
pub mod readiness;
pub mod settings;
pub mod stop;
pub mod terminal;
pub mod tls;
pub mod watch;

/// Version and source revision, as in `--version` and `nodecrew_build_info`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("NODECREW_REVISION"), ")");
