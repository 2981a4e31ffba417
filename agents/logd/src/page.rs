//! The page on the admin endpoint: what arrives, from which peers, onto which disk; and the lines themselves,
//! if enabled.

use crate::file::rotated::{self, directory_of};
use crate::file::rotation::{Rotated, RotationPolicy};
use crate::line_filter::LineFilter;
use crate::metrics::LogdMetrics;
use crate::newest_lines::NewestLines;
use crate::peers::{PeerView, Peers};
use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kit::disk::free_space::Space;
use kit::http::events::{Source, Streams};
use kit::lifecycle::readiness::Readiness;
use kit::page::access::Access;
use kit::page::history::INTERVAL;
use kit::page::{Page, STREAMS_MAX};
use kit::settings::time::parse_time;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const PAGE: Page = Page { html: include_str!("page.html"), script: include_str!("page.js") };
/// Path of the stream of figures; `logd stats` listens, too.
pub(crate) const FIGURES: &str = "/page/figures";
/// Interval of the figures. They are computed only while a page is open.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
const LINES_EVERY: Duration = Duration::from_millis(250);
const PEERS_SHOWN: usize = 20;
const ROTATED_SHOWN: usize = 20;

/// Sources of the page's figures.
#[derive(Clone, Debug)]
pub struct PageSources {
    pub file: PathBuf,
    pub policy: watch::Receiver<RotationPolicy>,
    pub metrics: LogdMetrics,
    pub peers: Peers,
    pub readiness: Readiness,
    /// True with `--show-lines`: everybody who sees the page sees the log's content.
    pub lines: bool,
}

pub fn routes(sources: PageSources, access: Access) -> Router {
    let streams = Streams::at_most(STREAMS_MAX);
    let (file, lines, line_streams) = (sources.file.clone(), sources.lines, streams.clone());
    let figures = async move || streams.tell(Figures { sources: sources.clone(), next: NextEvent::History });
    let newest_lines = async move |Query(query): Query<LinesQuery>| -> Response {
        if !lines {
            return (StatusCode::FORBIDDEN, "lines are not shown: logd was started without --show-lines\n")
                .into_response();
        }
        match query.filter() {
            Ok(filter) => line_streams
                .tell(Lines { newest: Some(NewestLines::new(file.clone(), filter)) })
                .into_response(),
            Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
        }
    };
    let own = Router::new().route(FIGURES, get(figures)).route("/page/lines", get(newest_lines));
    access.guard(own.merge(kit::page::routes(PAGE)))
}

/// The page's request for lines; an empty field does not filter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LinesQuery {
    with: String,
    /// True if `with` is a regular expression, not text.
    regex: bool,
    since: String,
    until: String,
}

impl LinesQuery {
    fn filter(&self) -> Result<LineFilter, String> {
        let time = |text: &str| (!text.is_empty()).then(|| parse_time(text)).transpose();
        let pattern = if self.regex { self.with.clone() } else { regex::escape(&self.with) };
        let grep = (!pattern.is_empty()).then(|| Regex::new(&pattern)).transpose();
        Ok(LineFilter {
            since: time(&self.since)?,
            until: time(&self.until)?,
            grep: grep.map_err(|e| format!("no regular expression: {e}"))?,
        })
    }
}

/// Samples of the plotted figures; the newest is the current one.
#[derive(Debug, Serialize)]
struct Past {
    interval_ms: u128,
    rows: Vec<Vec<u64>>,
}

/// The figures of a logd at one moment, as it sends them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) connections: u64,
    pub(crate) connections_open: i64,
    pub(crate) receipts: u64,
    pub(crate) lines: u64,
    pub(crate) received_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) pending_bytes: i64,
    pub(crate) syncs: u64,
    pub(crate) sync_errors: u64,
    pub(crate) write_errors: u64,
    pub(crate) rotations: u64,
    pub(crate) reasons: String,
    pub(crate) file: String,
    pub(crate) file_bytes: i64,
    pub(crate) rotate_bytes: u64,
    pub(crate) rotate_age_ms: u128,
    pub(crate) keep_files: usize,
    pub(crate) keep_bytes: u64,
    pub(crate) rotated: usize,
    pub(crate) rotated_bytes: u64,
    pub(crate) newest: Vec<RotatedShown>,
    pub(crate) disk_free_bytes: Option<u64>,
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) peers: Vec<PeerShown>,
    pub(crate) lines_are_shown: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RotatedShown {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) compressed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PeerShown {
    /// `None` for all other peers together.
    pub(crate) address: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
    pub(crate) open: usize,
}

