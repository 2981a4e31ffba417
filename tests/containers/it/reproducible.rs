//! Reproducible builds: the same input gives the same digest, at any time and under any umask.

use crate::container::{image, podman_says};
use crate::image::IMAGES;
use std::process::{Command, Stdio};

#[test]
fn builds_are_reproducible() {
    let prefix = format!("localhost/again-{}", std::process::id());
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let profile = std::env::var("IMAGE_PROFILE").expect("IMAGE_PROFILE is set by `just test-containers`");
    let label = |name: &str| {
        let format = format!("{{{{index .Config.Labels \"org.opencontainers.image.{name}\"}}}}");
        podman_says(&["image", "inspect", "--format", &format, &image("logd")])
    };
    let output = Command::new("sh")
        .args(["-c", "umask 077 && SOURCE_DATE_EPOCH=$(date -d \"$1\" +%s) exec images/build \"$2\"", "sh"])
        .arg(label("created"))
        .arg(&profile)
        .current_dir(repository)
        .env("IMAGE_PREFIX", &prefix)
        .env("NODECREW_REVISION", label("revision"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in IMAGES {
        let digest =
            |image: &str| podman_says(&["image", "inspect", "--format", "{{.Digest}} {{.Id}}", image]);
        let again = format!("{prefix}/{name}:latest");
        assert_eq!(digest(&again), digest(&image(name)), "{name}");
        // Removed by name: it is the same image, and `untag` would remove its other names as well.
        let version = env!("CARGO_PKG_VERSION");
        for tag in ["latest", version, &format!("{version}-{}", architecture(&again))] {
            podman_says(&["rmi", &format!("{prefix}/{name}:{tag}")]);
        }
    }
}

fn architecture(image: &str) -> String {
    podman_says(&["image", "inspect", "--format", "{{.Architecture}}", image])
}
