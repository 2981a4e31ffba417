//! The files: each is complete by itself, as `kubectl apply -f` needs it.

use crate::object::{Object, Typed};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// One file.
#[derive(Debug)]
pub struct Rendering {
    /// The path from the root of the tree.
    pub path: String,
    pub objects: Vec<Object>,
}

static ALL: LazyLock<Vec<Rendering>> = LazyLock::new(|| {
    let mut paths = yaml_below("k8s/rendered");
    assert!(paths.len() >= 4, "only {paths:?} below k8s/rendered: run k8s/render");
    paths.extend(yaml_below("k8s/examples"));
    let read = |path: &String| Rendering::parse(path, &text(path));
    paths.iter().map(read).collect::<Result<_, _>>().unwrap_or_else(|what| panic!("{what}"))
});

/// Returns every rendered file and every example.
pub fn all() -> &'static [Rendering] {
    &ALL
}

pub fn crew() -> impl Iterator<Item = &'static Rendering> {
    all().iter().filter(|rendering| rendering.is_crew())
}

pub fn examples() -> impl Iterator<Item = &'static Rendering> {
    all().iter().filter(|rendering| !rendering.is_crew())
}

impl Rendering {
    pub fn parse(path: &str, text: &str) -> Result<Rendering, String> {
        let documents = serde_saphyr::from_multiple(text).map_err(|e| format!("{path}: {e}"))?;
        let objects = documents.into_iter().map(Object::parse).collect::<Result<_, _>>();
        Ok(Rendering { path: path.to_owned(), objects: objects.map_err(|what| format!("{path}: {what}"))? })
    }

    /// True if the file is made of base, components and overlays; the others are examples.
    pub fn is_crew(&self) -> bool {
        self.path.starts_with("k8s/rendered/")
    }

    /// Returns the files that are applied together: the examples of a directory, or one rendered file.
    pub fn applied_with(&self) -> impl Iterator<Item = &'static Rendering> {
        let directory = |path: &str| path.rsplit_once('/').map(|(directory, _)| directory.to_owned());
        let (path, of_examples) = (self.path.clone(), (!self.is_crew()).then(|| directory(&self.path)));
        let together = move |other: &&Rendering| match &of_examples {
            Some(examples) => directory(&other.path) == *examples,
            None => other.path == path,
        };
        all().iter().filter(together)
    }

    fn objects_applied_with(&self) -> impl Iterator<Item = &'static Object> {
        self.applied_with().flat_map(|rendering| &rendering.objects)
    }

    /// Returns the keys of a Secret that is applied together with this file.
    pub fn secret(&self, namespace: Option<&str>, name: &str) -> Option<Vec<&'static str>> {
        self.objects_applied_with().find_map(|object| match &object.resource {
            Typed::Secret(secret) if object.name == name && object.namespace.as_deref() == namespace => {
                let encoded = secret.data.iter().flatten().map(|(key, _)| key.as_str());
                Some(
                    encoded.chain(secret.string_data.iter().flatten().map(|(key, _)| key.as_str())).collect(),
                )
            }
            _ => None,
        })
    }

    /// Returns the content of a ConfigMap that is applied together with this file.
    pub fn config_map(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Vec<(&'static str, &'static str)>> {
        self.objects_applied_with().find_map(|object| match &object.resource {
            Typed::ConfigMap(map) if object.name == name && object.namespace.as_deref() == namespace => {
                let data = map.data.iter().flatten();
                Some(data.map(|(key, text)| (key.as_str(), text.as_str())).collect())
            }
            _ => None,
        })
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads a file of the tree.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Lists the paths of all YAML files below a directory of the tree, in order.
pub fn yaml_below(directory: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for name in names_in(directory) {
        let path = format!("{directory}/{name}");
        if root().join(&path).is_dir() {
            paths.extend(yaml_below(&path));
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            paths.push(path);
        }
    }
    paths
}

/// Lists the names in a directory of the tree.
pub fn names_in(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap_or_else(|e| panic!("{directory}: {e}"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
