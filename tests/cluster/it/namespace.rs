//! A namespace for one test, deleted on drop.

use crate::kubectl::{RunningCommand, json, kubectl, list, says, says_to};
use crate::manifest::{apply_words, example, for_this_cluster};
use crate::waiting::{until, until_or};
use serde_json::Value;

pub struct Namespace(String);

/// The properties of a pod that the tests need.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub node: String,
    pub phase: String,
    pub ready: bool,
    pub restarts: u64,
    /// True if the pod was asked to stop.
    pub ending: bool,
}

impl Pod {
    fn of(pod: &Value) -> Pod {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let status = &pod["status"];
        let containers = status["containerStatuses"].as_array().cloned().unwrap_or_default();
        Pod {
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            node: text(&pod["spec"]["nodeName"]),
            phase: text(&status["phase"]),
            ready: !containers.is_empty() && containers.iter().all(|container| container["ready"] == true),
            restarts: containers.iter().filter_map(|container| container["restartCount"].as_u64()).sum(),
            ending: pod["metadata"]["deletionTimestamp"].is_string(),
        }
    }
}

impl Namespace {
    pub fn new(test: &str) -> Namespace {
        let name = format!("e2e-{test}-{:06x}", fastrand::u32(..0x100_0000));
        says(&["create", "namespace", &name]);
        let service_account = ["get", "serviceaccount", "default", "-n", &name];
        until("the namespace's service account", || kubectl(&service_account).status.success().then_some(()));
        Namespace(name)
    }

    /// Refers to a namespace that a manifest creates; it is deleted with that manifest.
    pub fn of_a_manifest(name: &str) -> std::mem::ManuallyDrop<Namespace> {
        std::mem::ManuallyDrop::new(Namespace(name.to_owned()))
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    #[track_caller]
    pub fn says(&self, words: &[&str]) -> String {
        says(&[words, &["-n", &self.0]].concat())
    }

    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        json(&[words, &["-n", &self.0]].concat())
    }

    #[track_caller]
    pub fn apply(&self, text: &str) {
        says_to(&[&apply_words(), &["-n", &self.0][..]].concat(), &for_this_cluster(text));
    }

    #[track_caller]
    pub fn apply_example(&self, name: &str) {
        self.apply(&example(name));
    }

    /// Runs `exec POD -- WORDS`, which must succeed.
    #[track_caller]
    pub fn exec(&self, pod: &str, words: &[&str]) -> String {
        says(&[&["exec", "-n", &self.0, pod, "--"], words].concat())
    }

    /// Runs `exec POD -- WORDS` and returns its output if it succeeds.
    pub fn try_exec(&self, pod: &str, words: &[&str]) -> Option<String> {
        let output = kubectl(&[&["exec", "-n", &self.0, pod, "--"], words].concat());
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Lists the pods with this label, without those that were asked to stop.
    #[track_caller]
    pub fn pods(&self, label: &str) -> Vec<Pod> {
        let pods = list(&["get", "pods", "-n", &self.0, "-l", label]);
        pods.iter().map(Pod::of).filter(|pod| !pod.ending).collect()
    }

    /// Waits until `count` pods with this label exist and all are ready.
    #[track_caller]
    pub fn ready(&self, label: &str, count: usize) -> Vec<Pod> {
        self.until(&format!("{count} ready pods with {label}"), || {
            let pods = self.pods(label);
            (pods.len() == count && pods.iter().all(|pod| pod.ready)).then_some(pods)
        })
    }

    /// Runs `rollout status`, as the walk-through waits.
    #[track_caller]
    pub fn rolled_out(&self, what: &str) -> String {
        self.says(&["rollout", "status", what, "--timeout=600s"])
    }

    /// Returns the complete logs of the pods.
    #[track_caller]
    pub fn logs(&self, label: &str) -> String {
        self.says(&["logs", "-l", label, "--tail=-1", "--max-log-requests=20"])
    }

    /// Returns the pods' logs without the workers' own lines, which stand between the output of their
    /// commands.
    #[track_caller]
    pub fn printed(&self, label: &str) -> String {
        let logs = self.logs(label);
        let printed: Vec<_> =
            logs.lines().filter(|line| !line.contains(" INFO ") && !line.contains(" WARN ")).collect();
        printed.join("\n")
    }

    /// Returns the condition that ended a Job, and its reason.
    pub fn job_end(&self, job: &str) -> Option<(String, String)> {
        let job = self.json(&["get", "job", job]);
        let conditions = job["status"]["conditions"].as_array()?;
        let ended = conditions.iter().find(|condition| {
            condition["status"] == "True"
                && (condition["type"] == "Complete" || condition["type"] == "Failed")
        })?;
        let text = |field: &str| ended[field].as_str().unwrap_or_default().to_owned();
        Some((text("type"), text("reason")))
    }

    #[track_caller]
    pub fn complete(&self, job: &str) {
        let (end, reason) = self.until(&format!("the end of job {job}"), || self.job_end(job));
        assert_eq!(end, "Complete", "{reason}\n{}", self.story());
    }

    /// Forwards a port of a pod and returns the local address that `port-forward` prints.
    pub fn forward(&self, what: &str, port: u16) -> (RunningCommand, String) {
        let mut running = RunningCommand::start(&["port-forward", "-n", &self.0, what, &format!(":{port}")]);
        let said = running.line();
        let address =
            said.split_whitespace().nth(2).unwrap_or_else(|| panic!("port-forward {what}: {said:?}"));
        (running, address.to_owned())
    }

    #[track_caller]
    pub fn until<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        until_or(what, || self.story(), look)
    }

    /// Runs the commands that a person would type first to find the cause of a failure.
    pub fn story(&self) -> String {
        let asked = [["get", "pods,jobs", "-o", "wide"], ["get", "events", "--sort-by", ".lastTimestamp"]];
        asked
            .map(|words| {
                let output = kubectl(&[&words, &["-n", &self.0][..]].concat());
                String::from_utf8_lossy(&output.stdout).into_owned()
            })
            .join("\n")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
    }
}
