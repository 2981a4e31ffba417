//! The programs accept the arguments, environment names and settings files of the manifests.

use crate::object::Typed;
use crate::pod::{judge, of_every_container, unless};
use crate::rendering::{all, text};
use crate::run;

#[test]
fn each_program_takes_its_arguments_its_environment_and_its_settings_file() {
    of_every_container(|pod, container| run::of(pod, container).err().into_iter().collect());
}

#[test]
fn each_environment_variable_is_one_that_the_program_looks_at() {
    run::of_every_run(|_, container, run| {
        let unknown =
            container.env.iter().flatten().filter(|variable| !run.variables.contains(&variable.name));
        unknown
            .map(|v| format!("{} does not look at the variable {}: remove it", run.program, v.name))
            .collect()
    });
}

#[test]
fn each_settings_file_says_what_it_is_and_is_used() {
    let files =
        all().iter().flat_map(|rendering| rendering.objects.iter().map(move |object| (rendering, object)));
    let mut seen = 0;
    judge(files.filter_map(|(rendering, object)| {
        let Typed::ConfigMap(map) = &object.resource else { return None };
        let settings = map.data.iter().flatten().find(|(name, _)| name.ends_with(".toml"))?;
        seen += 1;
        let asked = format!("/{}", settings.0);
        let used = rendering.pods().iter().any(|pod| {
            let words = pod.containers().flat_map(|container| container.args.iter().flatten());
            words.into_iter().any(|word| word.ends_with(&asked))
        });
        let place = format!("{}: {object}", rendering.path);
        unless(used, format!("{place}: nobody is given --config …{asked}")).or(unless(
            settings.1.starts_with('#'),
            format!("{place}: {} begins with no word on what it is", settings.0),
        ))
    }));
    assert!(seen >= 9, "only {seen} settings files");
}

/// Variables are inherited by every process and end up in crash reports.
#[test]
fn secrets_are_variables_only_in_the_lesson_about_it() {
    of_every_container(|pod, container| {
        let of_secret = container.env.iter().flatten().any(|variable| {
            variable.value_from.as_ref().is_some_and(|source| source.secret_key_ref.is_some())
        }) || container.env_from.iter().flatten().any(|source| source.secret_ref.is_some());
        let is_lesson = pod.rendering.path.starts_with("k8s/examples/config/secrets/");
        unless(!of_secret || is_lesson, "a Secret as a variable: mount it as a file").into_iter().collect()
    });
}

/// The kubelet's default hard threshold for images, which is above that for nodes.
const EVICTION_PERCENT: u8 = 15;

#[test]
fn free_space_floor_is_above_the_kubelets_eviction() {
    let files = ["k8s/base/logd/logd.toml", "k8s/base/logcd/logcd.toml"];
    judge(files.iter().filter_map(|path| {
        let text = text(path);
        let floor = text.lines().find_map(|line| line.strip_prefix("min-free = \"")?.split_once("%\""));
        let percent: Option<u8> = floor.and_then(|(number, _)| number.parse().ok());
        let enough = percent.is_some_and(|percent| percent > EVICTION_PERCENT);
        unless(enough, format!("{path}: write min-free above {EVICTION_PERCENT}%: {percent:?}"))
    }));
}

#[test]
fn a_rendered_settings_file_is_the_one_beside_the_kustomization() {
    for (file, rendering) in [
        ("k8s/base/logd/logd.toml", "k8s/rendered/crew.yaml"),
        ("k8s/base/logcd/logcd.toml", "k8s/rendered/crew.yaml"),
        ("k8s/base/queued/queued.toml", "k8s/rendered/crew.yaml"),
        ("k8s/overlays/dev/logcd.toml", "k8s/rendered/dev.yaml"),
        ("k8s/overlays/dev/logd.toml", "k8s/rendered/dev.yaml"),
    ] {
        let rendered = all().iter().find(|r| r.path == rendering).unwrap();
        let maps = rendered.objects.iter().filter_map(|object| match &object.resource {
            Typed::ConfigMap(map) => map.data.as_ref(),
            _ => None,
        });
        let written = text(file);
        let same = maps.into_iter().any(|data| data.values().any(|text| *text == written));
        assert!(same, "{rendering} does not have {file} as it is: run k8s/render");
    }
}
