//! `logd stats`: shows the figures of the page in a terminal, once or repeatedly.

use crate::page::{FIGURES, Shown};
use kit::exit::{Exit, Fatal};
use kit::page::access::token_of;
use kit::settings::Door;
use kit::telemetry::logs::LogFormat;
use kit::terminal;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Longest silence of a healthy daemon, which sends figures every second.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest line that is read, far more than the figures need.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Seconds that a plot covers; next to the other columns it fits into a width of 80.
const PLOT_SECONDS: usize = 40;
const PEERS_SHOWN: usize = 10;

/// Which logd to ask, and how often
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The admin endpoint of the logd to ask, on this host
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7667")]
    pub admin: Door,

    /// The file with the page's token, if logd has one
    #[arg(long, value_name = "FILE")]
    pub page_token: Option<PathBuf>,

    /// Print every second, until interrupted
    #[arg(long, short)]
    pub watch: bool,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Prints to stdout what arrives within a second, or every second with `--watch`.
pub fn stats(options: &Options) -> Result<(), Fatal> {
    let Door(Some(address)) = options.admin else {
        return Err(Fatal::new(Exit::Usage, "logd has no admin endpoint: its --admin is none"));
    };
    kit::telemetry::logs::start("warn", LogFormat::Plain)?;
    let token = options.page_token.as_deref().map(token_of).transpose()?;
    kit::daemon::runtime()?.block_on(async {
        let mut display = Display::new(address, options);
        let mut stream = FiguresStream::connect(address, token.as_deref()).await?;
        loop {
            match display.follow(&mut stream).await {
                Ok(()) => return Ok(()),
                Err(FollowError::Display(fatal)) => return Err(fatal),
                // Under `--watch`, a daemon may be away for a while.
                Err(FollowError::Stream(fatal)) if options.watch => {
                    tracing::warn!(
                        event = "stats_failed",
                        error = fatal.one_line(),
                        "cannot read the statistics, retrying"
                    );
                }
                Err(FollowError::Stream(fatal)) => return Err(fatal),
            }
            stream = loop {
                sleep(TRY_AGAIN_AFTER).await;
                if let Ok(stream) = FiguresStream::connect(address, token.as_deref()).await {
                    break stream;
                }
            };
        }
    })
}

/// The end of the work that failed.
enum FollowError {
    Stream(Fatal),
    Display(Fatal),
}

/// A running logd that sends its figures.
struct FiguresStream {
    address: SocketAddr,
    from: BufReader<TcpStream>,
}

impl FiguresStream {
    async fn connect(address: SocketAddr, token: Option<&str>) -> Result<FiguresStream, Fatal> {
        let mut stream = match timeout(ANSWER_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => FiguresStream { address, from: BufReader::new(stream) },
            Ok(Err(error)) => return Err(unreachable(address).because(error)),
            Err(late) => return Err(unreachable(address).because(late)),
        };
        // HTTP/1.0, so that the answer comes unchanged, not in chunks.
        let authorization =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET {FIGURES} HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\n{authorization}\r\n"
        );
        stream
            .from
            .get_mut()
            .write_all(request.as_bytes())
            .await
            .map_err(|e| unreachable(address).because(e))?;
        let status = stream.line().await?;
        while !stream.line().await?.is_empty() {}
        match status.split(' ').nth(1) {
            Some("200") => Ok(stream),
            _ => Err(stream.refused(&status).await),
        }
    }

    /// Returns the data of the next event other than the history, as text and parsed.
    async fn next(&mut self) -> Result<(String, Shown), Fatal> {
        let mut event = String::new();
        loop {
            let line = self.line().await?;
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.to_owned();
            } else if event != "history"
                && let Some(told) = line.strip_prefix("data: ")
            {
                let shown = serde_json::from_str(told).map_err(|e| self.stranger().because(e))?;
                return Ok((told.to_owned(), shown));
            }
        }
    }

    async fn line(&mut self) -> Result<String, Fatal> {
        let mut line = Vec::new();
        let mut from = (&mut self.from).take(LINE_BYTES_MAX);
        match timeout(ANSWER_WITHIN, from.read_until(b'\n', &mut line)).await {
            Ok(Ok(_)) if line.ends_with(b"\n") => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Ok(Ok(0)) => {
                Err(unreachable(self.address).because(io::Error::from(io::ErrorKind::UnexpectedEof)))
            }
            Ok(Ok(_)) => Err(self.stranger()),
            Ok(Err(error)) => Err(unreachable(self.address).because(error)),
            Err(late) => Err(unreachable(self.address).because(late)),
        }
    }

    async fn refused(&mut self, status: &str) -> Fatal {
        let why = self.line().await.unwrap_or_default();
        let (status, why) = (terminal::excerpt(status, 100), terminal::excerpt(&why, 200));
        let message = format!("{} does not tell a logd's figures, see --admin: {status} {why}", self.address);
        Fatal::new(Exit::Failure, message.trim_end())
    }

    fn stranger(&self) -> Fatal {
        Fatal::new(Exit::Failure, format!("the answer of {} is not from logd: see --admin", self.address))
    }
}

