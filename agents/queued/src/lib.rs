//! queued hands out work items to Jobs.
