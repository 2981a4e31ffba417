//! Pods that write numbered lines: five that write a megabyte a second each, short Jobs, and a crasher, whose
//! container fails again and again.

use super::logcd::{Logcd, START};
use crate::namespace::Namespace;

/// The number of pods that write at the same time.
const WRITERS: usize = 5;
/// The pod whose container is restarted; its runs write as `crasher.1`, `crasher.2` and so on.
pub const CRASHER: &str = "crasher";

/// Writes 1,500 lines of 150 bytes, as they are in the log, five times a second until it gets SIGTERM.
const WRITER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: NODE
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
    - name: writer
      image: busybox:1.36
      command:
        - sh
        - -c
        - |
          n=0 stop= pad=abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghij
          trap "stop=yes" TERM
          while [ -z "$stop" ]; do
            seq $n $((n+1499)) | sed "s/^/NAME /; s/$/ $pad/"
            n=$((n+1500))
            usleep 200000
          done
          echo "NAME end $n"
"#;

const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: NAME, labels: {name: short}}
spec:
  backoffLimit: 0
  template:
    spec:
      nodeName: NODE
      restartPolicy: Never
      automountServiceAccountToken: false
      containers:
        - name: writer
          image: busybox:1.36
          command: [sh, -c, 'seq 0 999 | sed "s/^/NAME /"; echo "NAME end 1000"']
"#;

const CRASHING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: crasher}
spec:
  nodeName: NODE
  automountServiceAccountToken: false
  containers:
    - name: writer
      image: busybox:1.36
      command:
        - sh
        - -c
        - |
          run=$(($(cat /state/runs 2>/dev/null || echo 0) + 1))
          echo $run >/state/runs
          seq 0 99 | sed "s/^/crasher.$run /"
          echo "crasher.$run end 100"
          exit 1
      volumeMounts: [{name: state, mountPath: /state}]
  volumes: [{name: state, emptyDir: {}}]
"#;

pub struct Writers<'a> {
    users: &'a Namespace,
    node: &'a str,
    /// The pods that write now.
    running: Vec<String>,
    /// The pods that have ended, the Jobs and the runs of the crasher.
    ended: Vec<String>,
    started: usize,
}

impl Writers<'_> {
    #[track_caller]
    pub fn start<'a>(users: &'a Namespace, node: &'a str) -> Writers<'a> {
        let mut writers = Writers { users, node, running: Vec::new(), ended: Vec::new(), started: 0 };
        users.apply(&CRASHING.replace("NODE", node));
        (0..WRITERS).for_each(|_| writers.start_one());
        writers
    }

    #[track_caller]
    fn start_one(&mut self) {
        let name = format!("writer-{}", self.started);
        self.users.apply(&WRITER.replace("NAME", &name).replace("NODE", self.node));
        self.started += 1;
        self.running.push(name);
    }

    /// Lists all that have written.
    pub fn expected(&self) -> Vec<String> {
        self.ended.clone()
    }

    /// Waits until kubelet has rotated a log of each pod that writes, or with `.gz`, compressed one.
    #[track_caller]
    pub fn are_rotated(&self, logcd: &Logcd<'_>, ending: &str) {
        for pod in &self.running {
            self.users.until(&format!("a rotated log of {pod}"), || {
                let is_rotated = |path: &String| path.contains(".log.") && path.ends_with(ending);
                logcd.log_files(pod).iter().any(is_rotated).then_some(())
            });
        }
    }

    /// Runs Jobs, and deletes each one when it has ended. Returns their names.
    #[track_caller]
    pub fn run_jobs(&mut self, round: usize, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("job-{round}-{n}")).collect();
        let jobs = names.iter().map(|name| JOB.replace("NAME", name).replace("NODE", self.node));
        self.users.apply(&jobs.collect::<Vec<_>>().join("---"));
        let mut deleted = 0;
        self.users.until("the end of each Job", || {
            let jobs = self.users.json(&["get", "jobs", "-l", "name=short"])["items"].clone();
            let is_over = |job: &&serde_json::Value| job["status"]["succeeded"] == 1;
            let over = jobs.as_array().unwrap().iter().filter(is_over);
            let over: Vec<&str> = over.map(|job| job["metadata"]["name"].as_str().unwrap()).collect();
            if !over.is_empty() {
                self.users.says(&[&["delete", "job"][..], &over].concat());
                deleted += over.len();
            }
            (deleted == count).then_some(())
        });
        self.ended.extend(names.clone());
        names
    }

    /// Deletes two pods while they write, and starts two others. Returns the deleted ones.
    #[track_caller]
    pub fn replace_two(&mut self) -> Vec<String> {
        let deleted: Vec<String> = self.running.drain(..2).collect();
        let words: Vec<&str> = deleted.iter().map(String::as_str).collect();
        self.users.says(&[&["delete", "pod"][..], &words].concat());
        self.ended.extend(deleted.clone());
        (0..2).for_each(|_| self.start_one());
        deleted
    }

    /// Lists the runs of the crasher that have ended.
    #[track_caller]
    pub fn crasher_runs(&self) -> Vec<String> {
        let pod = self.users.json(&["get", "pod", CRASHER]);
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
        (1..=restarts).map(|run| format!("{CRASHER}.{run}")).collect()
    }

    /// Waits until the crasher was restarted, deletes it, and waits until its runs are archived.
    #[track_caller]
    pub fn stop_crasher(&mut self, restarts: u64, logcd: &Logcd<'_>) {
        let runs = self.users.until(&format!("{restarts} restarts of the crasher"), || {
            let runs = self.crasher_runs();
            (runs.len() as u64 >= restarts).then_some(runs)
        });
        self.users.says(&["delete", "pod", CRASHER]);
        logcd.until_ends_are_archived(&runs, START);
        self.ended.extend(runs);
    }

    /// Ends the pods that still write. Their logs stay.
    #[track_caller]
    pub fn stop(&mut self) {
        for pod in &self.running {
            // The container may end before it is known that this command has succeeded.
            self.users.try_exec(pod, &["kill", "-TERM", "1"]);
        }
        for pod in &self.running {
            self.users.until(&format!("the end of {pod}"), || {
                let phase = self.users.says(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"]);
                (phase == "Succeeded").then_some(())
            });
        }
        self.ended.append(&mut self.running);
    }
}
