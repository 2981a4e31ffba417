//! Shared test tools: start an agent, wait for it, inspect it and end it. A failure here fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod certificate;
mod clock;
mod crowd;
mod document;
mod http;
pub mod kubelet;
mod port;
mod process;
mod registry;
mod setup;
mod wait;

pub use certificate::self_signed;
pub use clock::Clock;
pub use crowd::{connect_from, descriptors_for, with_descriptors, with_soft_descriptors};
pub use document::commands_under;
pub use http::{Answer, Http, ask, metric, tell};
pub use port::Port;
pub use process::{Process, holder, is_gone, limit, processes_in, run_to_end, signal, with_input};
pub use registry::Registry;
pub use setup::Setup;
pub use wait::{DEADLINE, LOOK_EVERY, wait_until};
