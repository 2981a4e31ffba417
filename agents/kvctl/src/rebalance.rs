//! `kvctl rebalance`: moves each key to the server where it belongs, while clients use both.

use crate::api::{Client, Only, ReadValue};
use crate::flags::{Flags, Keep, Rebalance};
use crate::moving::{Held, MARKS, MoveStep, NOTES, PROBES, Situation, is_ordinary, mark_of, note_of};
use crate::output::write_line;
use crate::wire::{WireMatch, WireOperation, WireValue};
use axum::body::Bytes;
use jiff::Timestamp;
use kit::caller::{CallError, ServerOrigin};
use kit::exit::{Exit, Fatal};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// The number of keys in one page.
const PAGE_KEYS: usize = 500;

/// Limit on the steps for one key. A step is repeated only if a client changed the key in between.
const STEPS_MAX: usize = 1000;

/// The time to live of a probe, in case a killed run leaves it.
const PROBE_TTL: Duration = Duration::from_secs(60);

/// Limit on the conflicting keys that the message names.
const CONFLICTS_NAMED: usize = 10;

/// The servers by their URLs.
struct Servers {
    by_url: BTreeMap<String, Client>,
}

impl Servers {
    fn connect(urls: impl IntoIterator<Item = String>, flags: &Flags) -> Result<Servers, Fatal> {
        let connect = |url: String| {
            let client = Client::new(ServerOrigin::parse(&url, &flags.tls)?, flags.token_file.clone());
            Ok((url, client))
        };
        Ok(Servers { by_url: urls.into_iter().map(connect).collect::<Result<_, Fatal>>()? })
    }

    /// Fails if two URLs lead to the same server. A key there would be taken for its own copy, and deleted.
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

    /// Returns a server. Fails if a note or a mark names a server that the command line does not.
    fn get(&self, url: &str, key: &str) -> Result<&Client, Fatal> {
        self.by_url.get(url).ok_or_else(|| {
            let message = format!(
                "the move of {key:?} is not finished, and {url} is not among the servers: name it too"
            );
            Fatal::new(Exit::Usage, message)
        })
    }
}

fn url_of(server: &str) -> String {
    if server.contains("://") { server.to_owned() } else { format!("http://{server}") }
}

#[derive(Debug, Default)]
struct Tally {
    moved: u64,
    stayed: u64,
    conflicts: Vec<String>,
}

