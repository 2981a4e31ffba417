//! Every client calls a server that exists.

use crate::object::{Object, Typed};
use crate::pod::{Pod, judge, unless};
use crate::rendering::{Rendering, all, crew, examples};
use crate::run::{Call, of_every_run};
use std::collections::BTreeSet;

/// Lists `NAME:PORT` of the Services in some files.
fn services<'a>(renderings: impl Iterator<Item = &'a Rendering>) -> BTreeSet<String> {
    let objects = renderings.flat_map(|rendering| &rendering.objects);
    let services = objects.filter_map(|object| match &object.resource {
        Typed::Service(service) => Some((&object.name, service.spec.as_ref()?)),
        _ => None,
    });
    let ports = services.flat_map(|(name, spec)| {
        spec.ports.iter().flatten().map(move |port| format!("{name}:{}", port.port))
    });
    ports.collect()
}

/// Lists the ports that DaemonSets open at their node's address.
fn node_ports() -> BTreeSet<String> {
    let pods: Vec<_> = examples().flat_map(Rendering::pods).collect();
    let containers = pods.iter().flat_map(Pod::containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| port.host_port).map(|port| port.to_string()).collect()
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// True if a URL names a Service and its namespace, as a caller in another namespace must.
fn is_in(services: &BTreeSet<String>, url: &str, namespace: &str) -> bool {
    let Some((host, port)) = authority(url).split_once(':') else { return false };
    host.split_once('.')
        .is_some_and(|(name, place)| place == namespace && services.contains(&format!("{name}:{port}")))
}

#[test]
fn called_queues_and_nodes_exist() {
    let (services, node_ports) = (services(examples()), node_ports());
    assert!(services.contains("queue:8080") && node_ports.contains("6666"), "{services:?} {node_ports:?}");
    of_every_run(|_, _, run| {
        let wrong = match &run.calls {
            None => None,
            Some(Call::Url(url)) => unless(
                services.contains(authority(url)),
                format!("{url} is no Service of the examples: {services:?}"),
            ),
            Some(Call::Node { port }) => unless(
                node_ports.contains(&port.to_string()),
                format!("nothing has hostPort {port}: {node_ports:?}"),
            ),
        };
        let script = run.script.as_deref().unwrap_or_default();
        wrong
            .into_iter()
            .chain(netcats(script).filter_map(|(host, port)| {
                let there = if host == "$HOST_IP" {
                    node_ports.contains(port)
                } else {
                    services.contains(&format!("{host}:{port}"))
                };
                unless(there, format!("nc {host} {port}: there is no such Service or hostPort"))
            }))
            .collect()
    });
}

/// Lists the hosts and ports that a script gives to nc, whose only option with a value is -w.
fn netcats(script: &str) -> impl Iterator<Item = (&str, &str)> {
    script.split("nc ").skip(1).filter_map(|words| {
        let mut words = words.split([' ', ';', ')', '\n']).filter(|word| !word.is_empty());
        let mut host = words.next()?;
        if host == "-w" {
            words.next()?;
            host = words.next()?;
        }
        Some((host, words.next()?))
    })
}

#[test]
fn hosts_and_ports_of_scripts_are_found() {
    let found: Vec<_> = netcats("n=$(nc -w 1 queue 1080)\necho x | nc $HOST_IP 6666; sleep 1").collect();
    assert_eq!(found, [("queue", "1080"), ("$HOST_IP", "6666")]);
}

#[test]
fn referenced_objects_exist() {
    let (of_examples, of_crew) = (services(examples()), services(crew()));
    let mut seen = 0;
    let objects =
        all().iter().flat_map(|rendering| rendering.objects.iter().map(move |object| (rendering, object)));
    let wrong = objects.flat_map(|(rendering, object)| {
        let is_there = |kind: &str, name: &str| {
            let same = |other: &&Object| {
                other.kind == kind && other.name == name && other.namespace == object.namespace
            };
            rendering.objects.iter().find(same).is_some()
        };
        let place = format!("{}: {object}", rendering.path);
        match &object.resource {
            Typed::HorizontalPodAutoscaler(scaler) => {
                seen += 1;
                let target = &scaler.spec.scale_target_ref;
                unless(
                    is_there(&target.kind, &target.name),
                    format!("{place}: no {} {} in this file", target.kind, target.name),
                )
            }
            Typed::StatefulSet(set) => {
                seen += 1;
                let name = set.spec.service_name.as_deref().unwrap_or_default();
                unless(
                    is_there("Service", name),
                    format!("{place}: serviceName {name:?} is no Service of this file"),
                )
            }
            Typed::ScaledJob(scaled) => {
                seen += 1;
                let urls = scaled.spec.triggers.iter().map(|trigger| &trigger.metadata.url);
                let lost = urls.into_iter().find(|url| !is_in(&of_examples, url, "default"));
                lost.map(|url| format!("{place}: {url} is no Service of the examples with its namespace"))
            }
            _ => None,
        }
    });
    judge(wrong.collect::<Vec<_>>());
    assert!(seen >= 6, "only {seen} objects that name others");
    assert!(
        of_crew.is_superset(&["queue:8080".to_owned()].into()),
        "examples and crew call the queue by one name: {of_crew:?}"
    );
}
