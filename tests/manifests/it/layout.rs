//! The layout of k8s/: the other tests see every part of it.

use crate::pod::{judge, unless};
use crate::rendering::{names_in, root, text, yaml_below};

#[test]
fn rendered_files_are_those_of_overlays() {
    let mut wanted: Vec<String> =
        names_in("k8s/overlays").iter().map(|name| format!("{name}.yaml")).collect();
    wanted.push("crew.yaml".to_owned());
    wanted.sort();
    assert_eq!(names_in("k8s/rendered"), wanted, "run k8s/render, and remove what it does not make");
}

#[test]
fn every_component_is_rendered() {
    let kustomizations = yaml_below("k8s");
    let kustomizations = kustomizations.iter().filter(|path| path.ends_with("/kustomization.yaml"));
    let uses: Vec<String> =
        kustomizations.filter(|path| !path.starts_with("k8s/components/")).map(|path| text(path)).collect();
    let used = |name: &str| uses.iter().any(|text| text.contains(&format!("components/{name}")));
    let components = names_in("k8s/components");
    assert!(components.len() >= 7, "{components:?}");
    judge(components.iter().filter_map(|name| {
        unless(
            used(name),
            format!("k8s/components/{name} is used nowhere: add an overlay with it, and run k8s/render"),
        )
    }));
}

#[test]
fn rendered_files_name_their_source() {
    judge(yaml_below("k8s/rendered").iter().filter_map(|path| {
        let text = text(path);
        let first = text.lines().next().unwrap_or_default();
        let source = first.strip_prefix("# Made of ").and_then(|rest| rest.split_once(" by k8s/render"));
        let there = source.is_some_and(|(source, _)| root().join(source).join("kustomization.yaml").exists());
        unless(there, format!("{path}: begins with {first:?}, which names no kustomization: run k8s/render"))
    }));
}