pub(crate) async fn rebalance(rebalance: &Rebalance, flags: &Flags) -> Result<Exit, Fatal> {
    let to_be: Vec<String> = rebalance.to_be.iter().map(|server| url_of(server)).collect();
    let all = rebalance.as_is.iter().map(|server| url_of(server)).chain(to_be.iter().cloned());
    let servers = Servers::connect(all, flags)?;
    servers.check_distinct().await?;
    let mut tally = Tally::default();
    finish_moves(&servers, rebalance.keep, &mut tally).await?;
    for (url, client) in &servers.by_url {
        let mut after = None;
        loop {
            let page = client.page("", after.as_deref(), PAGE_KEYS, false).await;
            let page = page.map_err(|error| failed(client, error))?;
            for key in page.keys.iter().map(|key| key.key.as_str()).filter(|key| is_ordinary(key)) {
                let target = &to_be[rebalance.placement.server_of(key, to_be.len())];
                if target == url {
                    tally.stayed += 1;
                } else {
                    let (source, target) =
                        ((url.as_str(), client), (target.as_str(), servers.get(target, key)?));
                    move_key(key, source, target, rebalance.keep, &mut tally).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    finish(&tally, flags.json)
}

fn finish(tally: &Tally, json: bool) -> Result<Exit, Fatal> {
    let Tally { moved, stayed, conflicts } = tally;
    if json {
        write_line(&json!({ "moved": moved, "stayed": stayed, "conflicts": conflicts }))?;
    } else {
        write_line(&format!("moved {moved}, stayed {stayed}, conflicts {}", conflicts.len()))?;
    }
    if conflicts.is_empty() {
        return Ok(Exit::Ok);
    }
    let named: Vec<String> = conflicts.iter().take(CONFLICTS_NAMED).map(|key| format!("{key:?}")).collect();
    let message = format!(
        "{} keys have another value on both servers, such as {}: --keep source or --keep target decides",
        conflicts.len(),
        named.join(", ")
    );
    Err(Fatal::new(Exit::Data, message))
}

/// Finishes the moves that an earlier run began. Their notes and marks name the other server.
async fn finish_moves(servers: &Servers, keep: Option<Keep>, tally: &mut Tally) -> Result<(), Fatal> {
    for (url, client) in &servers.by_url {
        for prefix in [NOTES, MARKS] {
            let mut after = None;
            loop {
                let page = client.page(prefix, after.as_deref(), PAGE_KEYS, true).await;
                let page = page.map_err(|error| failed(client, error))?;
                for entry in &page.keys {
                    let key = entry.key.strip_prefix(prefix).unwrap_or_default();
                    let other = entry.value.as_ref().and_then(WireValue::bytes).unwrap_or_default();
                    let other = String::from_utf8_lossy(&other).into_owned();
                    let (here, there) = ((url.as_str(), client), (other.as_str(), servers.get(&other, key)?));
                    let (source, target) = if prefix == NOTES { (there, here) } else { (here, there) };
                    move_key(key, source, target, keep, tally).await?;
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn failed(client: &Client, error: CallError) -> Fatal {
    error.fatal(format!("cannot rebalance the keys at {}", client.server()))
}

/// A server with its URL, by which notes and marks name it.
type Server<'a> = (&'a str, &'a Client);

/// A key that is being moved.
struct Move<'a> {
    key: &'a str,
    source: Server<'a>,
    target: Server<'a>,
    keep: Option<Keep>,
}

/// The values at both servers.
struct Found {
    source: Option<ReadValue>,
    mark: Option<ReadValue>,
    target: Option<ReadValue>,
    note: Option<ReadValue>,
}

/// Applies one step after another until the key has moved. May continue an earlier move.
async fn move_key(
    key: &str,
    source: Server<'_>,
    target: Server<'_>,
    keep: Option<Keep>,
    tally: &mut Tally,
) -> Result<(), Fatal> {
    let this = Move { key, source, target, keep };
    for _ in 0..STEPS_MAX {
        let found = this.look().await?;
        let step = found.situation().next_step();
        if step == MoveStep::Done {
            return Ok(());
        }
        let Some(((_, server), operations)) = this.operations(step, &found) else {
            tally.conflicts.push(key.to_owned());
            return Ok(());
        };
        match server.batch(&operations).await {
            Ok(()) if matches!(step, MoveStep::DeleteAtSource { .. }) => tally.moved += 1,
            Ok(()) => {}
            // A client has changed the key: look again.
            Err(error) if error.word() == "condition_failed" => {}
            Err(error) => return Err(failed(server, error)),
        }
    }
    let message = format!("{key:?} changes too often to be moved; try again later");
    Err(Fatal::new(Exit::TryAgain, message))
}

impl<'a> Move<'a> {
    /// Reads the source first. A later step deletes this revision there, so it must be compared with what the
    /// target has after it.
    async fn look(&self) -> Result<Found, Fatal> {
        let (note, mark) = (note_of(self.key), mark_of(self.key));
        let source = read(self.source, self.key).await?;
        let mark = read(self.source, &mark).await?;
        let target = read(self.target, self.key).await?;
        Ok(Found { source, mark, target, note: read(self.target, &note).await? })
    }

    /// Returns the batch for a step, and its server; `None` for a conflict without `--keep`.
    fn operations(&self, step: MoveStep, found: &Found) -> Option<(Server<'a>, Vec<WireOperation>)> {
        let (note, mark) = (note_of(self.key), mark_of(self.key));
        let absent = || (None, Some(WireMatch::any()));
        let over = |revision| (Some(WireMatch::Revision(revision)), None);
        let delete_at_source = |revision| {
            let place = WireValue::new(self.target.0.as_bytes().to_vec());
            (self.source, vec![WireOperation::put(&mark, place), WireOperation::delete(self.key, revision)])
        };
        Some(match step {
            MoveStep::Copy => (self.target, self.copy(found.source.as_ref()?, absent(), absent())),
            MoveStep::CopyAgain { copy, note } => {
                let of_key = copy.map_or_else(absent, over);
                (self.target, self.copy(found.source.as_ref()?, of_key, over(note)))
            }
            MoveStep::DeleteAtSource { source } => delete_at_source(source),
            MoveStep::RemoveNote { note: revision } => {
                (self.target, vec![WireOperation::delete(&note, revision)])
            }
            MoveStep::RemoveMark { mark: revision } => {
                (self.source, vec![WireOperation::delete(&mark, revision)])
            }
            MoveStep::RemoveCopy { copy, note: noted } => {
                let operations =
                    vec![WireOperation::delete(self.key, copy), WireOperation::delete(&note, noted)];
                (self.target, operations)
            }
            MoveStep::Conflict => match self.keep? {
                Keep::Target => delete_at_source(found.source.as_ref()?.revision),
                Keep::Source => {
                    let other = found.target.as_ref()?.revision;
                    (self.target, self.copy(found.source.as_ref()?, over(other), absent()))
                }
            },
            MoveStep::Done => return None,
        })
    }

    /// Puts the key before the note, so that the note has the next revision.
    fn copy(&self, value: &ReadValue, of_key: Conditions, of_note: Conditions) -> Vec<WireOperation> {
        let mut put = WireOperation::put(self.key, WireValue::new(value.bytes.to_vec()));
        put.ttl = value.expires.as_deref().and_then(ttl_until);
        (put.if_match, put.if_none_match) = of_key;
        let mut note =
            WireOperation::put(&note_of(self.key), WireValue::new(self.source.0.as_bytes().to_vec()));
        (note.if_match, note.if_none_match) = of_note;
        vec![put, note]
    }
}

impl Found {
    fn situation(&self) -> Situation<'_> {
        let revision = |value: &ReadValue| value.revision;
        Situation {
            source: self.source.as_ref().map(as_held),
            mark: self.mark.as_ref().map(revision),
            target: self.target.as_ref().map(as_held),
            note: self.note.as_ref().map(revision),
        }
    }
}

fn as_held(value: &ReadValue) -> Held<'_> {
    Held { bytes: &value.bytes, revision: value.revision, expires: value.expires.is_some() }
}

async fn read((_, server): Server<'_>, key: &str) -> Result<Option<ReadValue>, Fatal> {
    server.get(key).await.map_err(|error| failed(server, error))
}

/// The conditions of an operation: `if_match` and `if_none_match`.
type Conditions = (Option<WireMatch>, Option<WireMatch>);

/// Returns the remaining time to live, at least a millisecond. Measured by the clock of this host.
fn ttl_until(expires: &str) -> Option<String> {
    let expires: Timestamp = expires.parse().ok()?;
    let left_ms = expires.duration_since(Timestamp::now()).as_millis().max(1);
    Some(format!("{left_ms}ms"))
}
