//! The manifests of k8s/, adapted to this cluster.

use crate::kubectl::{has_cron_job_v1, serves};
use std::path::Path;

/// Reads a file of k8s/examples.
#[track_caller]
pub fn example(name: &str) -> String {
    read(&format!("examples/{name}"))
}

/// Reads a rendered overlay.
#[track_caller]
pub fn rendered(name: &str) -> String {
    read(&format!("rendered/{name}.yaml"))
}

#[track_caller]
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    of_this_registry(text)
}

/// Replaces the image names of the manifests if the images are in another registry.
pub fn of_this_registry(text: String) -> String {
    match std::env::var("IMAGE_PREFIX") {
        Ok(prefix) => text.replace(include_str!("../../../images/prefix").trim(), &prefix),
        Err(_) => text,
    }
}

/// A change that a test makes to a manifest; the text that it replaces must be there.
pub trait Changed {
    fn with(self, old: &str, new: &str) -> String;
}

impl Changed for String {
    #[track_caller]
    fn with(self, old: &str, new: &str) -> String {
        assert!(self.contains(old), "no {old:?} in\n{self}");
        self.replace(old, new)
    }
}

/// Lets agents keep lines and archives on a disk that is nearly full. Fails if their settings have no such
/// bound, or another percentage than the one that is lowered here.
#[track_caller]
fn with_little_free(text: &str) -> String {
    const SHIPPED: &str = "min-free = \"16%\"";
    const LOWERED: &str = "min-free = \"1%\"";
    let text = text.replace(SHIPPED, LOWERED);
    let bounds: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.starts_with("min-free = ")).collect();
    let settings = ["  logd.toml: |", "  logcd.toml: |"].iter().filter(|file| text.contains(*file)).count();
    assert!(bounds.len() >= settings, "{settings} files of settings, but only {bounds:?}");
    let percent = |line: &&&str| line.contains("%\"");
    assert_eq!(bounds.iter().find(|line| percent(line) && !line.starts_with(LOWERED)), None, "not {SHIPPED}");
    text
}

/// Adapts manifests to this cluster. The nodes share this machine's disk, which may be nearly full without
/// harm to the promises. Old clusters have two kinds only in other versions, and a cluster without an
/// operator has none of that operator's kinds.
pub fn for_this_cluster(text: &str) -> String {
    let is = |document: &str, kind: &str| document.lines().any(|line| line == format!("kind: {kind}"));
    let of_an_operator = |document: &str| {
        let kinds = ["PodMonitor", "PrometheusRule"];
        kinds.iter().any(|kind| is(document, kind)) && !serves("monitoring.coreos.com/v1")
    };
    let adapted = |document: &str| {
        if is(document, "CronJob") && !has_cron_job_v1() {
            document.replacen("apiVersion: batch/v1", "apiVersion: batch/v1beta1", 1)
        } else if is(document, "PodDisruptionBudget") && !serves("policy/v1") {
            document.replacen("apiVersion: policy/v1", "apiVersion: policy/v1beta1", 1)
        } else {
            document.to_owned()
        }
    };
    let text = with_little_free(text);
    let documents = text.split("\n---\n").filter(|document| !of_an_operator(document));
    documents.map(adapted).collect::<Vec<_>>().join("\n---\n")
}

/// Returns the words of `kubectl apply -f -` with the flags that this cluster needs. A cluster that does not
/// know all fields drops the unknown ones.
pub fn apply_words() -> Vec<&'static str> {
    let mut words = vec!["apply", "-f", "-"];
    if !serves("policy/v1") {
        words.push("--validate=false");
    }
    words
}
