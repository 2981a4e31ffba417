//! Requests to kvd, one function for each.

use crate::flags::Flags;
use crate::wire::{
    WireBatch, WireBatchReply, WireChanged, WireConditionFailed, WireKey, WireOperation, WirePage,
    WireResult, WireStats,
};
use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use kit::caller::{CallError, CallNames, Caller, HttpCall, OpenReply, Reply, ServerOrigin, query};
use kit::exit::Fatal;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use std::time::Duration;

const NAMES: CallNames = CallNames {
    user_agent: concat!("kvctl/", env!("CARGO_PKG_VERSION")),
    server: "kvd",
    variable: "KVD_URL",
};

/// Characters of a key that are not percent-encoded in its path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'~');

/// The condition under which a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    Always,
    IfMatch(u64),
    IfAbsent,
}

/// A value that was read, with its revision and expiry.
#[derive(Clone, Debug)]
pub(crate) struct ReadValue {
    pub(crate) bytes: Bytes,
    pub(crate) revision: u64,
    pub(crate) expires: Option<String>,
}

/// The answer to a batch.
#[derive(Debug)]
pub(crate) enum BatchAnswer {
    /// All operations are done. There is a result for each, in order.
    Done(Vec<WireResult>),
    /// Nothing is done, because the condition of this operation failed.
    ConditionFailed { operation: usize },
}

#[derive(Debug)]
pub(crate) struct Client {
    caller: Caller,
}

/// Returns the URL of a server that is named by its host, or by a URL.
pub(crate) fn url_of(server: &str) -> String {
    if server.contains("://") { server.to_owned() } else { format!("http://{server}") }
}

/// Pages of keys, one after the other.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    prefix: &'a str,
    values: bool,
    /// The key after which the next page starts; `None` after the last page.
    after: Option<String>,
    is_first: bool,
}

fn path_of(key: &str) -> String {
    format!("/v1/keys/{}", utf8_percent_encode(key, IN_PATH))
}

impl Client {
    /// Prepares requests to a server: HOST, HOST:PORT or a URL.
    pub(crate) fn of(server: &str, flags: &Flags) -> Result<Client, Fatal> {
        let origin = ServerOrigin::parse(&url_of(server), &flags.tls)?;
        Ok(Client { caller: Caller::new(origin, NAMES, flags.token_file.clone()) })
    }

    pub(crate) fn server(&self) -> &str {
        self.caller.server()
    }

