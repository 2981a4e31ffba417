//! The images as their users run them: read-only, without capabilities, on their own network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agents;
mod compose;
mod container;
mod image;
mod names;
mod network;
mod refusal;
mod registry;
mod reproducible;
mod sbom;
