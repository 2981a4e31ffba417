//! What every daemon shares.
