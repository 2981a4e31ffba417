//! The pods that the files create, of any kind.

use crate::object::{Object, Typed};
use crate::rendering::{Rendering, all};
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::fmt;

pub type Labels = BTreeMap<String, String>;

/// A pod template or a single pod.
pub struct Pod<'a> {
    pub rendering: &'a Rendering,
    pub object: &'a Object,
    pub meta: &'a ObjectMeta,
    pub spec: &'a PodSpec,
    pub job: Option<&'a JobSpec>,
    /// The selector by which the creator finds its pods; Jobs generate their own.
    pub selector: Option<&'a LabelSelector>,
}

impl fmt::Display for Pod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rendering.path, self.object)
    }
}

impl Pod<'_> {
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.init_containers.iter().flatten().chain(&self.spec.containers)
    }

    pub fn has_label(&self, (key, value): (&String, &String)) -> bool {
        self.meta.labels.iter().flatten().any(|(k, v)| k == key && v == value)
    }

    /// Returns the number of a port that is given by name or number, if a container declares it.
    pub fn port(&self, wanted: &IntOrString) -> Option<i32> {
        let ports = self.containers().flat_map(|container| container.ports.iter().flatten());
        let mut ports = ports.filter(|port| match wanted {
            IntOrString::Int(number) => port.container_port == *number,
            IntOrString::String(name) => port.name.as_ref() == Some(name),
        });
        ports.next().map(|port| port.container_port)
    }

    pub fn mounts_the_node(&self) -> bool {
        self.spec.volumes.iter().flatten().any(|volume| volume.host_path.is_some())
    }
}

impl Rendering {
    pub fn pods(&self) -> Vec<Pod<'_>> {
        self.objects.iter().filter_map(|object| self.pod(object)).collect()
    }

    fn pod<'a>(&'a self, object: &'a Object) -> Option<Pod<'a>> {
        let (template, selector, job) = match &object.resource {
            Typed::DaemonSet(set) => (&set.spec.template, Some(&set.spec.selector), None),
            Typed::Deployment(deployment) => {
                (&deployment.spec.template, Some(&deployment.spec.selector), None)
            }
            Typed::ReplicaSet(set) => (set.spec.template.as_ref()?, Some(&set.spec.selector), None),
            Typed::StatefulSet(set) => (&set.spec.template, Some(&set.spec.selector), None),
            Typed::Job(job) => of_job(job.spec.as_ref()?),
            Typed::CronJob(cron) => of_job(cron.spec.job_template.spec.as_ref()?),
            Typed::ScaledJob(scaled) => of_job(&scaled.spec.job_target_ref),
            Typed::Pod(pod) => {
                let (meta, spec) = (&pod.metadata, pod.spec.as_ref()?);
                return Some(Pod { rendering: self, object, meta, spec, job: None, selector: None });
            }
            _ => return None,
        };
        static NAMELESS: std::sync::LazyLock<ObjectMeta> = std::sync::LazyLock::new(ObjectMeta::default);
        let meta = template.metadata.as_ref().unwrap_or(&NAMELESS);
        Some(Pod { rendering: self, object, meta, spec: template.spec.as_ref()?, job, selector })
    }
}

fn of_job(job: &JobSpec) -> (&PodTemplateSpec, Option<&LabelSelector>, Option<&JobSpec>) {
    (&job.template, job.selector.as_ref(), Some(job))
}

/// Runs `check` on every pod of every file and fails with all its findings.
#[track_caller]
pub fn of_every_pod(check: impl Fn(&Pod<'_>) -> Vec<String>) {
    let pods: Vec<Pod<'_>> = all().iter().flat_map(Rendering::pods).collect();
    assert!(pods.len() > 20, "only {} pods were found", pods.len());
    let blame = |pod| check(pod).into_iter().map(move |what| format!("{pod}: {what}"));
    judge(pods.iter().flat_map(blame));
}

/// Runs `check` on every container of every pod and fails with all its findings.
#[track_caller]
pub fn of_every_container(check: impl Fn(&Pod<'_>, &Container) -> Vec<String>) {
    of_every_pod(|pod| {
        let blame = |container: &Container| {
            let name = container.name.clone();
            check(pod, container).into_iter().map(move |what| format!("container {name}: {what}"))
        };
        pod.containers().flat_map(blame).collect()
    });
}

#[track_caller]
pub fn judge(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Returns `what` if the condition does not hold.
pub fn unless(holds: bool, what: impl Into<String>) -> Option<String> {
    (!holds).then(|| what.into())
}