impl From<PeerView> for PeerShown {
    fn from(peer: PeerView) -> PeerShown {
        let PeerView { address, bytes, connections, open } = peer;
        PeerShown { address: address.map(|address| address.to_string()), bytes, connections, open }
    }
}

impl From<Rotated> for RotatedShown {
    fn from(Rotated { name, bytes, compressed, .. }: Rotated) -> RotatedShown {
        RotatedShown { name, bytes, compressed }
    }
}

impl PageSources {
    fn past(&self) -> Past {
        let mut rows = self.metrics.history.rows(Instant::now());
        rows.push([&[0], &self.metrics.shown()[..]].concat());
        Past { interval_ms: INTERVAL.as_millis(), rows }
    }

    fn look(&self) -> Shown {
        let policy = self.policy.borrow().clone();
        let rotated = rotated::list(&self.file).unwrap_or_default();
        let (disk_free_bytes, disk_bytes) = Space::at(&directory_of(&self.file))
            .ok()
            .map(|space| (space.available_bytes, space.capacity_bytes))
            .unzip();
        let metrics = &self.metrics;
        Shown {
            connections: metrics.connections.get(),
            connections_open: metrics.connections_open.get(),
            receipts: metrics.receipts.get(),
            lines: metrics.lines.get(),
            received_bytes: metrics.received_bytes.get(),
            written_bytes: metrics.written_bytes.get(),
            pending_bytes: metrics.pending_bytes.get(),
            syncs: metrics.syncs.get(),
            sync_errors: metrics.sync_errors.get(),
            write_errors: metrics.write_errors.get(),
            rotations: metrics.rotations.get(),
            reasons: self.readiness.reasons(),
            file: self.file.display().to_string(),
            file_bytes: metrics.file_bytes.get(),
            rotate_bytes: policy.rotate_bytes,
            rotate_age_ms: policy.rotate_age.as_millis(),
            keep_files: policy.keep_files,
            keep_bytes: policy.keep_bytes,
            rotated: rotated.len(),
            rotated_bytes: rotated.iter().map(|file| file.bytes).sum(),
            newest: rotated.into_iter().rev().take(ROTATED_SHOWN).map(RotatedShown::from).collect(),
            disk_free_bytes,
            disk_bytes,
            peers: self.peers.largest(PEERS_SHOWN).into_iter().map(PeerShown::from).collect(),
            lines_are_shown: self.lines,
        }
    }
}

/// The stream for the page and `logd stats`: first the past, then the figures once a second.
struct Figures {
    sources: PageSources,
    next: NextEvent,
}

#[derive(Clone, Copy)]
enum NextEvent {
    History,
    FirstFigures,
    Figures,
}

impl Source for Figures {
    async fn next(&mut self) -> Option<(&'static str, String)> {
        match self.next {
            NextEvent::History => {
                self.next = NextEvent::FirstFigures;
                return Some(("history", serde_json::to_string(&self.sources.past()).ok()?));
            }
            NextEvent::FirstFigures => self.next = NextEvent::Figures,
            NextEvent::Figures => tokio::time::sleep(FIGURES_EVERY).await,
        }
        let sources = self.sources.clone();
        // A directory on a slow disk must not keep the probes waiting.
        let shown = tokio::task::spawn_blocking(move || serde_json::to_string(&sources.look()).ok()).await;
        Some(("figures", shown.ok()??))
    }
}

struct Lines {
    /// `None` while a thread reads from it.
    newest: Option<NewestLines>,
}

impl Source for Lines {
    async fn next(&mut self) -> Option<(&'static str, String)> {
        loop {
            let mut newest = self.newest.take()?;
            let looked = tokio::task::spawn_blocking(move || (newest.look(), newest)).await;
            let (news, newest) = looked.ok()?;
            self.newest = Some(newest);
            // While the file is missing, there are no new lines.
            if let Ok(news) = news
                && !news.is_empty()
            {
                return Some(("lines", serde_json::to_string(&news).ok()?));
            }
            tokio::time::sleep(LINES_EVERY).await;
        }
    }
}
