//! The logcd of one node: its restarts, and what it has archived of a namespace.

use crate::kubectl::{each_line, each_line_of, says};
use crate::namespace::{Namespace, Pod};
use std::collections::HashMap;
use std::process::Command;

/// A time before all tests, for commands that read lines since a time.
pub const START: &str = "2020-01-01T00:00:00Z";

pub struct Logcd<'a> {
    nodes: &'a Namespace,
    users: &'a Namespace,
    node: &'a str,
}

/// A pod that sees the processes of its node.
const KILLER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: killer, labels: {name: killer}}
spec:
  nodeName: NODE
  hostPID: true
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - name: killer
      image: busybox:1.36
      command: [sh, -c, "trap exit TERM; while :; do sleep 1; done"]
      securityContext: {privileged: true}
"#;

/// Unpacks the archive that kubectl prints. Each line gets the directory of its entry, which is that of its
/// container.
const UNPACK: &str = r#"kubectl "$@" | tar -xz --to-command='sed "s|^|${TAR_FILENAME%/*} |"'"#;

impl Logcd<'_> {
    #[track_caller]
    pub fn new<'a>(nodes: &'a Namespace, users: &'a Namespace, node: &'a str) -> Logcd<'a> {
        users.apply(&KILLER.replace("NODE", node));
        let logcd = Logcd { nodes, users, node };
        logcd.ready(|_| true);
        users.ready("name=killer", 1);
        logcd
    }

    #[track_caller]
    fn ready(&self, is_wanted: impl Fn(&Pod) -> bool) -> Pod {
        self.nodes.until(&format!("a ready logcd on {}", self.node), || {
            let mut pods = self.nodes.pods("name=logcd").into_iter();
            pods.find(|pod| pod.node == self.node && pod.ready && is_wanted(pod))
        })
    }

    /// Deletes the pod, so that its logcd gets SIGTERM, and waits for the next one.
    #[track_caller]
    pub fn restart(&self) {
        let old = self.ready(|_| true);
        self.nodes.says(&["delete", "pod", &old.name]);
        self.ready(|pod| pod.uid != old.uid);
    }

    /// Kills the process, and waits until its container runs again.
    #[track_caller]
    pub fn kill(&self) {
        let pod = self.ready(|_| true);
        let script = format!(
            r#"for p in /proc/[0-9]*; do if tr "\0" "\n" <$p/environ 2>/dev/null | grep -qx POD_NAME={}; then kill -KILL ${{p#/proc/}}; fi; done"#,
            pod.name
        );
        self.users.exec("killer", &["sh", "-c", &script]);
        self.ready(|next| next.uid == pod.uid && next.restarts > pod.restarts);
    }

    fn exec_words<'a>(&'a self, pod: &'a Pod, words: &[&'a str]) -> Vec<&'a str> {
        [&["exec", "-n", self.nodes.name(), &pod.name, "--"], words].concat()
    }

    /// Lists the files of a container's log, with the rotated ones.
    pub fn log_files(&self, pod: &str) -> Vec<String> {
        let found =
            self.nodes.try_exec(&self.ready(|_| true).name, &["find", "/var/log/pods", "-name", "*.log*"]);
        let below = format!("/{}_{pod}_", self.users.name());
        found.unwrap_or_default().lines().filter(|path| path.contains(&below)).map(str::to_owned).collect()
    }

    /// Returns the node's time.
    #[track_caller]
    pub fn now(&self) -> String {
        self.users.exec("killer", &["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"])
    }

    /// Waits until the last line of each writer is in an archive. It was written after this time.
    #[track_caller]
    pub fn until_ends_are_archived(&self, writers: &[String], since: &str) {
        // A writer is named after its pod or Job. A run of the crasher has `.N` after that name, and the pod
        // of a Job has `-` and a suffix.
        let pods: Vec<&str> = writers.iter().filter_map(|writer| writer.split('.').next()).collect();
        let pods = format!("^({})(-|$)", pods.join("|"));
        let words =
            ["logcd", "read", "--pods", "none", "-n", self.users.name(), "--since", since, "--pod", &pods];
        let words = [&words[..], &["--grep", " end [0-9]+$"]].concat();
        self.users.until(&format!("the ends of {writers:?} in archives"), || {
            // Before the first commit there is no archive.
            let ends = self.nodes.try_exec(&self.ready(|_| true).name, &words)?;
            let is_there = |writer: &String| ends.lines().any(|line| line.split(' ').next() == Some(writer));
            writers.iter().all(is_there).then_some(())
        });
    }

    /// Passes on each line that `logcd read` prints.
    #[track_caller]
    pub fn each_line_read(&self, take: impl FnMut(&str)) {
        let pod = self.ready(|_| true);
        each_line(&self.exec_words(&pod, &["logcd", "read", "-n", self.users.name()]), take);
    }

    /// Passes on the content of each line that GNU tar unpacks from the archives, its parts joined.
    #[track_caller]
    pub fn each_line_of_archives(&self, mut take: impl FnMut(&str)) {
        let pod = self.ready(|_| true);
        let directory = format!("/var/lib/logcd/{}", self.users.name());
        let archives = self.nodes.exec(&pod.name, &["find", &directory, "-name", "*.tar.gz"]);
        let mut archives: Vec<&str> = archives.lines().collect();
        // The first part of an hour has no number in its name.
        archives.sort_by_key(|path| (path.len(), *path));
        let mut parts: HashMap<String, String> = HashMap::new();
        for archive in archives {
            let kubectl = self.exec_words(&pod, &["cat", archive]);
            let mut unpack = Command::new("bash");
            unpack.args(["-o", "pipefail", "-c", UNPACK, "bash"]).args(kubectl);
            each_line_of(&mut unpack, |line| {
                let [container, _time, _stream, tag, content] = line.splitn(5, ' ').collect::<Vec<_>>()[..]
                else {
                    panic!("torn: {line:?}")
                };
                let joined = parts.remove(container).unwrap_or_default() + content;
                match tag {
                    "P" => drop(parts.insert(container.to_owned(), joined)),
                    _ => take(&joined),
                }
            });
        }
        assert!(parts.is_empty(), "without an end: {parts:?}");
    }

    /// Returns some of its metrics, for people who read the test's output.
    #[track_caller]
    pub fn figures(&self) -> String {
        let pod = self.ready(|_| true);
        let path = format!("/api/v1/namespaces/{}/pods/{}:7668/proxy/metrics", self.nodes.name(), pod.name);
        let wanted = ["process_resident_memory_bytes ", "process_open_fds ", "logcd_pods_"];
        let metrics = says(&["get", "--raw", &path]);
        let lines = metrics.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        lines.collect::<Vec<_>>().join(", ")
    }
}
