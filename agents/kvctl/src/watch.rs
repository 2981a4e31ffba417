//! `kvctl watch`: prints changes, and resumes after a connection breaks.

use crate::api::Client;
use crate::flags;
use crate::output::one_line;
use crate::wire::WireKey;
use kit::caller::{CallError, OpenReply};
use kit::exit::{Exit, Fatal};
use kit::net::backoff::{Backoff, jittered};
use kit::terminal;
use serde_json::Value;
use std::time::Duration;
use tokio::time::sleep;

/// Limit on the pause before the next attempt to connect.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Timeout for the next part of a stream, after which the connection counts as lost. kvd sends a comment
/// every 15 seconds.
const PART_WITHIN: Duration = Duration::from_secs(45);

/// A server-sent event.
#[derive(Debug, PartialEq, Eq)]
struct StreamEvent {
    name: String,
    data: String,
}

/// Parses server-sent events from pieces of a stream.
#[derive(Debug, Default)]
struct EventReader {
    pending: Vec<u8>,
    name: String,
    data: String,
}

impl EventReader {
    /// Returns the events that end in this piece. Skips comments and ids.
    fn feed(&mut self, piece: &[u8]) -> Vec<StreamEvent> {
        self.pending.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut self.name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                self.data.push_str(data);
            } else if line.is_empty() && !self.name.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                events.push(StreamEvent { name, data });
            }
        }
        events
    }
}

/// The progress of a watch over all its connections.
struct WatchProgress {
    position: Option<u64>,
    /// The number of changes to print before the end.
    left: usize,
    json: bool,
}

pub(crate) async fn watch(client: &Client, watch: &flags::Watch, json: bool) -> Result<Exit, Fatal> {
    let left = watch.limit.unwrap_or(usize::MAX);
    let mut progress = WatchProgress { position: watch.after, left, json };
    let mut backoff = Backoff::up_to(PAUSE_MAX);
    let what = || format!("cannot watch the keys at {}", client.server());
    while progress.left > 0 {
        let lost = match client.watch(&watch.prefix, progress.position).await {
            Ok(stream) => {
                backoff.succeeded();
                follow(stream, &mut progress, client.server(), PART_WITHIN).await?
            }
            // Errors are retried only with a position, from which the watch resumes. Without one, ending
            // misses nothing.
            Err(error) if error.may_pass() && progress.position.is_some() => Some(error),
            Err(error) if error.word() == "revision_gone" => {
                return Err(Fatal::new(Exit::Data, what()).because(error));
            }
            Err(error) => return Err(error.fatal(what())),
        };
        if progress.left == 0 {
            break;
        }
        let server = client.server();
        match lost {
            None => {
                tracing::info!(event = "stream_closed", server, "kvd closed the stream, connecting again");
            }
            Some(error) => {
                tracing::warn!(event = "stream_lost", server, %error, "lost the stream of kvd, connecting again");
            }
        }
        sleep(jittered(backoff.ceiling_after_failure())).await;
    }
    Ok(Exit::Ok)
}

/// Prints the changes of one stream until enough are printed, the server closes the stream (`None`), or the
/// connection is lost.
async fn follow(
    mut stream: OpenReply,
    progress: &mut WatchProgress,
    server: &str,
    part_within: Duration,
) -> Result<Option<CallError>, Fatal> {
    let mut reader = EventReader::default();
    while progress.left > 0 {
        let piece = match stream.next(part_within).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        };
        for event in reader.feed(&piece) {
            let foreign = || Fatal::new(Exit::Failure, format!("{server} sent an event that is not kvd's"));
            let mut data: Value = serde_json::from_str(&event.data).map_err(|e| foreign().because(e))?;
            if event.name == "gone" {
                let why = data["message"].as_str().unwrap_or_default();
                return Err(Fatal::new(Exit::Data, format!("this watch was too slow: {why}")));
            }
            progress.position = Some(data["revision"].as_u64().ok_or_else(foreign)?);
            // `at` tells the position while no key with the prefix changes.
            if matches!(event.name.as_str(), "begin" | "at") {
                continue;
            }
            if progress.json {
                data["event"] = event.name.into();
                terminal::line(&data)?;
            } else {
                let key: WireKey = serde_json::from_value(data).map_err(|e| foreign().because(e))?;
                terminal::line(&plain(&event.name, &key))?;
            }
            progress.left -= 1;
            if progress.left == 0 {
                break;
            }
        }
    }
    Ok(None)
}

/// Returns the line for a change: the revision, the kind of change, the key, and the value after a tab.
fn plain(event: &str, key: &WireKey) -> String {
    let head = format!("{} {event} {}", key.revision, key.key);
    match key.value.as_ref().and_then(crate::wire::WireValue::bytes) {
        Some(value) => format!("{head}\t{}", one_line(&value)),
        None => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Flags;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// Stands for a server whose host loses power: the connection stays open, and nothing comes any more.
    #[tokio::test]
    async fn silent_connection_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let mut client = listener.accept().unwrap().0;
            let mut request = BufReader::new(client.try_clone().unwrap()).lines();
            while request.next().unwrap().unwrap() != "" {}
            let begin = "event: begin\ndata: {\"revision\":7}\n\n";
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
            // In one write: a pause within the answer would count as silence.
            client.write_all(format!("{head}content-length: 1000\r\n\r\n{begin}").as_bytes()).unwrap();
            // Keeps the connection open until the client gives up.
            let _ = request.next();
        });
        let argv = ["kvctl", "watch"].map(Into::into);
        let flags = kit::settings::load::<Flags>("KVCTL_TEST_UNSET", argv).unwrap().flags;
        let client = Client::of(&address, &flags).unwrap();
        let mut progress = WatchProgress { position: None, left: 1, json: false };
        let stream = client.watch("", None).await.unwrap();
        let lost = follow(stream, &mut progress, &address, Duration::from_millis(50)).await.unwrap();
        assert!(matches!(lost, Some(CallError::Timeout(_))), "{lost:?}");
        assert_eq!(progress.position, Some(7));
    }

    #[test]
    fn events_are_read_from_any_pieces() {
        let stream = ": alive\n\nevent: put\ndata: {\"a\":1}\nid: 7\n\n\nevent: delete\ndata: {}\nid: 8\n\nevent: put\n";
        let event = |name: &str, data: &str| StreamEvent { name: name.to_owned(), data: data.to_owned() };
        for size in 1..stream.len() {
            let mut reader = EventReader::default();
            let pieces = stream.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| reader.feed(piece)).collect();
            assert_eq!(events, [event("put", "{\"a\":1}"), event("delete", "{}")]);
        }
    }
}
