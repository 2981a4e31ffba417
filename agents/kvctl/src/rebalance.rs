//! `kvctl rebalance`: moves each key to the server where it belongs, while clients use the servers.

use crate::api::{Client, Only, ReadValue, url_of};
use crate::flags::{Flags, Keep, Rebalance};
use crate::moving::names::{self, MARKS, NOTES, PROBES, is_ordinary};
use crate::moving::{MovingKey, NamedServer, Route, failed};
use crate::wire::{WireKey, WireValue};
use axum::body::Bytes;
use kit::exit::{Exit, Fatal};
use kit::terminal;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// The number of keys in one page. The moves of a page share batches.
const PAGE_KEYS: usize = 500;

/// The time to live of a probe, so that a killed run does not leave it for ever.
const PROBE_TTL: Duration = Duration::from_secs(60);

/// Limit on the conflicting keys that the final error names.
const CONFLICTS_NAMED: usize = 10;

/// A client for each server, by URL.
struct Servers {
    by_url: BTreeMap<String, Client>,
}

impl Servers {
    fn connect(urls: impl IntoIterator<Item = String>, flags: &Flags) -> Result<Servers, Fatal> {
        let connect = |url: String| {
            let client = Client::of(&url, flags)?;
            Ok((url, client))
        };
        Ok(Servers { by_url: urls.into_iter().map(connect).collect::<Result<_, Fatal>>()? })
    }

    /// Fails if two URLs lead to the same server: a key there would look like its own copy, and be deleted.
    ///
    /// Puts a probe named after each URL at that URL's server, then looks there for probes of other URLs.
    async fn check_distinct(&self) -> Result<(), Fatal> {
        for (url, client) in &self.by_url {
            let probe = format!("{PROBES}{url}");
            let put = client.put(&probe, Bytes::new(), Some(PROBE_TTL), Only::Always).await;
            put.map_err(|error| failed(client, error))?;
        }
        let mut same = None;
        for (url, client) in &self.by_url {
            let page = client.page(PROBES, None, PAGE_KEYS, false).await;
            for probe in page.map_err(|error| failed(client, error))?.keys {
                let other = probe.key.strip_prefix(PROBES).unwrap_or_default();
                if other != url && self.by_url.contains_key(other) {
                    same = Some((url, other.to_owned()));
                }
                let removed = client.delete(&probe.key, Only::Always).await;
                removed.map_err(|error| failed(client, error))?;
            }
        }
        match same {
            None => Ok(()),
            Some((url, other)) => {
                let message = format!("{url} and {other} are the same server: name it in one way");
                Err(Fatal::new(Exit::Usage, message))
            }
        }
    }

    /// Returns the server with this URL. Fails if a note or a mark of `key` names it, but the command line
    /// does not.
    fn place<'a>(&'a self, url: &'a str, key: &str) -> Result<NamedServer<'a>, Fatal> {
        let client = self.by_url.get(url).ok_or_else(|| {
            let message = format!(
                "the move of {key:?} is not finished, and {url} is not among the servers: name it too"
            );
            Fatal::new(Exit::Usage, message)
        })?;
        Ok(NamedServer { url, client })
    }

    /// Returns the route from one server to another. `key` names the move in an error.
    fn route<'a>(
        &'a self,
        source: &'a str,
        target: &'a str,
        keep: Option<Keep>,
        key: &str,
    ) -> Result<Route<'a>, Fatal> {
        Ok(Route { source: self.place(source, key)?, target: self.place(target, key)?, keep })
    }
}

/// The result of a run: numbers of keys, and the keys in conflict.
#[derive(Debug, Default)]
struct Tally {
    moved: u64,
    stayed: u64,
    conflicts: Vec<String>,
    /// The keys that this run has moved to each server.
    arrived: BTreeMap<String, u64>,
}

pub(crate) async fn rebalance(rebalance: &Rebalance, flags: &Flags) -> Result<Exit, Fatal> {
    let to_be: Vec<String> = rebalance.to_be.iter().map(|server| url_of(server)).collect();
    let all = rebalance.as_is.iter().map(|server| url_of(server)).chain(to_be.iter().cloned());
    let servers = Servers::connect(all, flags)?;
    servers.check_distinct().await?;
    let mut run = Run { servers: &servers, keep: rebalance.keep, tally: Tally::default() };
    run.finish_moves().await?;
    for url in servers.by_url.keys() {
        run.empty(url, |key| &to_be[rebalance.placement.server_of(key, to_be.len())]).await?;
    }
    finish(&run.tally, flags.json)
}

