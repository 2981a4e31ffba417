//! The queue server's binary.

fn main() {}
