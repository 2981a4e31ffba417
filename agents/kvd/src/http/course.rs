//! The door of the Kubernetes course whose key/value server kvd replaces, to the byte: `/save/KEY/VALUE`,
//! `/load/KEY` and `/allKeys`.

use super::Doors;
use super::tokens::{KeyRight, KeyScope};
use crate::keyspace::Keyspace;
use crate::store::contract::{KeyRange, StoreError};
use crate::store::evaluation::{Action, Condition, Operation};
use crate::store::key::{Key, KeyError};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kit::http::body::BodyBudget;
use kit::http::error_answer::ErrorAnswer;
use kit::http::origin::is_of_another_site;
use percent_encoding::percent_decode_str;

const KEY_NOT_FOUND: &str = "_key_not_found_";
const SHUTTING_DOWN: &str = "_shutting_down_";

/// Limits on one piece of `/allKeys`: the number and the bytes of its keys.
const PIECE_KEYS: usize = 1000;
const PIECE_BYTES: usize = 64 << 10;

/// The resource that a path names. Its parts are still percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CourseRoute<'a> {
    Save(&'a str, &'a str),
    Load(&'a str),
    AllKeys,
}

impl CourseRoute<'_> {
    fn of(path: &str) -> Option<CourseRoute<'_>> {
        if path == "/allKeys" {
            return Some(CourseRoute::AllKeys);
        }
        let is_part = |part: &&str| !part.is_empty() && !part.contains('/') && !has_encoded_slash(part);
        if let Some(rest) = path.strip_prefix("/save/")
            && let Some((key, value)) = rest.split_once('/')
            && [key, value].iter().all(is_part)
        {
            return Some(CourseRoute::Save(key, value));
        }
        path.strip_prefix("/load/").filter(is_part).map(CourseRoute::Load)
    }
}

/// True if the part contains an encoded slash, which divides parts as a plain one does.
fn has_encoded_slash(part: &str) -> bool {
    part.as_bytes().windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"%2f"))
}

