//! `kvctl watch-letters`: the course's client. The output is the same to the byte, except for the time.

use crate::api::Client;
use crate::flags::{Flags, WatchLetters};
use crate::placement::Placement;
use axum::http::StatusCode;
use jiff::Zoned;
use kit::caller::{CallError, Reply};
use kit::exit::{Exit, Fatal};
use kit::terminal;
use tokio::time::sleep;

/// The width of `YYYY-MM-DD HH:MM:SS `.
const TIME_WIDTH: usize = 20;

const KEY_NOT_FOUND: &[u8] = b"_key_not_found_";

fn letters() -> impl Iterator<Item = char> {
    'a'..='z'
}

/// Returns the index of the letter's server.
fn server_of(letter: char, servers: usize) -> usize {
    Placement::First.server_of(letter.encode_utf8(&mut [0; 4]), servers)
}

/// Returns the four lines before the first line of letters.
fn header(servers: usize) -> String {
    let alphabet: String = letters().collect();
    let dashes = "-".repeat(alphabet.len());
    let numbers: String = letters().map(|letter| server_of(letter, servers).to_string()).collect();
    let space = " ".repeat(TIME_WIDTH);
    format!("{space}{alphabet}\n{space}{dashes}\n{space}{numbers}\n{space}{dashes}")
}

fn line(time: &str, found: &str) -> String {
    let hits = found.matches('h').count();
    let percent = (200 * hits + found.len()) / (2 * found.len().max(1));
    format!("{time} {found} | hits = {hits} ({percent}%)")
}

/// Returns the character that shows how a letter was found; `None` if the letter must be written.
fn found(letter: char, answer: &Result<Reply, CallError>, readonly: bool) -> Option<char> {
    let Ok(reply) = answer else { return Some('.') };
    match (reply.status, &reply.body[..]) {
        (StatusCode::OK, KEY_NOT_FOUND) if readonly => Some('m'),
        (StatusCode::OK, KEY_NOT_FOUND) => None,
        (StatusCode::OK, value) if value == letter.to_string().as_bytes() => Some('h'),
        (StatusCode::OK, _) => Some('x'),
        (other, _) => other.as_str().chars().next(),
    }
}

/// Returns the character that shows whether a letter was written.
fn written(answer: &Result<Reply, CallError>) -> char {
    match answer {
        Ok(reply) if reply.status == StatusCode::OK => 'w',
        Ok(reply) => reply.status.as_str().chars().next().unwrap_or('.'),
        Err(_) => '.',
    }
}

async fn look(client: &Client, letter: char, readonly: bool) -> char {
    let loaded = client.course(&format!("/load/{letter}")).await;
    match found(letter, &loaded, readonly) {
        Some(found) => found,
        None => written(&client.course(&format!("/save/{letter}/{letter}")).await),
    }
}

pub(crate) async fn watch(watch: &WatchLetters, flags: &Flags) -> Result<Exit, Fatal> {
    let servers = watch.servers.iter().map(|server| Client::of(server, flags));
    let servers = servers.collect::<Result<Vec<_>, Fatal>>()?;
    terminal::line(&header(servers.len()))?;
    let mut left = watch.lines.unwrap_or(usize::MAX);
    while left > 0 {
        let time = Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let mut found = String::new();
        for letter in letters() {
            // The list is not empty, because the flag is required.
            let Some(client) = servers.get(server_of(letter, servers.len())) else { break };
            found.push(look(client, letter, watch.readonly).await);
        }
        terminal::line(&line(&time, &found))?;
        left -= 1;
        if left > 0 {
            sleep(watch.interval).await;
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use axum::http::HeaderMap;

    #[test]
    fn header_has_each_letters_server() {
        let expected = "                    abcdefghijklmnopqrstuvwxyz
                    --------------------------
                    12012012012012012012012012
                    --------------------------";
        assert_eq!(header(3), expected);
        assert!(header(1).contains(&"0".repeat(26)));
    }

    #[test]
    fn line_has_the_share_of_hits() {
        let time = "2026-11-28 18:20:07";
        assert_eq!(line(time, &"h".repeat(26)), format!("{time} {} | hits = 26 (100%)", "h".repeat(26)));
        assert_eq!(line(time, &"w".repeat(26)), format!("{time} {} | hits = 0 (0%)", "w".repeat(26)));
        let mixed = format!("{}{}", "h".repeat(9), "5".repeat(17));
        assert_eq!(line(time, &mixed), format!("{time} {mixed} | hits = 9 (35%)"));
    }

    #[test]
    fn letters_tell_how_a_key_was_found() {
        let reply = |status: u16, body: &'static str| {
            let status = StatusCode::from_u16(status).unwrap();
            Ok(Reply { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) })
        };
        let lost = || Err(CallError::TooLong(0));
        assert_eq!(found('a', &reply(200, "a"), false), Some('h'));
        assert_eq!(found('a', &reply(200, "b"), false), Some('x'));
        assert_eq!(found('a', &reply(200, "_key_not_found_"), true), Some('m'));
        assert_eq!(found('a', &reply(200, "_key_not_found_"), false), None);
        assert_eq!(found('a', &reply(503, "_shutting_down_"), false), Some('5'));
        assert_eq!(found('a', &reply(404, ""), false), Some('4'));
        assert_eq!(found('a', &lost(), false), Some('.'));
        assert_eq!([written(&reply(200, "a")), written(&reply(503, "")), written(&lost())], ['w', '5', '.']);
    }
}
