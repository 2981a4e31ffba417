//! The life of a process: signals, readiness, its name, its priority, and the commands that it runs.

pub mod guard;
pub mod identity;
pub mod priority;
pub mod readiness;
pub mod stop;