/// One run of `kvctl rebalance`.
struct Run<'a> {
    servers: &'a Servers,
    keep: Option<Keep>,
    tally: Tally,
}

impl Run<'_> {
    /// Finishes the moves that an earlier run began. A note or a mark shows each, and names the other server.
    async fn finish_moves(&mut self) -> Result<(), Fatal> {
        let servers = self.servers;
        for (url, client) in &servers.by_url {
            for prefix in [NOTES, MARKS] {
                let mut pages = client.pages(prefix, true);
                while let Some(page) = pages.next(PAGE_KEYS).await.map_err(|error| failed(client, error))? {
                    let mut by_other: BTreeMap<String, Vec<MovingKey>> = BTreeMap::new();
                    for entry in page {
                        let content = entry.value.as_ref().and_then(WireValue::bytes).unwrap_or_default();
                        let content = String::from_utf8_lossy(&content);
                        let (other, key) = names::read(prefix, &entry.key, &content);
                        let moving = MovingKey::unknown(key.to_owned());
                        by_other.entry(other.to_owned()).or_default().push(moving);
                    }
                    for (other, keys) in by_other {
                        let (source, target) = if prefix == NOTES { (&other, url) } else { (url, &other) };
                        let first = keys.first().map(MovingKey::key).unwrap_or_default().to_owned();
                        let route = servers.route(source, target, self.keep, &first)?;
                        self.move_keys(route, keys).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves the keys of one server that belong elsewhere. `home` returns the URL where a key belongs.
    async fn empty<'b>(&mut self, url: &str, home: impl Fn(&str) -> &'b String) -> Result<(), Fatal> {
        let servers = self.servers;
        let Some(client) = servers.by_url.get(url) else { return Ok(()) };
        let mut stayed = 0_u64;
        let mut pages = client.pages("", true);
        while let Some(page) = pages.next(PAGE_KEYS).await.map_err(|error| failed(client, error))? {
            let mut by_target: BTreeMap<&str, Vec<(String, ReadValue)>> = BTreeMap::new();
            for entry in page.into_iter().filter(|entry| is_ordinary(&entry.key)) {
                let target = home(&entry.key);
                if target == url {
                    stayed += 1;
                } else {
                    let value = read_value(&entry).ok_or_else(|| {
                        let message = format!("{} sent a key without a value", client.server());
                        Fatal::new(Exit::Failure, message)
                    })?;
                    by_target.entry(target).or_default().push((entry.key, value));
                }
            }
            for (target, values) in by_target {
                let route = servers.route(url, target, self.keep, "")?;
                let keys = route.survey(values).await?;
                self.move_keys(route, keys).await?;
            }
        }
        // Keys that this run has moved here are already counted as moved.
        self.tally.stayed += stayed.saturating_sub(self.tally.arrived.get(url).copied().unwrap_or_default());
        Ok(())
    }

    async fn move_keys(&mut self, route: Route<'_>, keys: Vec<MovingKey>) -> Result<(), Fatal> {
        let moved = route.move_keys(keys).await?;
        self.tally.moved += moved.keys;
        *self.tally.arrived.entry(route.target.url.to_owned()).or_default() += moved.keys;
        self.tally.conflicts.extend(moved.conflicts);
        Ok(())
    }
}

fn read_value(entry: &WireKey) -> Option<ReadValue> {
    let bytes = entry.value.as_ref()?.bytes()?.into();
    Some(ReadValue { bytes, revision: entry.revision, expires: entry.expires.clone() })
}

fn finish(tally: &Tally, json: bool) -> Result<Exit, Fatal> {
    let Tally { moved, stayed, conflicts, .. } = tally;
    if json {
        terminal::line(&json!({ "moved": moved, "stayed": stayed, "conflicts": conflicts }))?;
    } else {
        terminal::line(&format!("moved {moved}, stayed {stayed}, conflicts {}", conflicts.len()))?;
    }
    if conflicts.is_empty() {
        return Ok(Exit::Ok);
    }
    let named: Vec<String> = conflicts.iter().take(CONFLICTS_NAMED).map(|key| format!("{key:?}")).collect();
    let message = format!(
        "{} keys have different values on the two servers, such as {}: --keep source or --keep target decides",
        conflicts.len(),
        named.join(", ")
    );
    Err(Fatal::new(Exit::Data, message))
}
