//! The page's part about container logs: namespaces, their containers, and the newest lines of a container.

use crate::error::ArchiveError;
use crate::pods::newest_lines::NewestLines;
use crate::pods::overview::{Loss, NamespaceShown, PodsFigures};
use crate::pods::place::{ContainerDir, PodDir};
use crate::safe_dir::SafeDir;
use axum::Router;
use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kit::http::events::{Source, Streams};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const NAMESPACES_SHOWN: usize = 200;
const CONTAINERS_SHOWN: usize = 500;
const LINES_EVERY: Duration = Duration::from_millis(500);

/// The sources of the page's part about container logs.
#[derive(Clone, Debug)]
pub struct PodsSources {
    pub pods: PathBuf,
    pub out: PathBuf,
    pub figures: watch::Receiver<PodsFigures>,
    /// True with `--show-lines`: everyone who can see the page can see the lines of containers.
    pub lines: bool,
}

/// The figures as they are sent to the page.
#[derive(Serialize)]
pub struct PodsShown {
    pods: String,
    out: String,
    namespaces: Vec<NamespaceShown>,
    namespaces_all: usize,
    /// The sums over all namespaces. The list may have fewer.
    bytes_per_second: u64,
    kept_bytes: u64,
    lost_logs: u64,
    /// The losses, the newest one last.
    losses: Vec<Loss>,
    lines_are_shown: bool,
}

impl PodsSources {
    pub fn shown(&self, figures: &PodsFigures) -> PodsShown {
        let mut namespaces = figures.namespaces(Instant::now());
        let namespaces_all = namespaces.len();
        let bytes_per_second = namespaces.iter().map(|namespace| namespace.bytes_per_second).sum();
        let kept_bytes = namespaces.iter().map(|namespace| namespace.kept_bytes).sum();
        namespaces.truncate(NAMESPACES_SHOWN);
        PodsShown {
            pods: self.pods.display().to_string(),
            out: self.out.display().to_string(),
            namespaces,
            namespaces_all,
            bytes_per_second,
            kept_bytes,
            lost_logs: figures.lost_logs,
            losses: figures.losses.iter().cloned().collect(),
            lines_are_shown: self.lines,
        }
    }
}

#[derive(Debug, Deserialize)]
struct ContainersQuery {
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct LinesQuery {
    /// The container as `NAMESPACE_POD_UID/CONTAINER`.
    container: String,
}

#[derive(Serialize)]
struct Containers {
    containers: Vec<ContainerShown>,
    containers_all: usize,
}

#[derive(Serialize)]
struct ContainerShown {
    dir: String,
    pod: String,
    container: String,
}

pub fn routes(sources: &PodsSources, streams: Streams) -> Router {
    let pods = sources.pods.clone();
    let containers = async move |Query(ContainersQuery { namespace }): Query<ContainersQuery>| -> Response {
        let pods = pods.clone();
        let listed = tokio::task::spawn_blocking(move || containers_of(&pods, &namespace)).await;
        match listed.ok().and_then(Result::ok).and_then(|found| serde_json::to_string(&found).ok()) {
            Some(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
            None => (StatusCode::NOT_FOUND, "the containers cannot be listed\n").into_response(),
        }
    };
    let (pods, are_shown) = (sources.pods.clone(), sources.lines);
    let lines = async move |Query(LinesQuery { container }): Query<LinesQuery>| -> Response {
        if !are_shown {
            let why = "lines are not shown: logcd was started without --show-lines\n";
            return (StatusCode::FORBIDDEN, why).into_response();
        }
        match container.parse() {
            Ok(dir) => {
                let newest = NewestLines::new(pods.clone(), dir);
                streams.tell(Lines { newest: Some(newest) }).into_response()
            }
            Err(_) => (StatusCode::NOT_FOUND, "that is not the name of a container\n").into_response(),
        }
    };
    Router::new().route("/page/containers", get(containers)).route("/page/container-lines", get(lines))
}

/// Lists the containers whose logs are on the node now.
fn containers_of(pods: &Path, namespace: &str) -> Result<Containers, ArchiveError> {
    let at = SafeDir::open(pods).map_err(ArchiveError::on("read", pods))?;
    let mut dirs: Vec<ContainerDir> = Vec::new();
    for pod in at
        .names(b"")
        .map_err(ArchiveError::on("list", pods))?
        .iter()
        .filter_map(|name| name.parse::<PodDir>().ok())
    {
        if pod.namespace == namespace {
            // The pod may be removed meanwhile.
            let listed = at.names(pod.to_string().as_bytes()).unwrap_or_default();
            dirs.extend(listed.iter().filter_map(|name| pod.container(name).ok()));
        }
    }
    dirs.sort();
    let shown = |dir: &ContainerDir| ContainerShown {
        dir: dir.to_string(),
        pod: dir.pod.pod.clone(),
        container: dir.container.clone(),
    };
    let containers = dirs.iter().take(CONTAINERS_SHOWN).map(shown).collect();
    Ok(Containers { containers, containers_all: dirs.len() })
}

struct Lines {
    /// `None` while a thread reads.
    newest: Option<NewestLines>,
}

impl Source for Lines {
    async fn next(&mut self) -> Option<(&'static str, String)> {
        loop {
            let mut newest = self.newest.take()?;
            let (looked, newest) = tokio::task::spawn_blocking(move || (newest.look(), newest)).await.ok()?;
            self.newest = Some(newest);
            // A container without a readable log has no new lines.
            if let Ok(Some(lines)) = looked {
                return Some(("lines", serde_json::to_string(&lines).ok()?));
            }
            tokio::time::sleep(LINES_EVERY).await;
        }
    }
}
