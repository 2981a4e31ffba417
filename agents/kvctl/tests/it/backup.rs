//! Tests that a backup can be restored to the same keys.

use crate::kvctl::{fails, run, says};
use crate::server::Kvd;

fn filled() -> Kvd {
    let kvd = Kvd::start();
    says(&kvd.url(), &["put", "text", "one\ntwo"]);
    assert!(run(&kvd.url(), &["put", "binary"], b"\xff\0").status.success());
    says(&kvd.url(), &["put", "lease", "x", "--ttl", "1h"]);
    kvd
}

/// Returns keys and values, without revisions, which each server chooses itself.
fn keys(kvd: &Kvd) -> String {
    says(&kvd.url(), &["list", "--values"])
}

#[test]
fn restored_keys_equal_those_of_the_backup() {
    let kvd = filled();
    let file = kvd.path("backup.jsonl");
    let file = file.to_str().unwrap();
    says(&kvd.url(), &["backup", "--to", file]);
    assert_eq!(std::fs::read_to_string(file).unwrap(), says(&kvd.url(), &["backup"]));
    let by_file = Kvd::start();
    says(&by_file.url(), &["restore", file]);
    assert_eq!(keys(&by_file), keys(&kvd));
    assert!(says(&by_file.url(), &["get", "lease", "--json"]).contains("expires"));
    let by_stdin = Kvd::start();
    let backup = std::fs::read(file).unwrap();
    assert!(run(&by_stdin.url(), &["restore", "-"], &backup).status.success());
    assert_eq!(keys(&by_stdin), keys(&kvd));
}

#[test]
fn largest_values_of_zeros_are_restored() {
    const VALUE_BYTES: usize = 1 << 20;
    let kvd = Kvd::start();
    for key in ["a", "b"] {
        assert!(run(&kvd.url(), &["put", key], &[0; VALUE_BYTES]).status.success());
    }
    let file = kvd.path("backup.jsonl");
    let file = file.to_str().unwrap();
    says(&kvd.url(), &["backup", "--to", file]);
    let restored = Kvd::start();
    says(&restored.url(), &["restore", file]);
    assert!(run(&restored.url(), &["get", "b"], b"").stdout == [0; VALUE_BYTES]);
}

#[test]
fn server_with_keys_is_not_overwritten_by_mistake() {
    let kvd = filled();
    let file = kvd.path("backup.jsonl");
    let file = file.to_str().unwrap();
    says(&kvd.url(), &["backup", "--to", file]);
    says(&kvd.url(), &["put", "text", "newer"]);
    says(&kvd.url(), &["put", "other", "x"]);
    let (code, said) = fails(&kvd.url(), &["restore", file]);
    assert!(code == 1 && said.contains("has 4 keys already: --merge"), "{said}");
    says(&kvd.url(), &["restore", file, "--merge"]);
    assert_eq!(says(&kvd.url(), &["get", "text"]), "one\ntwo");
    assert_eq!(says(&kvd.url(), &["get", "other"]), "x");
}

#[test]
fn incomplete_backup_is_refused_before_anything_is_set() {
    let kvd = filled();
    let file = kvd.path("backup.jsonl");
    let whole = says(&kvd.url(), &["backup"]);
    let last = whole.trim_end().rfind('\n').unwrap();
    std::fs::write(&file, &whole[..=last]).unwrap();
    let empty = Kvd::start();
    let (code, said) = fails(&empty.url(), &["restore", file.to_str().unwrap()]);
    assert!(code == 1 && said.contains("incomplete"), "{said}");
    assert_eq!(keys(&empty), "");
}