    /// Reads a value; `None` if the key does not exist.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<ReadValue>, CallError> {
        let reply = match self.caller.call(&HttpCall::new(Method::GET, &path_of(key))).await {
            Err(error) if error.word() == "no_such_key" => return Ok(None),
            other => other?,
        };
        let revision = etag(&reply.headers).ok_or_else(|| self.foreign(&reply))?;
        let expires = reply.headers.get("kvd-expires").and_then(|value| value.to_str().ok());
        Ok(Some(ReadValue { expires: expires.map(str::to_owned), revision, bytes: reply.body }))
    }

    /// Sets a value and returns its revision.
    pub(crate) async fn put(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
        only: Only,
    ) -> Result<u64, CallError> {
        let ttl = ttl.map(|ttl| format!("{}ms", ttl.as_millis()));
        let path = format!("{}{}", path_of(key), query(&[("ttl", ttl.as_deref())]));
        let call = HttpCall { body: value, headers: condition(only), ..HttpCall::new(Method::PUT, &path) };
        let changed: WireChanged = self.parsed(&self.caller.call(&call).await?)?;
        Ok(changed.revision)
    }

    /// Deletes a key and returns the revision of the deletion; `None` if the key does not exist.
    pub(crate) async fn delete(&self, key: &str, only: Only) -> Result<Option<u64>, CallError> {
        let path = path_of(key);
        let call = HttpCall { headers: condition(only), ..HttpCall::new(Method::DELETE, &path) };
        match self.caller.call(&call).await {
            Err(error) if error.word() == "no_such_key" => Ok(None),
            other => Ok(Some(self.parsed::<WireChanged>(&other?)?.revision)),
        }
    }

    /// Reads the keys with a prefix.
    pub(crate) fn pages<'a>(&'a self, prefix: &'a str, values: bool) -> Pages<'a> {
        Pages { client: self, prefix, values, after: None, is_first: true }
    }

    pub(crate) async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        values: bool,
    ) -> Result<WirePage, CallError> {
        let limit = limit.to_string();
        let query = query(&[
            ("prefix", Some(prefix)),
            ("after", after),
            ("limit", Some(&limit)),
            ("values", values.then_some("true")),
        ]);
        self.parsed(&self.caller.call(&HttpCall::new(Method::GET, &format!("/v1/keys{query}"))).await?)
    }

    pub(crate) async fn stats(&self) -> Result<WireStats, CallError> {
        self.parsed(&self.caller.call(&HttpCall::new(Method::GET, "/v1/stats")).await?)
    }

    /// Applies all operations, or none.
    pub(crate) async fn batch(&self, operations: &[&WireOperation]) -> Result<BatchAnswer, CallError> {
        // Text and numbers always serialize.
        let body = serde_json::to_vec(&WireBatch { operations }).unwrap_or_default();
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let call = HttpCall { headers, body: body.into(), ..HttpCall::new(Method::POST, "/v1/batch") };
        let reply = self.caller.call_any(&call).await?;
        if reply.status == StatusCode::PRECONDITION_FAILED {
            let WireConditionFailed { operation } = self.parsed(&reply)?;
            return Ok(BatchAnswer::ConditionFailed { operation });
        }
        let WireBatchReply { results } = self.parsed(&self.caller.accepted(reply)?)?;
        Ok(BatchAnswer::Done(results))
    }

    /// Opens the stream of changes.
    pub(crate) async fn watch(&self, prefix: &str, after: Option<u64>) -> Result<OpenReply, CallError> {
        let after = after.map(|after| after.to_string());
        let query = query(&[("prefix", Some(prefix)), ("after", after.as_deref())]);
        self.caller.stream(&HttpCall::new(Method::GET, &format!("/v1/watch{query}"))).await
    }

    pub(crate) async fn backup(&self) -> Result<OpenReply, CallError> {
        self.caller.stream(&HttpCall::new(Method::GET, "/v1/backup")).await
    }

    /// Sends a request to the course's door. An answer with any status is returned.
    pub(crate) async fn course(&self, path: &str) -> Result<Reply, CallError> {
        self.caller.call_any(&HttpCall::new(Method::GET, path)).await
    }

    fn parsed<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, CallError> {
        serde_json::from_slice(&reply.body).map_err(|_| self.foreign(reply))
    }

    fn foreign(&self, reply: &Reply) -> CallError {
        self.caller.not_the_server(reply.status, &reply.body)
    }
}

impl Pages<'_> {
    /// Returns the keys of the next page, of at most this many; `None` after the last page.
    pub(crate) async fn next(&mut self, keys_max: usize) -> Result<Option<Vec<WireKey>>, CallError> {
        if !std::mem::take(&mut self.is_first) && self.after.is_none() {
            return Ok(None);
        }
        let page = self.client.page(self.prefix, self.after.as_deref(), keys_max, self.values).await?;
        self.after = page.next;
        Ok(Some(page.keys))
    }

    /// Starts after this key.
    pub(crate) fn after(self, after: Option<String>) -> Self {
        Pages { after, ..self }
    }
}

fn etag(headers: &HeaderMap) -> Option<u64> {
    headers.get(ETAG)?.to_str().ok()?.trim_matches('"').parse().ok()
}

fn condition(only: Only) -> Vec<(HeaderName, HeaderValue)> {
    match only {
        Only::Always => Vec::new(),
        Only::IfMatch(revision) => vec![(IF_MATCH, HeaderValue::from(revision))],
        Only::IfAbsent => vec![(IF_NONE_MATCH, HeaderValue::from_static("*"))],
    }
}
