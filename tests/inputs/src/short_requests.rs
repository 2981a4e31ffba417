//! Checks that queued sees the same requests as hyper in any bytes of an HTTP connection, in any portions. A
//! proxy in front of queued must not see other requests than queued does.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kit::http::{Answer, HeadWait, Peer, serve_one};
use kit::net::accept::Crowd;
use queued::http::short_requests::{self, AnswerShort, ShortAnswer, ShortRequest};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

/// Reads from the input: three cuts, in 255ths of the stream; how it ends; and the stream.
pub fn short_requests(bytes: &[u8]) {
    let Some((&[first, second, third, end], stream)) = bytes.split_first_chunk() else { return };
    let mut cuts = [first, second, third].map(|cut| stream.len() * usize::from(cut) / 255);
    cuts.sort_unstable();
    let [first, second, third] = cuts;
    let portions = [&stream[..first], &stream[first..second], &stream[second..third], &stream[third..]];
    agree(&portions, end % 2 == 0);
}

/// Compares requests and answers with and without the fast path, in these portions and at once.
pub fn agree(portions: &[&[u8]], half_closes: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let ours = conversation(true, portions, half_closes).await;
        assert_eq!(ours, conversation(false, portions, half_closes).await, "by us and by hyper");
        let whole = portions.concat();
        assert_eq!(ours.0, conversation(true, &[&whole], half_closes).await.0, "in portions and at once");
    });
}

type Seen = (String, String, Vec<u8>);

/// Returns the requests that were seen, and the statuses of the answers.
async fn conversation(takes_short: bool, portions: &[&[u8]], half_closes: bool) -> (Vec<Seen>, Vec<String>) {
    let agent = Recorder { takes_short, seen: Arc::default() };
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
    let peer = "127.0.0.1:9".parse().unwrap();
    let serving = tokio::spawn(serve_one(server, peer, agent.clone(), Crowd::never(), drain.clone(), abort));
    let mut heard = String::new();
    for portion in portions.iter().filter(|portion| !portion.is_empty()) {
        if client.write_all(portion).await.is_err() {
            break;
        }
        heard += &hear(&mut client).await;
    }
    if half_closes {
        // The connection may be closed already.
        let _ = client.shutdown().await;
        heard += &hear(&mut client).await;
    }
    drop(client);
    serving.await.unwrap();
    let seen = agent.seen.lock().unwrap().clone();
    let mut statuses: Vec<_> =
        heard.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect();
    // Ignore a last 400. If invalid bytes follow, hyper either answers with it or only closes, depending on
    // what came before.
    if statuses.last().is_some_and(|last| last == "400") {
        statuses.pop();
    }
    (seen, statuses)
}

/// Reads everything that comes within a second of paused time, which passes only while all tasks are idle.
async fn hear(client: &mut DuplexStream) -> String {
    let mut heard = Vec::new();
    while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_secs(1), client.read_buf(&mut heard)).await {}
    String::from_utf8_lossy(&heard).into_owned()
}

/// Records its requests, with or without the fast path.
#[derive(Clone)]
struct Recorder {
    takes_short: bool,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Answer for Recorder {
    async fn answer(self, request: Request, _: Peer) -> Response {
        let (method, path) = (request.method().to_string(), request.uri().to_string());
        match to_bytes(request.into_body(), usize::MAX).await {
            Ok(body) => self.seen.lock().unwrap().push((method, path, body.to_vec())),
            Err(_) => return StatusCode::BAD_REQUEST.into_response(),
        }
        "ok".into_response()
    }

    fn serve_first<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: &mut S,
        wait: HeadWait,
        drain: &CancellationToken,
    ) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send {
        short_requests::serve(stream, self, wait, drain)
    }
}

impl AnswerShort for Recorder {
    fn answer_short(
        &self,
        request: &ShortRequest<'_>,
    ) -> Option<impl Future<Output = ShortAnswer> + Send + use<>> {
        let seen = (request.method.to_owned(), request.path.to_owned(), request.body.to_vec());
        self.takes_short.then(|| self.seen.lock().unwrap().push(seen))?;
        Some(async {
            ShortAnswer::Plain { status: StatusCode::OK, content_type: "text/plain", body: b"ok".to_vec() }
        })
    }
}
