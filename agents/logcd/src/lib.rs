//! The log compressor.
