//! Checks that must hold for any bytes that strangers send or disks bring back: one for each parser. The
//! fuzzer in `fuzz` calls them, and so does `cargo test`, which replays what the fuzzer found.
#![allow(clippy::unwrap_used, reason = "a check fails by panicking")]

pub mod allow;
pub mod archive;
pub mod framing;
pub mod http_bodies;
pub mod index;
pub mod log_reader;
pub mod quantities;
pub mod settings;
pub mod short_requests;
pub mod tokens;

/// A check of one input; panics if something does not hold.
pub type Check = fn(&[u8]);

/// Every check, by the name of its corpus.
pub const ALL: &[(&str, Check)] = &[
    ("allow", allow::allow),
    ("archive", archive::archive),
    ("framing", framing::framing),
    ("http_bodies", http_bodies::http_bodies),
    ("index", index::index),
    ("log_reader", log_reader::log_reader),
    ("quantities", quantities::quantities),
    ("settings", settings::settings),
    ("short_requests", short_requests::short_requests),
    ("tokens", tokens::tokens),
];
