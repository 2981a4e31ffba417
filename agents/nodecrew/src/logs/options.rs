//! The flags of `nodecrew logs`: which lines are wanted, from where, and how they are printed.

use jiff::Timestamp;
use kit::settings::parse_duration;
use kit::settings::time::parse_time;
use regex::bytes::Regex;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `nodecrew logs`
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub wanted: Wanted,

    #[command(flatten)]
    pub places: Places,

    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Which lines")]
pub struct Wanted {
    /// Read these logs
    #[arg(long, value_name = "SOURCE[,…]", value_delimiter = ',', default_value = "pods")]
    pub source: Vec<Source>,

    /// Only this namespace
    #[arg(long, short, value_name = "NAMESPACE", hide_env = true)]
    pub namespace: Option<String>,

    /// Only pods whose names this regular expression matches, also those that are gone
    #[arg(long, value_name = "REGEX")]
    pub pod: Option<Regex>,

    /// Only containers with this name
    #[arg(long, short, value_name = "NAME")]
    pub container: Option<String>,

    /// Only lines since a time (2026-11-21T08:00:00Z), a local time (2026-11-21 08:00), a date, yesterday, or how
    /// long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,

    /// Only lines up to a time, in the same forms
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,

    /// Only lines that this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// Container logs, as logcd keeps them: live and archived
    Pods,
    /// The lines that logd received. Raw lines have no time and come first
    Logd,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "From where")]
pub struct Places {
    /// Only these nodes
    #[arg(long, value_name = "NODE[,…]", value_delimiter = ',')]
    pub node: Vec<String>,

    /// Read these hosts with ssh, instead of a cluster's nodes with kubectl
    #[arg(long, value_name = "HOST[,…]", value_delimiter = ',', conflicts_with = "local")]
    pub ssh: Vec<String>,

    /// Read this host alone
    #[arg(long)]
    pub local: bool,

    /// The namespace of the agents in the cluster
    #[arg(long, value_name = "NAMESPACE", default_value = "nodecrew")]
    pub agents_namespace: String,

    /// The cluster, as a context of kubectl
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The configuration of kubectl
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Give up a node that has not answered within this time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub answer_within: Duration,

    /// The archives of container logs, on hosts
    #[arg(long, value_name = "DIR")]
    pub pods_out: Option<PathBuf>,

    /// The container logs, on hosts; or none
    #[arg(long, value_name = "DIR")]
    pub pods: Option<PathBuf>,

    /// The file to which logd appends
    #[arg(long, value_name = "PATH")]
    pub logd_file: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "How they are printed")]
pub struct Printing {
    /// Print lines in this format
    #[arg(long, short, value_name = "FORMAT", default_value = "plain")]
    pub output: LinesFormat,

    /// Print the time of each line
    #[arg(long, short)]
    pub timestamps: bool,

    /// Print the numbers of lines and bytes of each pod, instead of lines
    #[arg(long)]
    pub stats: bool,

    /// Keep printing new lines, through rotations, restarts and new pods, until interrupted
    #[arg(long, short, conflicts_with_all = ["until", "stats"])]
    pub follow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LinesFormat {
    /// Pod and container, then the line
    Plain,
    /// An object for each line, with node, time, namespace, pod, container and stream
    Json,
    /// The line alone
    Raw,
}

impl Source {
    /// The agent that reads these logs.
    pub fn agent(self) -> &'static str {
        match self {
            Source::Pods => "logcd",
            Source::Logd => "logd",
        }
    }
}

impl Options {
    /// Returns the words that make the agent send the wanted lines.
    pub fn reader_words(&self, source: Source) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["read".into()];
        let mut add = |flag: &str, value: Option<OsString>| {
            // In one word, so that a value may begin with a dash.
            words.extend(value.map(|value| {
                let mut word = OsString::from(format!("--{flag}="));
                word.push(value);
                word
            }));
        };
        let Wanted { namespace, pod, container, since, until, grep, .. } = &self.wanted;
        let regex = |regex: &Option<Regex>| regex.as_ref().map(|regex| regex.as_str().into());
        let time = |time: &Option<Timestamp>| time.map(|time| time.to_string().into());
        add("since", time(since));
        add("until", time(until));
        add("grep", regex(grep));
        let follow: Option<OsString> = self.printing.follow.then(|| "--follow".into());
        match source {
            Source::Pods => {
                add("output", Some("records".into()));
                add("namespace", namespace.as_ref().map(Into::into));
                add("pod", regex(pod));
                add("container", container.as_ref().map(Into::into));
                add("pods-out", self.places.pods_out.as_ref().map(Into::into));
                add("pods", self.places.pods.as_ref().map(Into::into));
            }
            Source::Logd => {
                add("file", self.places.logd_file.as_ref().map(Into::into));
                words.push("--records".into());
            }
        }
        words.extend(follow);
        words
    }
}
