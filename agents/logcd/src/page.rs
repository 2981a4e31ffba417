//! The page on the admin endpoint: the last cycles, the archives with their contents, and the skipped files.

use crate::archive::codec::Codec;
use crate::archive::entry::Origin;
use crate::archive::member;
use crate::archive_dir::ArchiveDir;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::cycle_history::RecentCycles;
use crate::day::{archive_name, day_of, index_name};
use crate::download;
use crate::logs::directories::listed;
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
use tokio::sync::{Semaphore, watch};

const PAGE: Page = Page { html: include_str!("page.html"), script: include_str!("page.js") };
/// Limit on the archives that are listed.
const ARCHIVES_SHOWN: usize = 400;
const ENTRIES_SHOWN: usize = 500;
/// Limit on the size of an index that the page reads. `logcd list` shows larger ones.
const INDEX_BYTES_MAX: u64 = 32 << 20;

/// The sources of the page's figures.
#[derive(Clone, Debug)]
pub struct PageSources {
    pub dirs: Vec<PathBuf>,
    pub out: PathBuf,
    pub cycles: watch::Receiver<RecentCycles>,
    pub readiness: Readiness,
}

pub fn routes(sources: PageSources, access: Access) -> Router {
    let streams = Streams::at_most(STREAMS_MAX);
    let out: Arc<Path> = sources.out.clone().into();
    let downloads = download::routes(out.clone(), &access);
    // Each index may take as much memory as its limit, so only one is read at a time.
    let one = Arc::new(Semaphore::new(1));
    let figures = async move || {
        let mut cycles = sources.cycles.clone();
        cycles.mark_changed();
        streams.tell(Figures { sources: sources.clone(), cycles })
    };
    let contents = async move |Query(ContentsQuery { archive }): Query<ContentsQuery>| -> Response {
        let Some((day, codec)) = day_of(&archive) else {
            return not_found("that is not the name of an archive");
        };
        let _permit = one.acquire().await;
        let out = out.clone();
        match tokio::task::spawn_blocking(move || contents_of(&out, day, codec)).await {
            Ok(Some(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
            _ => not_found("it has no usable index here; use logcd list"),
        }
    };
    let own = Router::new().route("/page/figures", get(figures)).route("/page/contents", get(contents));
    access.guard(own.merge(kit::page::routes(PAGE))).merge(downloads)
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
    dir: String,
    out: String,
    reasons: String,
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

impl PageSources {
    fn status(&self, cycles: &RecentCycles) -> Option<String> {
        let dir = ArchiveDir::at(&self.out).ok();
        let archives = dir.as_ref().and_then(|dir| dir.archives().ok()).unwrap_or_default();
        let newest = archives.iter().rev().take(ARCHIVES_SHOWN);
        let shown = |(day, codec, bytes): &(Date, Codec, u64)| ArchiveShown {
            name: archive_name(*day, *codec),
            bytes: *bytes,
        };
        serde_json::to_string(&Shown {
            dir: listed(&self.dirs),
            out: self.out.display().to_string(),
            reasons: self.readiness.reasons(),
            disk_free_bytes: dir.and_then(|dir| dir.space().ok()).map(|space| space.available_bytes),
            archives_all: archives.len(),
            archives_bytes: archives.iter().map(|(_, _, bytes)| bytes).sum(),
            archives: newest.map(shown).collect(),
            cycles,
        })
        .ok()
    }
}

/// Reads the index, so that nothing is unpacked, with the same checks as before a cycle.
fn contents_of(out: &Path, day: Date, codec: Codec) -> Option<String> {
    let dir = ArchiveDir::at(out).ok()?;
    let (_, status) = dir.open(&index_name(&archive_name(day, codec))).ok()??;
    if status.stamp.size > INDEX_BYTES_MAX {
        return None;
    }
    let archive = IndexedArchive::load(&dir, day, codec).ok()??;
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

struct Figures {
    sources: PageSources,
    cycles: watch::Receiver<RecentCycles>,
}

impl Source for Figures {
    /// Sends figures after each cycle; an idle daemon sends none.
    async fn next(&mut self) -> Option<(&'static str, String)> {
        self.cycles.changed().await.ok()?;
        let (sources, cycles) = (self.sources.clone(), self.cycles.borrow_and_update().clone());
        let shown = tokio::task::spawn_blocking(move || sources.status(&cycles)).await;
        Some(("figures", shown.ok()??))
    }
}
