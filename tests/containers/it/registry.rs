//! A real registry: pushed images are small, come back by their digest, and run.

use crate::container::{image, podman, podman_says};
use crate::image::IMAGES;
use serde_json::Value;
use std::process::{Command, Stdio};
use trial::Registry;

const BYTES_MAX: u64 = 6_800_000;
const NODECREW_BYTES_MAX: u64 = 12_000_000;
/// kvd holds a database.
const KVD_BYTES_MAX: u64 = 7_000_000;

/// Asks the registry for a manifest by tag or digest.
fn manifest_of(registry: &Registry, name: &str, reference: &str) -> Value {
    let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
    let path = format!("/v2/{name}/manifests/{reference}");
    let mut http = trial::Http::connect(registry.address().parse().unwrap()).unwrap();
    http.call("GET", &path, &format!("Accept: {accept}\r\n"), b"").unwrap().expect(200).json()
}

/// Runs `images/push` and returns its lines, NAME@DIGEST.
fn push(words: &[&str], prefix: Option<&str>) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../images/push");
    let mut command = Command::new(script);
    command.args(words).stdin(Stdio::null());
    if let Some(prefix) = prefix {
        command.env("IMAGE_PREFIX", prefix);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn compressed_bytes(manifest: &Value) -> u64 {
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum()
}

#[test]
fn pulled_images_are_small_and_run() {
    let registry = Registry::start();
    let pushed = push(&[registry.address(), "v1", "stable"], None);
    assert_eq!(pushed.len(), IMAGES.len());
    for (name, line) in IMAGES.iter().zip(&pushed) {
        let (repository, digest) = line.split_once('@').unwrap();
        assert_eq!(repository, format!("{}/{name}", registry.address()));
        let manifest = manifest_of(&registry, name, digest);
        assert_eq!(manifest_of(&registry, name, "v1"), manifest);
        assert_eq!(manifest_of(&registry, name, "stable"), manifest);
        let bytes = compressed_bytes(&manifest);
        println!("{name}: {bytes} bytes compressed");
        let bytes_max = match *name {
            "nodecrew" => NODECREW_BYTES_MAX,
            "kvd" => KVD_BYTES_MAX,
            _ => BYTES_MAX,
        };
        assert!(bytes <= bytes_max, "{name}: {bytes} bytes compressed, more than {bytes_max}");

        podman_says(&["pull", "--quiet", "--tls-verify=false", line]);
        let again = podman_says(&["run", "--rm", "--network=none", "--pull=never", line, "--version"]);
        let first =
            podman_says(&["run", "--rm", "--network=none", "--pull=never", &image(name), "--version"]);
        assert_eq!(again, first);
        podman(&["rmi", line]);
    }
}

#[test]
fn images_of_two_machines_become_one_index() {
    let registry = Registry::start();
    let prefix = format!("localhost/index-{}", std::process::id());
    let context = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for arch in ["amd64", "arm64"] {
        for name in IMAGES {
            let file = context.path().join("Containerfile");
            std::fs::write(&file, format!("FROM scratch\nLABEL name={name} arch={arch}\n")).unwrap();
            let (tag, platform) = (format!("{prefix}/{name}:{version}-{arch}"), format!("linux/{arch}"));
            let directory = context.path().to_str().unwrap();
            podman_says(&["build", "-q", "--layers=false", "--platform", &platform, "-t", &tag, directory]);
        }
    }
    let pushed = push(&[registry.address()], Some(&prefix));
    for (name, line) in IMAGES.iter().zip(&pushed) {
        let index = manifest_of(&registry, name, line.split_once('@').unwrap().1);
        assert_eq!(manifest_of(&registry, name, version), index);
        let mut machines: Vec<&str> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|manifest| manifest["platform"]["architecture"].as_str().unwrap())
            .collect();
        machines.sort_unstable();
        assert_eq!(machines, ["amd64", "arm64"], "{name}");
        for arch in machines {
            podman(&["rmi", &format!("{prefix}/{name}:{version}-{arch}")]);
        }
        podman(&["manifest", "rm", &format!("{prefix}/{name}:{version}-index")]);
    }
}