pub async fn answer(State(doors): State<Doors>, request: Request) -> Response {
    let route = CourseRoute::of(request.uri().path());
    let (method, headers) = (request.method(), request.headers());
    let mut response = respond(&doors, route, method, headers).await;
    let more = [
        (header::CONNECTION, "close"),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        // Browsers must show a value as text, even if it looks like HTML.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in more {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn respond(
    doors: &Doors,
    route: Option<CourseRoute<'_>>,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let Some(route) = route else {
        let message = "not found; try /save/KEY/VALUE, /load/KEY or /allKeys\n";
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    // HEAD runs the GET, as in the course, so it saves as well.
    if method != Method::GET && method != Method::HEAD {
        let allow: [(HeaderName, &str); 1] = [(header::ALLOW, "GET, HEAD")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "only GET and HEAD\n").into_response();
    }
    if doors.drain.is_going_down() {
        return (StatusCode::SERVICE_UNAVAILABLE, SHUTTING_DOWN).into_response();
    }
    let result = match route {
        CourseRoute::Save(key, value) => save(doors, key, value, headers).await,
        CourseRoute::Load(key) => load(doors, key, headers).await,
        CourseRoute::AllKeys => all_keys(doors, headers).await,
    };
    result.unwrap_or_else(|(status, why)| (status, format!("{why}\n")).into_response())
}

/// A refusal in plain text, like everything at this door.
type PlainRefusal = (StatusCode, String);

fn plain(error: ErrorAnswer) -> PlainRefusal {
    (error.status, error.message)
}

fn store_error(error: &StoreError) -> PlainRefusal {
    plain(super::store_error(error))
}

fn decoded(part: &str) -> Vec<u8> {
    percent_decode_str(part).collect()
}

fn key_of(part: &str, scope: &KeyScope) -> Result<Key, PlainRefusal> {
    let key = Key::from_bytes(&decoded(part)).map_err(|error| match error {
        KeyError::TooLong(_) => (StatusCode::URI_TOO_LONG, error.to_string()),
        _ => (StatusCode::BAD_REQUEST, error.to_string()),
    })?;
    scope.check(&key).map_err(plain)?;
    Ok(key)
}

async fn save(doors: &Doors, key: &str, value: &str, headers: &HeaderMap) -> Result<Response, PlainRefusal> {
    // This GET changes something, and an image on any page could request it.
    if is_of_another_site(headers) {
        return Err((StatusCode::FORBIDDEN, "not for the pages of another site".to_owned()));
    }
    let scope = doors.permit(headers, KeyRight::Write).map_err(plain)?;
    let key = key_of(key, &scope)?;
    let value = decoded(value);
    if value.len() > doors.value_limit.bytes_max {
        return Err(plain(doors.value_limit.exceeded()));
    }
    let room = doors.room.take(value.len()).await.map_err(plain)?;
    let action = Action::Put { bytes: value[..].into(), ttl_ms: None };
    let operation = Operation { key, condition: Condition::default(), action };
    let committed = super::keys::change(doors, operation, room).await;
    committed.map_err(|refusal| plain(super::refusal_answer(&refusal)))?;
    Ok(value.into_response())
}

async fn load(doors: &Doors, key: &str, headers: &HeaderMap) -> Result<Response, PlainRefusal> {
    let scope = doors.permit(headers, KeyRight::Read).map_err(plain)?;
    let key = key_of(key, &scope)?;
    doors.hot_keys.read(&key);
    match doors.keyspace.get(&key).await.map_err(|error| store_error(&error))? {
        Some(value) => {
            let body = doors.answers.answer(Bytes::from_owner(value.bytes)).map_err(plain)?;
            Ok(Response::new(body))
        }
        None => Ok(KEY_NOT_FOUND.into_response()),
    }
}

async fn all_keys(doors: &Doors, headers: &HeaderMap) -> Result<Response, PlainRefusal> {
    let scope = doors.permit(headers, KeyRight::Read).map_err(plain)?;
    let (keyspace, budget) = (doors.keyspace.clone(), doors.answers.clone());
    let mut names = KeyNames { keyspace, budget, scope, after: None, is_first: true, is_over: false };
    let first = names.next().await.map_err(|error| store_error(&error))?;
    if names.is_over {
        return Ok(Response::new(Body::from(first)));
    }
    let rest = stream::unfold(names, |mut names| async move {
        if names.is_over {
            return None;
        }
        Some((names.next().await, names))
    });
    let first = stream::once(async { Ok::<Bytes, StoreError>(first) });
    Ok(Response::new(Body::from_stream(stream::StreamExt::chain(first, rest))))
}

/// The names of all keys, joined by commas and sent in pieces.
struct KeyNames {
    keyspace: Keyspace,
    /// The memory for answers. A piece has a share until it is sent.
    budget: BodyBudget,
    scope: KeyScope,
    after: Option<Key>,
    is_first: bool,
    is_over: bool,
}

impl KeyNames {
    async fn next(&mut self) -> Result<Bytes, StoreError> {
        let after = self.after.take();
        let (keys_max, bytes_max, keys_only) = (PIECE_KEYS, PIECE_BYTES, true);
        let range = KeyRange { after, keys_max, bytes_max, keys_only, ..KeyRange::default() };
        let listed = self.keyspace.list(range).await?;
        let mut piece = String::new();
        for (key, _) in listed.keys.iter().filter(|(key, _)| self.scope.reaches(key)) {
            if !std::mem::take(&mut self.is_first) {
                piece.push(',');
            }
            piece.push_str(&name(key));
        }
        self.is_over = listed.next.is_none();
        self.after = listed.next;
        self.budget.part(piece).map_err(|refused| StoreError::Busy(refused.message))
    }
}

/// Encodes commas, because a reader would take a key with a comma for two keys. Percent signs are encoded as
/// well, as they are in the key's path.
fn name(key: &str) -> String {
    key.replace('%', "%25").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::evaluation::Transaction;
    use crate::store::memory::MemoryStore;
    use kit::http::body::BodyRoom;
    use std::sync::Arc;

    #[test]
    fn paths_are_those_of_the_course() {
        use CourseRoute::*;
        for (path, route) in [
            ("/allKeys", AllKeys),
            ("/save/title/Sapiens", Save("title", "Sapiens")),
            ("/save/a%20b/%", Save("a%20b", "%")),
            ("/save/_shutting_down_/x", Save("_shutting_down_", "x")),
            ("/load/..", Load("..")),
            ("/load/title", Load("title")),
        ] {
            assert_eq!(CourseRoute::of(path), Some(route), "{path}");
        }
        let unknown = [
            "/",
            "/allKeys/",
            "/allkeys",
            "/save",
            "/save/",
            "/save/K",
            "/save/K/",
            "/save//V",
            "/save/K/V/",
            "/save/K/V/W",
            "/save/a%2Fb/V",
            "/save/K/a%2fb",
            "/load",
            "/load/",
            "/load/K/",
            "/load/a%2Fb",
            "//load/K",
        ];
        for path in unknown {
            assert_eq!(CourseRoute::of(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn unread_pieces_of_all_keys_have_a_limit_together() {
        let store = Arc::new(MemoryStore::starting_at(0));
        let (keyspace, _end) = Keyspace::start_for_test(store);
        for number in 0..100 {
            let key = Key::new(&format!("{number}{}", "k".repeat(1000))).unwrap();
            let action = Action::Put { bytes: b"x".as_slice().into(), ttl_ms: None };
            let operation = Operation { key, condition: Condition::default(), action };
            let transaction = Transaction { operations: vec![operation] };
            keyspace.commit(transaction, BodyRoom::default()).await.unwrap();
        }
        let budget = BodyBudget::new(0, PIECE_BYTES + (2 << 10));
        let names = || KeyNames {
            keyspace: keyspace.clone(),
            budget: budget.clone(),
            scope: KeyScope::all(),
            after: None,
            is_first: true,
            is_over: false,
        };
        let (mut one, mut other) = (names(), names());
        let unread = one.next().await.unwrap();
        assert!(unread.len() >= PIECE_BYTES);
        assert!(matches!(other.next().await, Err(StoreError::Busy(_))));
        drop(unread);
        assert!(names().next().await.is_ok());
    }

    #[test]
    fn names_have_no_comma_of_their_own() {
        assert_eq!(name("title"), "title");
        assert_eq!(name("a,b%c"), "a%2Cb%25c");
    }
}
