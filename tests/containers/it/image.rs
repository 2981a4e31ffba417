//! The content of an image: labels, user, programs, and nothing else.

use crate::container::{image, podman, podman_says};
use serde_json::Value;
use std::process::Command;

pub const IMAGES: [&str; 9] =
    ["logd", "logsend", "logcd", "queued", "queuectl", "kvd", "kvctl", "rng", "nodecrew"];

fn configuration(name: &str) -> Value {
    let text = podman_says(&["image", "inspect", &image(name)]);
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

#[test]
fn tested_images_are_all_images() {
    let names = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../images/names")).output().unwrap();
    assert_eq!(String::from_utf8(names.stdout).unwrap().lines().collect::<Vec<_>>(), IMAGES);
}

#[test]
fn images_are_labelled_and_run_by_user_number() {
    for name in IMAGES {
        let image = configuration(name);
        let label = |label: &str| {
            let value = &image["Config"]["Labels"][format!("org.opencontainers.image.{label}")];
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| panic!("{name}: no label {label}"))
                .to_owned()
        };
        for wanted in ["description", "vendor"] {
            label(wanted);
        }
        let labels = image["Config"]["Labels"].as_object().unwrap();
        let unknown =
            labels.iter().find(|(_, value)| value.as_str().is_some_and(|text| text.contains("unknown")));
        assert!(unknown.is_none(), "{name}: {unknown:?}");
        // These two exist where the source has an address, and then both must.
        let address = ["source", "documentation"]
            .map(|label| labels.contains_key(&format!("org.opencontainers.image.{label}")));
        assert_eq!(address[0], address[1], "{name}: {labels:?}");
        assert_eq!((label("title").as_str(), label("licenses").as_str()), (name, "Apache-2.0"));
        assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(
            label("created"),
            image["Created"].as_str().unwrap(),
            "one time in the label and the image"
        );
        let config = &image["Config"];
        assert_eq!(config["Entrypoint"].as_array().unwrap().as_slice(), [format!("/bin/{name}")]);
        assert_eq!(
            (config["StopSignal"].as_str(), config["Env"][0].as_str()),
            (Some("SIGTERM"), Some("PATH=/bin"))
        );
        let root = ["logd", "logcd"].contains(&name);
        assert_eq!(config["User"].as_str().unwrap(), if root { "0:0" } else { "65532:65532" }, "{name}");
        let says = crate::container::run(name, &[], &["--version"]);
        let says = String::from_utf8(says.stdout).unwrap();
        assert!(says.contains(&label("revision")), "{says} is not of the revision {}", label("revision"));
    }
}

struct Content {
    path: String,
    mode: String,
    owner: String,
    bytes: u64,
}

/// Lists every path in the image, as podman exports it.
fn contents(name: &str) -> Vec<Content> {
    let id = podman_says(&["create", "--pull=never", &image(name)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    podman_says(&["export", "--output", file.path().to_str().unwrap(), &id]);
    podman(&["rm", &id]);
    let listing = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(file.path()).output().unwrap();
    let text = String::from_utf8(listing.stdout).unwrap();
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Content {
            path: words[5].trim_end_matches('/').to_owned(),
            mode: words[0].to_owned(),
            owner: words[1].to_owned(),
            bytes: words[2].parse().unwrap(),
        }
    });
    lines.collect()
}

#[test]
fn images_hold_only_read_only_programs() {
    // Paths over which podman mounts when it runs a container.
    let of_podman = [
        "dev",
        "proc",
        "sys",
        "run",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
        "run/.containerenv",
        "run/secrets",
    ];
    for name in IMAGES {
        for Content { path, mode, owner, .. } in contents(name) {
            if of_podman.contains(&path.as_str()) {
                continue;
            }
            let known = path.starts_with("bin/")
                || ["bin", "data", "var", "var/log", "etc", "etc/passwd", "etc/group", "etc/nsswitch.conf"]
                    .contains(&path.as_str());
            assert!(known, "{name} holds {path}");
            assert!(!mode.contains('s') && !mode.contains('S'), "{name}: {path} is {mode}");
            assert!(
                mode.starts_with('l') || (mode.as_bytes()[5], mode.as_bytes()[8]) == (b'-', b'-'),
                "{name}: {path} is {mode}"
            );
            assert_eq!(owner, if path == "data" { "65532/65532" } else { "0/0" }, "{name}: {path}");
        }
    }
}

/// Checks the uncompressed size; the image `nodecrew` has all agents in one binary.
#[test]
fn agent_binaries_are_small() {
    for name in IMAGES {
        let bytes_max = if name == "nodecrew" { 19_000_000 } else { 9_000_000 };
        for Content { path, bytes, .. } in contents(name) {
            assert!(bytes <= bytes_max, "{name}: {path} has {bytes} bytes");
            if path == format!("bin/{name}") {
                println!("{path}: {bytes} bytes");
            }
        }
    }
}
