//! TCP log daemon.
pub mod budget;
pub mod framing;
pub mod housekeeping;
pub mod journal;
pub mod line_format;
pub mod rotation;
