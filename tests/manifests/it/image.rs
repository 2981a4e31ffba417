//! The content of the images, as images/Containerfile and images/stage define it.

use crate::confinement::binds_a_low_port;
use crate::pod::{of_every_container, unless};
use crate::rendering::{names_in, root, text};
use k8s_openapi::api::core::v1::Container;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Version of the images and of all packages.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Registry and path before the name of each image: the one setting that all of this repository follows.
pub static PREFIX: LazyLock<String> = LazyLock::new(|| text("images/prefix").trim().to_owned());

/// The only third-party image, for the examples that need a shell.
pub const BUSYBOX: &str = "busybox:1.36";

#[derive(Debug, Default)]
pub struct Image {
    pub user: i64,
    pub directory: PathBuf,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// Programs in /bin.
    pub programs: Vec<String>,
}

static IMAGES: LazyLock<BTreeMap<String, Image>> = LazyLock::new(|| {
    let containerfile = text("images/Containerfile");
    let stages = containerfile.split("\nFROM base AS ").skip(1);
    let images: BTreeMap<String, Image> = stages.map(read).collect();
    assert!(images.len() >= 6, "images/Containerfile is not what this test takes it for: {images:?}");
    images
});

fn read(stage: &str) -> (String, Image) {
    let (name, rest) = stage.split_once('\n').unwrap();
    let mut image = Image { directory: "/".into(), programs: programs(name), ..Image::default() };
    for line in rest.lines() {
        let Some((instruction, words)) = line.split_once(' ') else { continue };
        match instruction {
            "USER" => image.user = words.split(':').next().unwrap().parse().unwrap(),
            "WORKDIR" => image.directory = words.into(),
            "ENTRYPOINT" => image.entrypoint = serde_json::from_str(words).unwrap(),
            "CMD" => image.command = serde_json::from_str(words).unwrap(),
            _ => {}
        }
    }
    (name.to_owned(), image)
}

/// Lists the image's own binary, the links to it, and the toolbox.
fn programs(image: &str) -> Vec<String> {
    let stage = text("images/stage");
    let applets = stage.lines().find_map(|line| line.strip_prefix("for applet in ")).unwrap();
    let tools = applets.split(';').next().unwrap().split_whitespace();
    let to_own = format!("ln -s {image} \"$out/{image}/bin/");
    let links = stage.lines().filter_map(|line| line.strip_prefix(&to_own)?.strip_suffix('"'));
    tools.chain(links).chain([image]).map(str::to_owned).collect()
}

/// Returns the image of a container, if it is one of ours.
pub fn of(container: &Container) -> Option<&'static Image> {
    let name = container.image.as_deref()?.strip_prefix(&*PREFIX)?.strip_prefix('/')?;
    IMAGES.get(name.split(':').next()?)
}

#[test]
fn images_are_built_here_or_busybox() {
    of_every_container(|_, container| {
        let image = container.image.as_deref().unwrap_or("none");
        let prefix = &*PREFIX;
        let ours = IMAGES.keys().any(|name| image == format!("{prefix}/{name}:{VERSION}"));
        let wanted = format!("write {prefix}/NAME:{VERSION} with a name of images/names, or {BUSYBOX}");
        unless(ours || image == BUSYBOX, format!("image {image}: {wanted}")).into_iter().collect()
    });
}

/// Finds names of our images in `text` that do not begin with the prefix, and the name that they once had.
fn other_spellings(text: &str) -> Vec<String> {
    let former = concat!("localhost/", "nodecrew");
    let tags = [VERSION, "latest", "$VERSION"];
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || "\"'`()[],|".contains(c)) {
        let is_former = word.strip_prefix(former).is_some_and(|rest| !rest.starts_with('-'));
        let other = tags.iter().any(|tag| {
            let Some((path, name)) =
                word.strip_suffix(tag).and_then(|word| word.strip_suffix(':')?.rsplit_once('/'))
            else {
                return false;
            };
            // The chart is beside the images.
            let is_ours = path.strip_prefix(&**PREFIX).is_some_and(|rest| ["", "/charts"].contains(&rest));
            IMAGES.contains_key(name) && !is_ours && !path.starts_with(['$', '{'])
        });
        if is_former || other {
            found.push(word.to_owned());
        }
    }
    found
}

/// Lists the files below a directory of the tree, without what programs make or keep there.
fn files_below(directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    for name in names_in(directory) {
        let path = format!("{directory}/{name}");
        let is_made = [".git", "target", "nodecrew-data"].contains(&name.as_str());
        // A test that runs at the same time may have removed a file of its own.
        match std::fs::symlink_metadata(root().join(&path)) {
            Ok(file) if file.is_dir() && !is_made => files.extend(files_below(&path)),
            Ok(file) if file.is_file() => files.push(path),
            _ => {}
        }
    }
    files
}

#[test]
fn every_file_names_images_by_the_prefix() {
    let files = files_below(".");
    assert!(files.len() > 500, "these are hardly all files: {files:?}");
    let mut wrong = Vec::new();
    for file in files {
        // Others than text name no image.
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        wrong.extend(other_spellings(&text).iter().map(|word| format!("{file}: {word}")));
    }
    assert!(wrong.is_empty(), "images/prefix says {}, but there is\n{}", *PREFIX, wrong.join("\n"));
}

#[test]
fn images_run_as_their_own_user() {
    of_every_container(|pod, container| {
        let Some(image) = of(container) else { return Vec::new() };
        let user = pod.spec.security_context.as_ref().and_then(|context| context.run_as_user);
        // Only root can append to root's files on the node, or listen on a low port.
        let is_root = pod.mounts_the_node() || binds_a_low_port(pod);
        let wanted = if is_root { 0 } else { image.user };
        let what = format!("runAsUser is {user:?}: write {wanted}, as images/Containerfile has it");
        unless(user == Some(wanted), what).into_iter().collect()
    });
}
