//! The readers of the nodes: how each is started, on this host, by ssh or by kubectl.

use super::options::{Options, Places, Source};
use kit::exit::{Exit, Fatal};
use kit::lifecycle::identity::Identity;
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

/// An agent's reader on one node, not started yet.
#[derive(Debug)]
pub struct Reader {
    pub node: String,
    pub source: Source,
    /// The command that runs it. Stdin is set already.
    pub command: Command,
}

/// A node whose lines will be missing, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreachable {
    pub node: String,
    pub why: String,
}

/// Returns the readers of all wanted nodes and sources.
pub fn readers(options: &Options) -> Result<(Vec<Reader>, Vec<Unreachable>), Fatal> {
    let (mut readers, mut unreachable) = (Vec::new(), Vec::new());
    for source in &options.wanted.source {
        let words = options.reader_words(*source);
        if options.places.local {
            readers.push(on_this_host(*source, &words)?);
        } else if options.places.ssh.is_empty() {
            let found = pods_of(&options.places, source.agent())?;
            for pod in found {
                match pod.reader(options, *source, &words) {
                    Ok(reader) => readers.push(reader),
                    Err(why) => unreachable.push(why),
                }
            }
        } else {
            readers.extend(options.places.ssh.iter().map(|host| by_ssh(host, *source, &words)));
        }
    }
    let is_wanted = |node: &String| options.places.node.is_empty() || options.places.node.contains(node);
    readers.retain(|reader| is_wanted(&reader.node));
    for reader in &mut readers {
        // A reader that follows would not notice otherwise that nobody takes its lines any more.
        let stdin = if options.printing.follow { Stdio::piped() } else { Stdio::null() };
        reader.command.stdin(stdin);
    }
    unreachable.retain(|one| is_wanted(&one.node));
    for node in &options.places.node {
        let is_found = readers.iter().any(|reader| reader.node == *node)
            || unreachable.iter().any(|one| one.node == *node);
        if !is_found {
            unreachable.push(Unreachable { node: node.clone(), why: "no agent runs there".to_owned() });
        }
    }
    Ok((readers, unreachable))
}

fn on_this_host(source: Source, words: &[OsString]) -> Result<Reader, Fatal> {
    let program = std::env::current_exe()
        .map_err(|error| Fatal::new(Exit::System, "cannot find this program").because(error))?;
    let mut command = Command::new(program);
    command.arg(source.agent()).args(words);
    Ok(Reader { node: Identity::of_this_process().node, source, command })
}

fn by_ssh(host: &str, source: Source, words: &[OsString]) -> Reader {
    let mut command = Command::new("ssh");
    // A host that asks for a password would hang. The keepalives end the connection to a host that died.
    command.args(["-o", "BatchMode=yes", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]);
    command.args(["--", host]);
    let words = std::iter::once(OsStr::new(source.agent())).chain(words.iter().map(OsString::as_os_str));
    // ssh passes one text to the shell of the other host.
    let quoted: Vec<OsString> = words.map(quoted).collect();
    command.arg(quoted.join(OsStr::new(" ")));
    Reader { node: host.to_owned(), source, command }
}

/// Quotes a word for a shell.
fn quoted(word: &OsStr) -> OsString {
    let text = word.to_string_lossy();
    format!("'{}'", text.replace('\'', r"'\''")).into()
}

fn kubectl(places: &Places) -> Command {
    let mut command = Command::new("kubectl");
    command.args(places.context.iter().flat_map(|name| ["--context", name]));
    if let Some(file) = &places.kubeconfig {
        command.arg("--kubeconfig").arg(file);
    }
    command.args(["--namespace", &places.agents_namespace]);
    command
}

/// A pod of an agent.
#[derive(Debug)]
struct AgentPod {
    node: String,
    name: String,
    phase: String,
}

#[derive(Deserialize)]
struct PodList {
    items: Vec<PodObject>,
}

#[derive(Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

/// Asks the cluster for the pods of an agent.
fn pods_of(places: &Places, agent: &str) -> Result<Vec<AgentPod>, Fatal> {
    let mut command = kubectl(places);
    command.args([
        "get",
        "pods",
        "--selector",
        &format!("app.kubernetes.io/name={agent}"),
        "--output",
        "json",
    ]);
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        let message = "cannot run kubectl; --ssh HOST,… reads other hosts, --local this one";
        Fatal::new(Exit::Config, message).because(error)
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Fatal::new(
            Exit::Failure,
            format!("kubectl cannot list the pods of {agent}: {}", said.trim()),
        ));
    }
    let pods = parse_pods(&output.stdout)
        .map_err(|error| Fatal::new(Exit::Failure, "kubectl printed no list of pods").because(error))?;
    if pods.is_empty() {
        let message = format!(
            "no pod of {agent} runs in the namespace {}; --agents-namespace names another one",
            places.agents_namespace
        );
        return Err(Fatal::new(Exit::Failure, message));
    }
    Ok(pods)
}

/// Parses a list of pods. A node's pod that is being deleted counts only if the node has no other.
fn parse_pods(json: &[u8]) -> Result<Vec<AgentPod>, serde_json::Error> {
    let mut items = serde_json::from_slice::<PodList>(json)?.items;
    items.retain(|pod| !pod.spec.node_name.is_empty());
    items.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
    let mut pods: Vec<AgentPod> = Vec::new();
    for PodObject { metadata, spec, status } in items {
        if !pods.iter().any(|pod| pod.node == spec.node_name) {
            pods.push(AgentPod { node: spec.node_name, name: metadata.name, phase: status.phase });
        }
    }
    pods.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(pods)
}

impl AgentPod {
    fn reader(self, options: &Options, source: Source, words: &[OsString]) -> Result<Reader, Unreachable> {
        let agent = source.agent();
        if self.phase != "Running" {
            let why = format!("the pod {} of {agent} is {}", self.name, self.phase);
            return Err(Unreachable { node: self.node, why });
        }
        let mut command = kubectl(&options.places);
        command.arg("exec").args(options.printing.follow.then_some("--stdin"));
        command.args([&self.name, "--container", agent, "--", agent]).args(words);
        Ok(Reader { node: self.node, source, command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_other_host_as_they_are() {
        for word in ["a b", "it's", "$HOME `id` \\ \"x\"", "", "*;&|<>", "new\nline"] {
            let script = format!("printf %s {}", quoted(OsStr::new(word)).to_string_lossy());
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn each_node_is_read_once() {
        let pod = |name: &str, node: &str, more: &str| {
            format!(
                r#"{{"metadata":{{"name":"{name}"{more}}},"spec":{{"nodeName":"{node}"}},"status":{{"phase":"Running"}}}}"#
            )
        };
        let deleted = r#","deletionTimestamp":"2026-11-28T14:05:12Z""#;
        let list = [
            pod("old", "n1", deleted),
            pod("new", "n1", ""),
            pod("leaving", "n2", deleted),
            r#"{"metadata":{"name":"waits"}}"#.to_owned(),
        ];
        let pods = parse_pods(format!(r#"{{"items":[{}]}}"#, list.join(",")).as_bytes()).unwrap();
        let names: Vec<_> = pods.iter().map(|pod| (&*pod.node, &*pod.name)).collect();
        assert_eq!(names, [("n1", "new"), ("n2", "leaving")]);
    }
}
