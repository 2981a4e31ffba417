//! The SBOM of an image names every crate with its checksum, and is the same in a second build.

use crate::image::IMAGES;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn sboms(directory: &Path) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../images/sbom");
    let output = Command::new(script).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    IMAGES.map(|name| std::fs::read_to_string(directory.join(format!("{name}.cdx.json"))).unwrap()).to_vec()
}

#[test]
fn sboms_list_all_crates_with_checksums() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let texts = sboms(first.path());
    assert_eq!(texts, sboms(second.path()));
    for (name, text) in IMAGES.iter().zip(&texts) {
        let document: Value = serde_json::from_str(text).unwrap();
        assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
        assert_eq!(document["metadata"]["component"]["name"], *name);
        let components = document["components"].as_array().unwrap();
        let names: Vec<&str> = components.iter().map(|part| part["name"].as_str().unwrap()).collect();
        for part in [if *name == "nodecrew" { "queued" } else { name }, "toolbox", "tokio", "uu_cat", "kit"] {
            assert!(names.contains(&part), "{name}: no {part}");
        }
        assert!(
            !names.contains(&"serde_derive") && !names.contains(&"tempfile"),
            "{name}: not in the binary"
        );
        let own: Vec<&str> = components
            .iter()
            .filter(|part| part["hashes"].is_null())
            .map(|part| part["name"].as_str().unwrap())
            .collect();
        for part in own {
            let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents").join(part);
            assert!(here.is_dir(), "{name}: {part} has no checksum and is not of this repository");
        }
    }
}
