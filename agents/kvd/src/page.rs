//! The page on the admin endpoint: keys, rates, the most used keys, and the changes as they happen. It shows
//! key names and sizes, never values.

use crate::drain::Drain;
use crate::hot_keys::{HotKeys, KeyUses};
use crate::http::follower::ChangeFollower;
use crate::keyspace::Keyspace;
use crate::metrics::KvdMetrics;
use crate::store::key::Key;
use axum::Router;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kit::http::events::{Source, Streams};
use kit::lifecycle::readiness::Readiness;
use kit::page::access::Access;
use kit::page::{Page, STREAMS_MAX};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

const PAGE: Page = Page { html: include_str!("page.html"), script: include_str!("page.js") };

/// Interval of the figures. They are computed only while a page is open.
const FIGURES_EVERY: Duration = Duration::from_secs(1);

const HOT_KEYS_SHOWN: usize = 20;

/// The sources of the page's figures.
#[derive(Clone, Debug)]
pub struct PageSources {
    pub keyspace: Keyspace,
    pub bytes_max: u64,
    pub hot_keys: Arc<HotKeys>,
    pub metrics: KvdMetrics,
    pub readiness: Readiness,
    pub drain: Drain,
}

pub fn routes(sources: PageSources, access: Access) -> Router {
    let streams = Streams::at_most(STREAMS_MAX);
    let figures = {
        let (sources, streams) = (sources.clone(), streams.clone());
        async move || streams.tell(Figures { sources: sources.clone(), is_first: true })
    };
    let changes = async move |Query(ChangesQuery { prefix }): Query<ChangesQuery>| -> Response {
        let PageSources { keyspace, drain, metrics, .. } = &sources;
        match keyspace.watch(&prefix, None).await {
            Ok(watcher) => {
                let stopping = drain.stopping().clone();
                let follower = ChangeFollower::new(watcher, stopping, &metrics.watchers);
                streams.tell(follower.without_values()).into_response()
            }
            // A watcher that starts now has missed nothing, so this does not happen.
            Err(error) => error.to_string().into_response(),
        }
    };
    let own = Router::new().route("/page/figures", get(figures)).route("/page/changes", get(changes));
    access.guard(own.merge(kit::page::routes(PAGE)))
}

#[derive(Debug, Deserialize)]
struct ChangesQuery {
    #[serde(default)]
    prefix: String,
}

#[derive(Serialize)]
struct Shown {
    engine: &'static str,
    revision: u64,
    keys: u64,
    bytes: u64,
    cost_bytes: u64,
    bytes_max: u64,
    reads: u64,
    writes: u64,
    commits: u64,
    commit_errors: u64,
    watchers: i64,
    reasons: String,
    is_going_down: bool,
    hot: Vec<HotShown>,
}

#[derive(Serialize)]
struct HotShown {
    key: String,
    reads: u64,
    writes: u64,
}

impl From<(Key, KeyUses)> for HotShown {
    fn from((key, KeyUses { reads, writes }): (Key, KeyUses)) -> HotShown {
        HotShown { key: key.to_string(), reads, writes }
    }
}

impl PageSources {
    fn look(&self) -> Shown {
        let (usage, uses) = (self.keyspace.usage(), self.hot_keys.all());
        let hot = self.hot_keys.hottest(HOT_KEYS_SHOWN).into_iter();
        Shown {
            engine: self.keyspace.engine(),
            revision: self.keyspace.revision(),
            keys: usage.keys,
            bytes: usage.bytes,
            cost_bytes: usage.cost(),
            bytes_max: self.bytes_max,
            reads: uses.reads,
            writes: uses.writes,
            commits: self.metrics.commits.get(),
            commit_errors: self.metrics.commit_errors.get(),
            watchers: self.metrics.watchers.get(),
            reasons: self.readiness.reasons(),
            is_going_down: self.drain.is_going_down(),
            hot: hot.map(HotShown::from).collect(),
        }
    }
}

/// A stream of the figures for the page, once a second.
struct Figures {
    sources: PageSources,
    is_first: bool,
}

impl Source for Figures {
    async fn next(&mut self) -> Option<(&'static str, String)> {
        if !std::mem::take(&mut self.is_first) {
            tokio::time::sleep(FIGURES_EVERY).await;
        }
        Some(("figures", serde_json::to_string(&self.sources.look()).ok()?))
    }
}
