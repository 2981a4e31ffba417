//! The commands for keys: get, put, delete, cas and list.

use crate::api::{Client, Only};
use crate::flags;
use crate::output::one_line;
use crate::value_source;
use crate::wire::{WireKey, WireValue};
use kit::caller::CallError;
use kit::exit::{Exit, Fatal};
use kit::terminal;
use serde_json::json;

/// The number of keys in one page.
const PAGE_KEYS: usize = 1000;

/// Builds the error for a failed request. The exit code is 65 if a condition failed.
fn failed(client: &Client, what: &str, key: &str, error: CallError) -> Fatal {
    let message = format!("cannot {what} {key:?} at {}", client.server());
    match error.word() {
        "condition_failed" => Fatal::new(Exit::Data, message).because(error),
        _ => error.fatal(message),
    }
}

fn missing(client: &Client, keys: &[&str]) -> Fatal {
    let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    let noun = if keys.len() == 1 { "key" } else { "keys" };
    Fatal::new(Exit::Failure, format!("no {noun} {} at {}", keys.join(", "), client.server()))
}

pub(crate) async fn get(client: &Client, get: &flags::Get, json: bool) -> Result<Exit, Fatal> {
    let value = client.get(&get.key).await.map_err(|error| failed(client, "get", &get.key, error))?;
    let value = value.ok_or_else(|| missing(client, &[&get.key]))?;
    if !json {
        terminal::bytes(&value.bytes)?;
        return Ok(Exit::Ok);
    }
    let object = WireKey {
        key: get.key.clone(),
        revision: value.revision,
        bytes: u64::try_from(value.bytes.len()).ok(),
        expires: value.expires,
        value: Some(WireValue::new(value.bytes.to_vec())),
    };
    terminal::line(&json!(object))?;
    Ok(Exit::Ok)
}

pub(crate) async fn put(client: &Client, put: &flags::Put, json: bool) -> Result<Exit, Fatal> {
    let value = value_source::read(put.value.as_deref(), put.file.as_deref())?;
    let only = match put.if_match {
        Some(revision) => Only::IfMatch(revision),
        None if put.if_absent => Only::IfAbsent,
        None => Only::Always,
    };
    let revision = client.put(&put.key, value, put.ttl, only).await;
    let revision = revision.map_err(|error| failed(client, "put", &put.key, error))?;
    changed(&put.key, revision, json)
}

fn changed(key: &str, revision: u64, json: bool) -> Result<Exit, Fatal> {
    if json {
        terminal::line(&json!({ "key": key, "revision": revision }))?;
    }
    Ok(Exit::Ok)
}

/// Deletes all keys that exist. Fails at the end if some did not, like rm(1).
pub(crate) async fn delete(client: &Client, delete: &flags::Delete, json: bool) -> Result<Exit, Fatal> {
    let only = delete.if_match.map_or(Only::Always, Only::IfMatch);
    let mut gone = Vec::new();
    for key in &delete.keys {
        match client.delete(key, only).await.map_err(|error| failed(client, "delete", key, error))? {
            Some(revision) => {
                changed(key, revision, json)?;
            }
            None => gone.push(key.as_str()),
        }
    }
    if gone.is_empty() { Ok(Exit::Ok) } else { Err(missing(client, &gone)) }
}

/// Compares and sets. If another client changes the key in between, the value is compared again.
pub(crate) async fn cas(client: &Client, cas: &flags::Cas, json: bool) -> Result<Exit, Fatal> {
    let old = value_source::read(cas.old.old.as_deref(), cas.old.old_file.as_deref())?;
    let new = value_source::read(cas.new.new.as_deref(), cas.new.new_file.as_deref())?;
    loop {
        let present = client.get(&cas.key).await.map_err(|error| failed(client, "get", &cas.key, error))?;
        let Some(present) = present.filter(|present| present.bytes == old) else {
            let message = format!("the value of {:?} at {} is not the old one", cas.key, client.server());
            return Err(Fatal::new(Exit::Data, message));
        };
        let only = Only::IfMatch(present.revision);
        match client.put(&cas.key, new.clone(), cas.ttl, only).await {
            Ok(revision) => return changed(&cas.key, revision, json),
            Err(error) if error.word() == "condition_failed" => {}
            Err(error) => return Err(failed(client, "put", &cas.key, error)),
        }
    }
}

pub(crate) async fn list(client: &Client, list: &flags::List, json: bool) -> Result<Exit, Fatal> {
    let mut pages = client.pages(&list.prefix, list.values).after(list.after.clone());
    let mut left = list.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let page = pages.next(left.min(PAGE_KEYS)).await;
        let page = page.map_err(|e| e.fatal(format!("cannot list the keys at {}", client.server())))?;
        let Some(keys) = page else { break };
        left = left.saturating_sub(keys.len());
        let mut lines = String::new();
        for key in keys {
            match (json, &key.value) {
                (true, _) => lines.push_str(&json!(key).to_string()),
                (false, None) => lines.push_str(&key.key),
                (false, Some(value)) => {
                    let value = one_line(&value.bytes().unwrap_or_default());
                    lines.push_str(&format!("{}\t{value}", key.key));
                }
            }
            lines.push('\n');
        }
        terminal::bytes(lines.as_bytes())?;
    }
    Ok(Exit::Ok)
}
