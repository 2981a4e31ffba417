//! Runs libFuzzer on one of the checks. FUZZ names it, so that the processes that libFuzzer itself starts for
//! a merge know it too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static CHECK: LazyLock<inputs::Check> = LazyLock::new(|| {
    let name = std::env::var("FUZZ").unwrap_or_default();
    let names: Vec<_> = inputs::ALL.iter().map(|(name, _)| *name).collect();
    inputs::ALL
        .iter()
        .find(|(check, _)| *check == name)
        .unwrap_or_else(|| panic!("FUZZ must be one of {names:?}"))
        .1
});

fuzz_target!(|bytes: &[u8]| CHECK(bytes));