fn unreachable(address: SocketAddr) -> Fatal {
    let message = format!(
        "no answer from logd's admin endpoint {address}; is logd running, and was it started with this --admin?"
    );
    Fatal::new(Exit::TryAgain, message)
}

/// Counters at a moment.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    lines: u64,
    bytes: u64,
}

/// Rates within one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    lines: u64,
    bytes: u64,
    open: u64,
}

struct Display<'a> {
    address: SocketAddr,
    options: &'a Options,
    last: Option<Moment>,
    history: VecDeque<Rates>,
}

impl Display<'_> {
    fn new(address: SocketAddr, options: &Options) -> Display<'_> {
        Display { address, options, last: None, history: VecDeque::with_capacity(PLOT_SECONDS) }
    }

    /// Prints what was asked for, which with `--watch` never ends.
    async fn follow(&mut self, stream: &mut FiguresStream) -> Result<(), FollowError> {
        // The counters may have restarted from zero meanwhile.
        self.last = None;
        loop {
            let (told, shown) = stream.next().await.map_err(FollowError::Stream)?;
            if self.options.json {
                terminal::line(&told).map_err(FollowError::Display)?;
            } else {
                // The first figures alone give no rate.
                let begun = self.last.is_some();
                self.note(&shown, Instant::now());
                if !begun {
                    continue;
                }
                let print = if self.options.watch { terminal::again } else { terminal::line };
                print(&self.draw(&shown)).map_err(FollowError::Display)?;
            }
            if !self.options.watch {
                return Ok(());
            }
        }
    }

    fn note(&mut self, now: &Shown, at: Instant) {
        let moment = Moment { at, lines: now.lines, bytes: now.received_bytes };
        if let Some(last) = self.last.replace(moment) {
            let millis = u64::try_from((at - last.at).as_millis()).unwrap_or(u64::MAX).max(1);
            // Rounded up: a small rate must not appear as zero.
            let rate = |now: u64, last: u64| now.saturating_sub(last).saturating_mul(1000).div_ceil(millis);
            if self.history.len() == PLOT_SECONDS {
                self.history.pop_front();
            }
            self.history.push_back(Rates {
                lines: rate(moment.lines, last.lines),
                bytes: rate(moment.bytes, last.bytes),
                open: whole(now.connections_open),
            });
        }
    }

    fn draw(&self, now: &Shown) -> String {
        let state = match now.reasons.trim() {
            "" => "ready".to_owned(),
            reasons => format!("not ready: {}", terminal::excerpt(reasons, 300)),
        };
        let file = terminal::excerpt(&now.file, 300);
        let head = format!("logd {}, writing {file}: {state}", self.address);
        [head, self.traffic(now), disk(now), peers(now)].join("\n\n")
    }

    fn traffic(&self, now: &Shown) -> String {
        let rates = self.history.back().copied().unwrap_or_default();
        let plot = |of: fn(&Rates) -> u64| match self.options.watch {
            true => terminal::plot(self.history.iter().map(of)),
            false => String::new(),
        };
        let past = if self.options.watch { "BEFORE" } else { "" };
        let rows = [
            ["", "NOW", "IN ALL", past].map(str::to_owned),
            ["lines".into(), format!("{}/s", rates.lines), now.lines.to_string(), plot(|then| then.lines)],
            [
                "received".into(),
                format!("{}/s", terminal::size(rates.bytes)),
                terminal::size(now.received_bytes),
                plot(|then| then.bytes),
            ],
            [
                "connections".into(),
                now.connections_open.to_string(),
                now.connections.to_string(),
                plot(|then| then.open),
            ],
            ["receipts".into(), String::new(), now.receipts.to_string(), String::new()],
            [
                "waiting for the file".into(),
                terminal::size(whole(now.pending_bytes)),
                String::new(),
                String::new(),
            ],
        ];
        terminal::table(&rows.map(Vec::from))
    }
}

