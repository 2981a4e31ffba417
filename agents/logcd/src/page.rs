//! The page on the admin endpoint: the last cycles, the archives with their contents, the skipped files, and
//! container logs.

use crate::archive::codec::Codec;
use crate::archive::entry::Origin;
use crate::archive::member;
use crate::archive_dir::ArchiveDir;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::cycle_history::RecentCycles;
use crate::day::{archive_name, day_of, index_name};
use crate::download;
use crate::logs::directories::listed;
use crate::pods;
use crate::pods::overview::PodsFigures;
use crate::pods::page::{PodsShown, PodsSources};
use axum::Router;
use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::civil::Date;
use kit::http::events::{Source, Streams};
use kit::lifecycle::readiness::Readiness;
use kit::page::access::Access;
use kit::page::{Page, STREAMS_MAX};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

const PAGE: Page = Page { html: include_str!("page.html"), script: include_str!("page.js") };
/// Limit on the archives that are listed.
const ARCHIVES_SHOWN: usize = 400;
const ENTRIES_SHOWN: usize = 500;
/// Limit on the size of an index that the page reads. `logcd list` shows larger ones.
const INDEX_BYTES_MAX: u64 = 32 << 20;

/// While a page is open, the rates of namespaces are sent this often, because they fall without an event.
const RATES_EVERY: Duration = Duration::from_secs(10);

/// The sources of the page's figures; `None` for logs that are not archived.
#[derive(Clone, Debug)]
pub struct PageSources {
    pub directories: Option<DirectorySources>,
    pub pods: Option<PodsSources>,
    pub readiness: Readiness,
}

#[derive(Clone, Debug)]
pub struct DirectorySources {
    pub dirs: Vec<PathBuf>,
    pub out: PathBuf,
    pub cycles: watch::Receiver<RecentCycles>,
}

pub fn routes(sources: PageSources, access: Access) -> Router {
    let streams = Streams::at_most(STREAMS_MAX);
    let (mut own, mut for_this_host) = (Router::new(), Router::new());
    if let Some(directories) = &sources.directories {
        let out: Arc<Path> = directories.out.clone().into();
        for_this_host = download::routes(out.clone(), &access);
        own = own.merge(contents_route(out));
    }
    if let Some(pods) = &sources.pods {
        own = own.merge(pods::page::routes(pods, streams.clone()));
    }
    let figures = async move || {
        let mut events = Figures::new(sources.clone());
        events.mark_changed();
        streams.tell(events)
    };
    let own = own.route("/page/figures", get(figures));
    let own = own.merge(kit::page::script("/page/pods.js", include_str!("pods/page.js")));
    access.guard(own.merge(kit::page::routes(PAGE))).merge(for_this_host)
}

/// Returns the route for the contents of an archive of a day.
fn contents_route(out: Arc<Path>) -> Router {
    // Each index may take as much memory as its limit, so only one is read at a time.
    let one = Arc::new(Semaphore::new(1));
    let contents = async move |Query(ContentsQuery { archive }): Query<ContentsQuery>| -> Response {
        let Some((day, codec)) = day_of(&archive) else {
            return not_found("this is not the name of an archive");
        };
        let _permit = one.acquire().await;
        let out = out.clone();
        match tokio::task::spawn_blocking(move || contents_of(&out, day, codec)).await {
            Ok(Some(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
            _ => not_found("it has no usable index here; use logcd list"),
        }
    };
    Router::new().route("/page/contents", get(contents))
}

fn not_found(why: &'static str) -> Response {
    (StatusCode::NOT_FOUND, format!("{why}\n")).into_response()
}

#[derive(Debug, Deserialize)]
struct ContentsQuery {
    archive: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    reasons: String,
    directories: Option<DirectoriesShown<'a>>,
    pods: Option<PodsShown>,
}

#[derive(Serialize)]
struct DirectoriesShown<'a> {
    dir: String,
    out: String,
    disk_free_bytes: Option<u64>,
    archives: Vec<ArchiveShown>,
    archives_all: usize,
    archives_bytes: u64,
    #[serde(flatten)]
    cycles: &'a RecentCycles,
}

#[derive(Serialize)]
struct ArchiveShown {
    name: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Contents {
    entries: Vec<EntryShown>,
    entries_all: usize,
}

#[derive(Serialize)]
struct EntryShown {
    name: String,
    bytes: u64,
    packed_bytes: u64,
    mtime_s: u64,
    superseded: bool,
}

impl DirectorySources {
    fn shown<'a>(&self, cycles: &'a RecentCycles) -> DirectoriesShown<'a> {
        let dir = ArchiveDir::at(&self.out).ok();
        let archives = dir.as_ref().and_then(|dir| dir.archives().ok()).unwrap_or_default();
        let newest = archives.iter().rev().take(ARCHIVES_SHOWN);
        let shown = |(day, codec, bytes): &(Date, Codec, u64)| ArchiveShown {
            name: archive_name(*day, *codec),
            bytes: *bytes,
        };
        DirectoriesShown {
            dir: listed(&self.dirs),
            out: self.out.display().to_string(),
            disk_free_bytes: dir.and_then(|dir| dir.space().ok()).map(|space| space.available_bytes),
            archives_all: archives.len(),
            archives_bytes: archives.iter().map(|(_, _, bytes)| bytes).sum(),
            archives: newest.map(shown).collect(),
            cycles,
        }
    }
}

