//! Code shared by the nodecrew daemons and clients. It knows nothing of archives or queues.
//!
//! | module | holds |
//! |---|---|
//! | [`exit`] | exit codes, and the error that ends a program |
//! | [`lines`] | whole lines out of a stream of bytes |
//! | [`line_records`] | lines with times and origins, sent to a reader on another host |
//! | [`terminal`] | output for people: lines, tables, plots, colour |
//! | [`lifecycle`] | signals, readiness, the process's name, child commands |
//! | [`telemetry`] | the log on stderr, and metrics |
//! | [`settings`] | flags, environment and file; help, completion, live reload |
//! | [`disk`] | free space, lock files, syncs that can be believed |
//! | [`net`] | listening, accepting, the allow-list, TLS, delays between attempts |
//! | [`http`] | the HTTP server, server-sent events, requests from other sites |
//! | [`page`] | the pages of agents: style and scripts, access, recent figures |
//! | [`admin`] | probes, metrics and pages on one address |
//! | [`daemon`], [`client`] | run a program from its first log line to its last |
//! | [`caller`] | a client's requests to the HTTP server of another agent |
//!
//! A module uses only those above it.

pub mod admin;
pub mod caller;
pub mod client;
pub mod daemon;
pub mod disk;
pub mod exit;
pub mod http;
pub mod lifecycle;
pub mod line_records;
pub mod lines;
pub mod net;
pub mod page;
pub mod settings;
pub mod telemetry;
pub mod terminal;

/// Version and source revision, as in `--version` and `nodecrew_build_info`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("NODECREW_REVISION"), ")");
