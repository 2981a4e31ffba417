//! The log daemon.
