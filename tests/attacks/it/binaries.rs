//! The agents' binaries.

use std::path::PathBuf;

/// What cargo built beside this test; `just attacks` builds the agents first.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join(name);
    assert!(binary.exists(), "{} is missing: run `just attacks`", binary.display());
    binary
}
