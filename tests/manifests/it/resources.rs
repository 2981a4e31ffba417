//! The resources that a container requests of its node, and its limits.

use crate::pod::{of_every_container, unless};
use crate::run::of_every_run;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Memory that a daemon needs in addition to what its settings let clients fill.
const OWN_BYTES: u64 = 8 << 20;

#[test]
fn containers_limit_memory_only() {
    of_every_container(|_, container| {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) =
            (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default());
        let wrong = [
            unless(requests.contains_key("cpu"), "write resources.requests.cpu"),
            unless(requests.contains_key("memory"), "write resources.requests.memory"),
            unless(limits.contains_key("memory"), "write resources.limits.memory"),
            unless(
                !limits.contains_key("cpu"),
                "remove resources.limits.cpu: it holds up those who wait for the agent",
            ),
            unless(
                requests.get("memory").map(bytes) <= limits.get("memory").map(bytes),
                "requests more memory than its limit",
            ),
        ];
        wrong.into_iter().flatten().collect()
    });
}

#[test]
fn bounds_in_settings_fit_the_memory_limit() {
    of_every_run(|_, container, run| {
        let limit = limit_bytes(container);
        let what = format!(
            "its settings let others fill {} MiB of the {} MiB that it may have: lower them or raise resources.limits.memory",
            run.memory_bytes >> 20,
            limit >> 20
        );
        unless(run.memory_bytes == 0 || run.memory_bytes + OWN_BYTES <= limit, what).into_iter().collect()
    });
}

fn limit_bytes(container: &Container) -> u64 {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    limits.and_then(|limits| limits.get("memory")).map_or(0, bytes)
}

/// Parses quantities such as `64Mi`, the form that all our files use.
fn bytes(quantity: &Quantity) -> u64 {
    let text = quantity.0.as_str();
    let mebibytes = text.strip_suffix("Mi").and_then(|number| number.parse::<u64>().ok());
    mebibytes.unwrap_or_else(|| panic!("memory {text}: write it in Mi, as everywhere")) << 20
}
