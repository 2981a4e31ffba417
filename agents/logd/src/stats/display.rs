//! The figures as text: rates since the last ones, plots and tables.

use super::figures_stream::FiguresStream;
use super::{FollowError, Options};
use crate::page::Shown;
use kit::terminal;
use std::collections::VecDeque;
use std::net::SocketAddr;
use tokio::time::Instant;

/// Seconds that a plot covers; next to the other columns it fits into a width of 80.
const PLOT_SECONDS: usize = 40;
const PEERS_SHOWN: usize = 10;

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

pub(super) struct Display<'a> {
    address: SocketAddr,
    options: &'a Options,
    last: Option<Moment>,
    history: VecDeque<Rates>,
}

impl Display<'_> {
    pub(super) fn new(address: SocketAddr, options: &Options) -> Display<'_> {
        Display { address, options, last: None, history: VecDeque::with_capacity(PLOT_SECONDS) }
    }

    /// Prints what was asked for, which with `--watch` never ends.
    pub(super) async fn follow(&mut self, stream: &mut FiguresStream) -> Result<(), FollowError> {
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
                "waiting to be written".into(),
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
        ("syncs to the disk", now.syncs.to_string()),
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
