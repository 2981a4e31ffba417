//! The kubelet and Prometheus ask where the agents answer, and the grace period is longer than a drain.

use crate::object::Typed;
use crate::pod::{Pod, unless};
use crate::run::{Run, of_every_run};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kit::admin::{self, Admin};
use kit::lifecycle::readiness::{Liveness, Readiness};
use kit::lifecycle::stop::Stop;
use kit::telemetry::metrics::Metrics;
use std::time::Duration;
use tower::ServiceExt;

/// Returns the status with which the admin endpoint of every agent answers a GET.
fn answer(path: &str) -> StatusCode {
    let admin = Admin {
        readiness: Readiness::starting(),
        liveness: Liveness::default(),
        metrics: Metrics::new("probed"),
        stop: Stop::by_hand(Duration::ZERO),
    };
    let asked = admin::router(admin).oneshot(Request::get(path).body(Body::empty()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(asked).unwrap().status()
}

#[test]
fn the_endpoint_tells_ready_from_alive_and_does_not_know_every_path() {
    assert_eq!(answer("/ready"), StatusCode::SERVICE_UNAVAILABLE, "it has not started");
    assert_eq!(answer("/live"), StatusCode::OK);
    assert_eq!(answer("/metrics"), StatusCode::OK);
    assert_eq!(answer("/lively"), StatusCode::NOT_FOUND);
}

#[test]
fn each_container_that_serves_is_probed_where_it_answers() {
    of_every_run(|pod, container, run| {
        let probes = [
            ("startupProbe", &container.startup_probe, pod.rendering.is_crew(), "/ready"),
            ("readinessProbe", &container.readiness_probe, true, "/ready"),
            ("livenessProbe", &container.liveness_probe, true, "/live"),
        ];
        let serves = container.ports.is_some();
        let wrong = probes.into_iter().filter_map(|(name, probe, wanted, path)| match probe {
            Some(probe) => misled(pod, run, probe, path).map(|what| format!("{name}: {what}")),
            None => unless(!(serves && wanted), format!("write a {name} for {path}")),
        });
        wrong.collect()
    });
}

fn misled(pod: &Pod<'_>, run: &Run, probe: &Probe, wanted: &str) -> Option<String> {
    let Some(get) = &probe.http_get else {
        return Some("ask with httpGet: the agent says how it fares".to_owned());
    };
    let Some(admin) = run.admin else {
        return Some(format!("{} answers no probes as it is started here", run.program));
    };
    let path = get.path.as_deref().unwrap_or("/");
    let host = get.host.as_deref();
    let is_asked_at_loopback = pod.spec.host_network == Some(true) && host == Some("127.0.0.1");
    let reached = if admin.ip().is_loopback() { is_asked_at_loopback } else { host.is_none() };
    let port = pod.port(&get.port);
    let is_apart = !run.doors.iter().any(|door| door.port() == admin.port());
    let crowded =
        format!("{admin} is where clients connect: a crowd of them delays the probe; give it --admin");
    unless(is_apart, crowded)
        .or(unless(
            path == wanted && answer(path) != StatusCode::NOT_FOUND,
            format!("path {path}: write {wanted}"),
        ))
        .or(unless(port.is_some(), format!("the container has no port {:?}: write it under ports", get.port)))
        .or(unless(
            port == Some(admin.port().into()),
            format!("port {port:?}: {} answers at {admin}", run.program),
        ))
        .or(unless(
            reached,
            format!("{} answers at {admin} only: the kubelet does not reach it", run.program),
        ))
        .or(unless(get.scheme.as_deref().unwrap_or("HTTP") == "HTTP", "the endpoint speaks HTTP".to_owned()))
}

#[test]
fn each_declared_port_is_one_that_the_program_listens_on() {
    of_every_run(|pod, container, run| {
        let mut wrong: Vec<String> = Vec::new();
        for port in container.ports.iter().flatten() {
            let heard = run.listens().any(|address| i32::from(address.port()) == port.container_port);
            wrong.extend(unless(
                heard,
                format!("port {}: {} does not listen there", port.container_port, run.program),
            ));
            let same = port.host_port.is_none_or(|number| number == port.container_port);
            wrong.extend(unless(same, format!("hostPort {:?} is not the containerPort", port.host_port)));
            wrong.extend(unless(port.name.is_some(), format!("port {} has no name", port.container_port)));
        }
        if pod.rendering.is_crew() {
            let declared = |number: u16| {
                container.ports.iter().flatten().any(|port| port.container_port == i32::from(number))
            };
            let hidden = run.listens().filter(|address| !declared(address.port()));
            wrong.extend(
                hidden.map(|address| format!("{} listens at {address}: write it under ports", run.program)),
            );
        }
        wrong
    });
}

/// True if a PodMonitor of the same file selects the pod.
fn is_monitored(pod: &Pod<'_>) -> bool {
    pod.rendering.objects.iter().filter(|object| object.namespace == pod.object.namespace).any(|object| {
        let Typed::PodMonitor(monitor) = &object.resource else { return false };
        monitor.spec.selector.match_labels.iter().flatten().all(|label| pod.has_label(label))
    })
}

#[test]
fn pods_are_scraped_once_where_the_metrics_are() {
    of_every_run(|pod, _, run| {
        let said = |name: &str| {
            let annotations = pod.meta.annotations.as_ref()?;
            annotations.get(&format!("prometheus.io/{name}")).map(String::as_str)
        };
        if is_monitored(pod) {
            return unless(said("scrape").is_none(), "a PodMonitor and annotations: it is scraped twice")
                .into_iter()
                .collect();
        }
        let Some(admin) = run.admin.filter(|admin| !admin.ip().is_loopback()) else {
            return unless(said("scrape").is_none(), "prometheus.io/scrape, and nothing answers")
                .into_iter()
                .collect();
        };
        if !pod.rendering.is_crew() {
            return Vec::new();
        }
        let path = said("path").unwrap_or_default();
        let wrong = [
            unless(said("scrape") == Some("true"), "write the annotation prometheus.io/scrape: \"true\""),
            unless(
                said("port") == Some(&admin.port().to_string()),
                format!("prometheus.io/port is not that of {admin}"),
            ),
            unless(
                answer(path) == StatusCode::OK && path == "/metrics",
                "write prometheus.io/path: /metrics",
            ),
        ];
        wrong.into_iter().flatten().collect()
    });
}

#[test]
fn the_grace_period_is_longer_than_a_drain() {
    of_every_run(|pod, _, run| {
        let grace_s = pod.spec.termination_grace_period_seconds.unwrap_or(30);
        let drain_s = i64::try_from(run.drain_timeout.as_secs()).unwrap();
        let what =
            format!("{grace_s} s of grace, and a drain of {drain_s} s: raise terminationGracePeriodSeconds");
        unless(grace_s > drain_s, what).into_iter().collect()
    });
}

#[test]
fn the_probes_of_a_container_ask_for_a_named_port() {
    let number = |probe: &Option<Probe>| {
        let get = probe.as_ref()?.http_get.as_ref()?;
        matches!(get.port, IntOrString::Int(_)).then_some(())
    };
    of_every_run(|_, container: &Container, _| {
        let probes = [&container.startup_probe, &container.readiness_probe, &container.liveness_probe];
        probes
            .into_iter()
            .filter_map(number)
            .map(|()| "a probe asks for a port by its number: name it".to_owned())
            .collect()
    });
}