fn disk(now: &Shown) -> String {
    let of = |bound: u64, text: String| if bound == 0 { String::new() } else { format!(" of {text}") };
    let age = u64::try_from(now.rotate_age_ms).unwrap_or(u64::MAX);
    let aged = if age == 0 { String::new() } else { format!(", rotated after {}", terminal::age(age)) };
    let newest = now.newest.first().map_or_else(String::new, |file| {
        format!(", the newest {} ({})", terminal::excerpt(&file.name, 100), terminal::size(file.bytes))
    });
    let free = match (now.disk_free_bytes, now.disk_bytes) {
        (Some(free), Some(all)) => format!("{} of {} free", terminal::size(free), terminal::size(all)),
        _ => "-".to_owned(),
    };
    let rows = [
        (
            "file",
            format!(
                "{}{}{aged}",
                terminal::size(whole(now.file_bytes)),
                of(now.rotate_bytes, terminal::size(now.rotate_bytes))
            ),
        ),
        (
            "rotated",
            format!(
                "{}{} {}, {}{}{newest}",
                now.rotated,
                of(u64::from(now.keep_files > 0), now.keep_files.to_string()),
                if now.rotated == 1 && now.keep_files == 0 { "file" } else { "files" },
                terminal::size(now.rotated_bytes),
                of(now.keep_bytes, terminal::size(now.keep_bytes))
            ),
        ),
        ("disk", free),
        ("forced to the disk", now.syncs.to_string()),
        ("failures", (now.write_errors + now.sync_errors).to_string()),
    ];
    // These rows are sentences, not numbers: never aligned to the right.
    rows.map(|(what, figure)| format!("{what:<20}  {figure}")).join("\n")
}

fn peers(now: &Shown) -> String {
    if now.peers.is_empty() {
        return "Nobody has sent anything yet.".to_owned();
    }
    let row = |name: String, bytes: u64, connections: u64, open: usize| {
        vec![name, terminal::size(bytes), connections.to_string(), open.to_string()]
    };
    let mut rows = vec![["PEER", "BYTES", "CONNECTIONS", "OPEN"].map(str::to_owned).to_vec()];
    let named = now.peers.iter().filter_map(|peer| Some((peer.address.as_ref()?, peer))).take(PEERS_SHOWN);
    rows.extend(
        named.map(|(address, peer)| {
            row(terminal::excerpt(address, 60), peer.bytes, peer.connections, peer.open)
        }),
    );
    let others = now.peers.iter().skip(rows.len() - 1);
    let others = others.fold((0, 0, 0), |(bytes, connections, open), peer| {
        (bytes + peer.bytes, connections + peer.connections, open + peer.open)
    });
    if others.1 > 0 {
        rows.push(row("all others".to_owned(), others.0, others.1, others.2));
    }
    terminal::table(&rows)
}

/// Returns the gauge's value, which a race may let dip below 0 for a moment.
fn whole(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}
