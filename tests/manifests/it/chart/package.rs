//! The package: the same bytes each time, complete without this tree, and as good after a registry.

use crate::chart::engine::{helm, helm_says};
use crate::image::VERSION;
use crate::rendering::{root, text};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[test]
fn chart_has_the_version_of_everything() {
    let chart: Value = serde_saphyr::from_str(&text("k8s/chart/Chart.yaml")).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&VERSION.into(), &VERSION.into()));
    let script = Command::new(root().join("images/version")).output().unwrap();
    assert_eq!(String::from_utf8(script.stdout).unwrap().trim_end(), VERSION);
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn helm_has_no_complaint() {
    assert_eq!(helm_says(&["lint"]), "Chart.yaml: icon is recommended");
}

/// Makes the package in `directory` with the clock of `epoch`, and returns its path.
#[track_caller]
fn package(directory: &Path, epoch: &str) -> String {
    let mut command = helm(&["package", directory.to_str().unwrap()]);
    let output = command.env("SOURCE_DATE_EPOCH", epoch).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn package_is_reproducible() {
    let made = tempfile::tempdir().unwrap();
    let bytes = |name: &str, epoch: &str| std::fs::read(package(&made.path().join(name), epoch)).unwrap();
    assert!(bytes("one", "1700000000") == bytes("two", "1700000000"), "two packages of one commit differ");
    assert!(bytes("one", "1700000000") != bytes("three", "1700000001"), "the time is not in it");
}

#[test]
#[ignore = "needs Helm's engine, docker-registry: just test-programs"]
fn package_comes_back_from_a_registry() {
    let (registry, here) = (trial::Registry::start(), tempfile::tempdir().unwrap());
    let made = package(here.path(), "1700000000");
    assert!(made.ends_with(&format!("/nodecrew-{VERSION}.tgz")), "{made}");
    let remote = format!("oci://{}/charts", registry.address());
    let pushed = helm_says(&["push", "--plain-http", &made, &remote]);
    let (name, digest) = pushed.split_once('@').unwrap();
    assert_eq!(name, format!("{}/charts/nodecrew", registry.address()));
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");

    let (chart, pulled) = (format!("{remote}/nodecrew"), here.path().join("pulled"));
    helm_says(&["pull", "--plain-http", "--version", VERSION, &chart, pulled.to_str().unwrap()]);
    let pulled = pulled.join(format!("nodecrew-{VERSION}.tgz"));
    assert!(std::fs::read(&pulled).unwrap() == std::fs::read(&made).unwrap(), "other bytes came back");

    let render = |chart: Option<&Path>| {
        let request = serde_json::json!({"chart": chart});
        super::engine::accepted(&[request]).remove(0)
    };
    assert_eq!(render(Some(&pulled)), render(None), "the package is not the directory");
}
