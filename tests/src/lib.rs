//! Tests across the crew.
