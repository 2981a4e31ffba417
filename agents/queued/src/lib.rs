//! queued hands out work items to Jobs.

pub mod engine;