/// Reads the index, so that nothing is unpacked, with the same checks as before a cycle.
fn contents_of(out: &Path, day: Date, codec: Codec) -> Option<String> {
    let dir = ArchiveDir::at(out).ok()?;
    let (_, status) = dir.open(&index_name(&archive_name(day, codec))).ok()??;
    if status.stamp.size > INDEX_BYTES_MAX {
        return None;
    }
    let archive = IndexedArchive::load_while_published(&dir, day, codec).ok()??;
    let entries = archive.entries().iter().take(ENTRIES_SHOWN).map(|entry| EntryShown {
        name: member::path(&archive.index.prefix, &entry.name).escape_ascii().to_string(),
        bytes: entry.size(),
        packed_bytes: entry.packed_len(),
        mtime_s: entry.meta.mtime_s,
        superseded: entry.origin == Origin::Superseded,
    });
    let shown = Contents { entries: entries.collect(), entries_all: archive.entries().len() };
    serde_json::to_string(&shown).ok()
}

/// The stream of figures. An idle daemon without container logs sends none.
struct Figures {
    sources: PageSources,
    cycles: Option<watch::Receiver<RecentCycles>>,
    pods: Option<watch::Receiver<PodsFigures>>,
}

impl Figures {
    fn new(sources: PageSources) -> Figures {
        let cycles = sources.directories.as_ref().map(|directories| directories.cycles.clone());
        let pods = sources.pods.as_ref().map(|pods| pods.figures.clone());
        Figures { sources, cycles, pods }
    }

    /// Lets the first event come at once.
    fn mark_changed(&mut self) {
        if let Some(cycles) = &mut self.cycles {
            cycles.mark_changed();
        } else if let Some(pods) = &mut self.pods {
            pods.mark_changed();
        }
    }

    /// Waits for the next change; `None` once the daemon ends.
    async fn changed(&mut self) -> Option<()> {
        let (cycles, pods) = (&mut self.cycles, &mut self.pods);
        let has_pods = pods.is_some();
        tokio::select! {
            changed = changed(cycles) => changed,
            changed = changed(pods) => changed,
            () = tokio::time::sleep(RATES_EVERY), if has_pods => Some(()),
        }
    }

    fn json(
        sources: &PageSources,
        cycles: Option<&RecentCycles>,
        pods: Option<&PodsFigures>,
    ) -> Option<String> {
        let shown = Shown {
            reasons: sources.readiness.reasons(),
            directories: sources.directories.as_ref().zip(cycles).map(|(own, cycles)| own.shown(cycles)),
            pods: sources.pods.as_ref().zip(pods).map(|(own, figures)| own.shown(figures)),
        };
        serde_json::to_string(&shown).ok()
    }
}

/// Waits until a source has changed; never returns without a source.
async fn changed<T>(source: &mut Option<watch::Receiver<T>>) -> Option<()> {
    match source {
        Some(source) => source.changed().await.ok(),
        None => std::future::pending().await,
    }
}

impl Source for Figures {
    async fn next(&mut self) -> Option<(&'static str, String)> {
        self.changed().await?;
        let sources = self.sources.clone();
        let cycles = self.cycles.as_mut().map(|cycles| cycles.borrow_and_update().clone());
        let pods = self.pods.as_mut().map(|pods| pods.borrow_and_update().clone());
        let shown =
            tokio::task::spawn_blocking(move || Figures::json(&sources, cycles.as_ref(), pods.as_ref()))
                .await;
        Some(("figures", shown.ok()??))
    }
}
