//! Setups that cannot work are refused with the exit code that podFailurePolicies and scripts rely on.

use crate::container::{run, volume};
use crate::image::IMAGES;

#[track_caller]
fn ends(name: &str, options: &[&str], arguments: &[&str], code: i32, culprit: &str) {
    let output = run(name, options, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{name} {arguments:?}: {said}");
    assert!(said.contains(culprit), "no {culprit:?} in {said}");
}

#[test]
fn images_exit_with_64_for_bad_flags() {
    for name in IMAGES {
        let first: &[&str] =
            if name == "nodecrew" { &["logd", "--no-such-flag"] } else { &["--no-such-flag"] };
        ends(name, &[], first, 64, "--no-such-flag");
        for flag in ["--help", "--version"] {
            let output = run(name, &[], &[flag]);
            assert_eq!(output.status.code(), Some(0), "{name} {flag}");
            assert!(output.stdout.starts_with(name.as_bytes()) || flag == "--help", "{name} {flag}");
        }
    }
}

#[test]
fn images_exit_with_78_for_bad_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), "no-such-key = 1\n").unwrap();
    let mounted = volume(directory.path(), "/etc/nodecrew");
    for name in ["logd", "logcd", "queued"] {
        ends(name, &[&mounted], &["--config", "/etc/nodecrew/bad.toml"], 78, "no-such-key");
    }
    ends("logd", &[], &[], 1, "node_log");
    ends("queued", &[], &[], 71, "/data");
}
