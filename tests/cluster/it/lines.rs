//! Numbered lines that many pods send during an event such as an update, and a check that they arrived.

use crate::manifest::of_this_registry;
use crate::namespace::{Namespace, Pod};
use std::collections::BTreeMap;

/// A Job of pods that each send `RUN POD NUMBER end` through logsend, a hundred lines a second.
pub struct Senders<'a> {
    namespace: &'a Namespace,
    lines: usize,
    /// Number of lines in each node's log before the Job.
    before: BTreeMap<String, usize>,
}

const MANIFEST: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: senders}
spec:
  completions: PODS
  parallelism: PODS
  backoffLimit: 0
  template:
    metadata: {labels: {name: senders}}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      securityContext: {runAsUser: 65532, fsGroup: 65532}
      initContainers:
        - name: pipe
          image: busybox:1.36
          command: [mkfifo, /pipe/lines]
          volumeMounts: [{name: pipe, mountPath: /pipe}]
      containers:
        - name: writer
          image: busybox:1.36
          command: [sh, -c, 'i=0; while [ $i -lt LINES ]; do echo "RUN $HOSTNAME $i end"; i=$((i+1)); usleep 10000; done > /pipe/lines']
          volumeMounts: [{name: pipe, mountPath: /pipe}]
        - name: sender
          image: ghcr.io/nodecrew/logsend:0.1.0
          args: [--, cat, /pipe/lines]
          env: [{name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]
          volumeMounts: [{name: pipe, mountPath: /pipe}]
      volumes: [{name: pipe, emptyDir: {}}]
"#;

impl Senders<'_> {
    #[track_caller]
    pub fn start<'a>(namespace: &'a Namespace, logds: &[Pod], pods: usize, lines: usize) -> Senders<'a> {
        let before = logds.iter().map(|logd| (logd.node.clone(), log(namespace, logd).len())).collect();
        let manifest = MANIFEST.replace("PODS", &pods.to_string()).replace("LINES", &lines.to_string());
        namespace.apply(&of_this_registry(manifest.replace("RUN", namespace.name())));
        let senders = Senders { namespace, lines, before };
        // Wait until every sender is running, so that the next event affects all of them.
        namespace.until("lines of every sender", || {
            let (arrived, _) = senders.arrived(logds);
            (arrived.len() == pods).then_some(())
        });
        senders
    }

    /// Returns the arrived numbers by pod, in the order of the logs, and all other lines.
    #[track_caller]
    pub fn arrived(&self, logds: &[Pod]) -> (BTreeMap<String, Vec<usize>>, Vec<String>) {
        let mut arrived: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut others = Vec::new();
        for logd in logds {
            let before = self.before.get(&logd.node).copied().unwrap_or(0);
            for line in log(self.namespace, logd).into_iter().skip(before) {
                match self.number(&line) {
                    Some((pod, number)) => arrived.entry(pod).or_default().push(number),
                    None => others.push(line),
                }
            }
        }
        (arrived, others)
    }

    fn number(&self, line: &str) -> Option<(String, usize)> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [run, pod, number, "end"] if run == self.namespace.name() => {
                Some((pod.to_owned(), number.parse().ok()?))
            }
            _ => None,
        }
    }

    /// Waits until the senders have finished. Then every line must be there, none torn, and each pod's in
    /// order except for repeats.
    #[track_caller]
    pub fn nothing_is_lost(&self, logds: &[Pod]) {
        self.namespace.complete("senders");
        let (arrived, others) = self.arrived(logds);
        assert!(others.is_empty(), "torn lines: {others:?}");
        for (pod, numbers) in &arrived {
            assert_eq!(in_order(pod, numbers), self.lines, "{pod} has not all its lines");
        }
    }
}

/// Counts a pod's lines. No line may be missing before a later one; repeats do not count.
#[track_caller]
pub fn in_order(pod: &str, numbers: &[usize]) -> usize {
    numbers.iter().fold(0, |next, number| {
        assert!(*number <= next, "{pod}: {next} is missing before {number}");
        next.max(number + 1)
    })
}

/// Returns the lines in a node's log.
#[track_caller]
pub fn log(namespace: &Namespace, logd: &Pod) -> Vec<String> {
    let text = namespace.until("the node's log", || {
        namespace.try_exec(&logd.name, &["find", "/var", "-name", "node_log"]).and_then(|found| {
            if found.is_empty() {
                return Some(String::new());
            }
            namespace.try_exec(&logd.name, &["cat", "/var/node_log"])
        })
    });
    text.lines().map(str::to_owned).collect()
}
