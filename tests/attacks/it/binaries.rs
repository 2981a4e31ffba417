//! Finds the agents' binaries.

use std::path::PathBuf;

/// Returns the binary that cargo built next to this test; `just attacks` builds the agents first.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join(name);
    assert!(binary.exists(), "{} is missing: run `just attacks`", binary.display());
    binary
}
