//! The course's door, to the byte: `/save/KEY/VALUE`, `/load/KEY` and `/allKeys`.

use super::Doors;
use super::tokens::{KeyRight, Permit};
use crate::store::contract::{KeyRange, StoreError};
use crate::store::evaluation::{Action, Condition, Operation, Refusal, Transaction};
use crate::store::key::{Key, KeyError};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
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
    Unknown,
}

impl CourseRoute<'_> {
    fn of(path: &str) -> CourseRoute<'_> {
        if path == "/allKeys" {
            return CourseRoute::AllKeys;
        }
        let is_part = |part: &&str| !part.is_empty() && !part.contains('/') && !has_encoded_slash(part);
        if let Some(rest) = path.strip_prefix("/save/")
            && let Some((key, value)) = rest.split_once('/')
            && [key, value].iter().all(is_part)
        {
            return CourseRoute::Save(key, value);
        }
        match path.strip_prefix("/load/").filter(is_part) {
            Some(key) => CourseRoute::Load(key),
            None => CourseRoute::Unknown,
        }
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

async fn respond(doors: &Doors, route: CourseRoute<'_>, method: &Method, headers: &HeaderMap) -> Response {
    if route == CourseRoute::Unknown {
        let message = "not found; try /save/KEY/VALUE, /load/KEY or /allKeys\n";
        return (StatusCode::NOT_FOUND, message).into_response();
    }
    // HEAD runs the GET, as in the course, so it saves, too.
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
        CourseRoute::Unknown => Ok(StatusCode::NOT_FOUND.into_response()),
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

fn key_of(part: &str, permit: &Permit) -> Result<Key, PlainRefusal> {
    let key = Key::from_bytes(&decoded(part)).map_err(|error| match error {
        KeyError::TooLong(_) => (StatusCode::URI_TOO_LONG, error.to_string()),
        _ => (StatusCode::BAD_REQUEST, error.to_string()),
    })?;
    permit.key(&key).map_err(plain)?;
    Ok(key)
}

async fn save(doors: &Doors, key: &str, value: &str, headers: &HeaderMap) -> Result<Response, PlainRefusal> {
    // This GET changes something, and an image on any page could request it.
    if is_of_another_site(headers) {
        return Err((StatusCode::FORBIDDEN, "not for the pages of another site".to_owned()));
    }
    let permit = doors.permit(headers, KeyRight::Write).map_err(plain)?;
    let key = key_of(key, &permit)?;
    let value = decoded(value);
    if value.len() > doors.value_limit.bytes_max {
        return Err(plain(doors.value_limit.exceeded()));
    }
    doors.hot_keys.write(&key);
    let action = Action::Put { bytes: value[..].into(), ttl_ms: None };
    let operation = Operation { key, condition: Condition::default(), action };
    let committed = doors.keyspace.commit(Transaction { operations: vec![operation] }).await;
    committed.map_err(|refusal: Refusal| plain(super::refusal(&refusal)))?;
    Ok(value.into_response())
}

async fn load(doors: &Doors, key: &str, headers: &HeaderMap) -> Result<Response, PlainRefusal> {
    let permit = doors.permit(headers, KeyRight::Read).map_err(plain)?;
    let key = key_of(key, &permit)?;
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
    let permit = doors.permit(headers, KeyRight::Read).map_err(plain)?;
    let mut names = KeyNames { doors: doors.clone(), permit, after: None, is_first: true, is_over: false };
    let first = names.next().await.map_err(|error| store_error(&error))?;
    if names.is_over {
        return Ok(first.into_response());
    }
    let rest = stream::unfold(names, |mut names| async move {
        if names.is_over {
            return None;
        }
        Some((names.next().await, names))
    });
    let first = stream::once(async { Ok::<String, StoreError>(first) });
    Ok(Response::new(Body::from_stream(stream::StreamExt::chain(first, rest))))
}

/// The names of all keys, joined by commas and sent in pieces.
struct KeyNames {
    doors: Doors,
    permit: Permit,
    after: Option<Key>,
    is_first: bool,
    is_over: bool,
}

impl KeyNames {
    async fn next(&mut self) -> Result<String, StoreError> {
        let after = self.after.take();
        let (keys_max, bytes_max, keys_only) = (PIECE_KEYS, PIECE_BYTES, true);
        let range = KeyRange { after, keys_max, bytes_max, keys_only, ..KeyRange::default() };
        let listed = self.doors.keyspace.list(range).await?;
        let mut piece = String::new();
        for (key, _) in listed.keys.iter().filter(|(key, _)| self.permit.reaches(key)) {
            if !std::mem::take(&mut self.is_first) {
                piece.push(',');
            }
            piece.push_str(&name(key));
        }
        self.is_over = listed.next.is_none();
        self.after = listed.next;
        Ok(piece)
    }
}

/// Encodes commas, because a reader would take a key with a comma for two keys. Percent signs are encoded,
/// too, as they are in the key's path.
fn name(key: &str) -> String {
    key.replace('%', "%25").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(CourseRoute::of(path), route, "{path}");
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
            assert_eq!(CourseRoute::of(path), Unknown, "{path}");
        }
    }

    #[test]
    fn names_have_no_comma_of_their_own() {
        assert_eq!(name("title"), "title");
        assert_eq!(name("a,b%c"), "a%2Cb%25c");
    }
}
