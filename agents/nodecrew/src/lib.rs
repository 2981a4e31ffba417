//! The crew.
