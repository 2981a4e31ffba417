//! `nodecrew up`: runs every daemon on this host. logcd archives the lines of logd.

use crate::ports::{Endpoints, Ports};
use kit::daemon::{Context, allow_many_descriptors, host, runtime};
use kit::exit::{Exit, Fatal};
use kit::lifecycle::readiness::Readiness;
use kit::lifecycle::stop::Stop;
use kit::page::access::PageToken;
use kit::settings::{Door, parse_duration};
use kit::telemetry::logs::{self, LogFormat};
use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;

/// Options of `nodecrew up`
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Directory for logs, archives and queues
    #[arg(long, value_name = "DIR", default_value = "nodecrew-data")]
    data: PathBuf,

    /// Let every endpoint listen on this address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    address: IpAddr,

    #[command(flatten)]
    ports: Ports,

    #[command(flatten)]
    page: PageToken,

    /// Archive the logs at this interval
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    interval: Duration,

    /// Log level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,

    /// Time to finish work in progress after Ctrl-C
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    drain_timeout: Duration,
}

pub fn run(options: &Options) -> Result<(), Fatal> {
    logs::start(&options.log_level, LogFormat::Plain)?;
    std::fs::create_dir_all(options.logs()).map_err(|e| {
        Fatal::new(Exit::Failure, format!("cannot create {}", options.logs().display())).because(e)
    })?;
    allow_many_descriptors();
    runtime()?.block_on(up(options))
}

impl Options {
    fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// Builds an agent's command line from words.
    fn argv(&self, words: &[(&str, OsString)]) -> Vec<OsString> {
        let flags = words.iter().flat_map(|(flag, value)| [OsString::from(flag), value.clone()]);
        std::iter::once("nodecrew".into()).chain(flags).collect()
    }

    /// Builds the command line of an agent whose page is open to this host only, unless there is a token.
    fn argv_with_page(&self, words: &[(&str, OsString)]) -> Vec<OsString> {
        let mut argv = self.argv(words);
        if let Some(file) = &self.page.page_token {
            argv.extend([OsString::from("--page-token"), file.into()]);
        }
        argv
    }
}

async fn up(options: &Options) -> Result<(), Fatal> {
    let endpoints = options.ports.endpoints(options.address)?;
    let stop = Stop::on_signals(options.drain_timeout)?;
    let mut crew = JoinSet::new();
    let mut doors = Vec::new();

    let file = options.logs().join("node.log");
    let lines = endpoints.lines.to_string().into();
    let mut argv = options.argv_with_page(&[("--listen", lines), ("--file", file.clone().into())]);
    // People who try the crew want to see the lines, and the lines are their own.
    argv.push("--show-lines".into());
    let settings = kit::settings::load("LOGD", argv)?;
    let context = Context::new("logd", stop.clone());
    doors.push(context.readiness.clone());
    let admin = Door(Some(endpoints.logd_admin));
    crew.spawn(host("logd", admin, context, |context| logd::control::run(settings, context)));

    let interval = OsString::from(format!("{}ms", options.interval.as_millis()));
    // Publish at each look, since somebody is waiting to see the archive.
    let words =
        [("--dir", options.logs().into()), ("--interval", interval), ("--publish-within", "0s".into())];
    let settings = kit::settings::load("LOGCD", options.argv_with_page(&words))?;
    let context = Context::new("logcd", stop.clone());
    doors.push(context.readiness.clone());
    let admin = Door(Some(endpoints.logcd_admin));
    crew.spawn(host("logcd", admin, context, |context| logcd::run(settings, None, context)));

    let doors_of_queued = [("--http", endpoints.http), ("--line", endpoints.line)];
    let mut words = doors_of_queued.map(|(flag, address)| (flag, address.to_string().into())).to_vec();
    words.push(("--data", options.data.join("queues").into()));
    let settings = kit::settings::load("QUEUED", options.argv(&words))?;
    let context = Context::new("queued", stop.clone());
    doors.push(context.readiness.clone());
    // queued serves probes and metrics on its HTTP address.
    crew.spawn(host("queued", Door(None), context, |context| queued::control::run(settings, context)));

    let mut outcome = Ok(());
    tokio::select! {
        () = all_ready(&doors) => greet(options, endpoints),
        Some(ended) = crew.join_next() => outcome = end_of(ended),
    }
    if outcome.is_err() {
        stop.begin_drain();
    }
    // The first agent that ends stops the others: half a crew would look like a whole one.
    while let Some(ended) = crew.join_next().await {
        stop.begin_drain();
        outcome = outcome.and(end_of(ended));
    }
    outcome
}

fn end_of(ended: Result<Result<(), Fatal>, tokio::task::JoinError>) -> Result<(), Fatal> {
    ended.unwrap_or_else(|e| Err(Fatal::new(Exit::Failure, "an agent has panicked").because(e)))
}

async fn all_ready(doors: &[Readiness]) {
    for door in doors {
        let mut changes = door.changes();
        let _ = changes.wait_for(std::collections::BTreeMap::is_empty).await;
    }
}

/// The address of a page that is open to this host only, unless there is a token.
fn page_of(admin: SocketAddr, token: &PageToken) -> String {
    match admin.ip().is_loopback() && token.page_token.is_none() {
        true => format!("http://{admin}/"),
        false => format!("http://{admin}/?token=TOKEN"),
    }
}

/// Prints one line for each endpoint, with a command to try.
fn greet(options: &Options, endpoints: Endpoints) {
    let logs = options.logs();
    let logs = logs.display();
    let today = jiff::Zoned::now().date();
    let Endpoints { lines, logd_admin: logd, logcd_admin: logcd, http: items, line } = endpoints.to_open();
    let (host, port) = (lines.ip(), lines.port());
    let endpoints = [
        (
            format!("logd   accepts lines on {lines}"),
            format!("echo hello | nc -N {host} {port}; cat {logs}/node.log"),
        ),
        (
            format!("logcd  archives {logs}/*.log every {:?}", options.interval),
            format!("tar -xzOf {logs}/all-logs-{today}.tar.gz"),
        ),
        (
            format!("queued takes and hands out items on {items}"),
            format!("curl -d hello {items}/v1/queues/demo/items"),
        ),
        (
            format!("queued hands out single items on {line}"),
            format!("curl -d one {items}/v1/queues/line/items; nc {host} {}", line.port()),
        ),
        ("logd   page".to_owned(), page_of(logd, &options.page)),
        ("logcd  page".to_owned(), page_of(logcd, &options.page)),
        ("queued page".to_owned(), format!("http://{items}/")),
        ("all    probes and metrics".to_owned(), format!("curl {logd}/ready {logcd}/ready {items}/metrics")),
    ];
    let mut text = String::new();
    for (what, try_it) in endpoints {
        text.push_str(&format!("{what:<52} {try_it}\n"));
    }
    if !options.address.is_loopback() {
        text.push_str(match options.page.page_token {
            Some(_) => "Other hosts open the pages of logd and logcd at http://HOST:PORT/?token=TOKEN\n",
            None => "The pages of logd and logcd are for this host alone; --page-token FILE opens them to others.\n",
        });
    }
    text.push_str("Ctrl-C stops the crew; the data stays.\n");
    let mut stdout = std::io::stdout().lock();
    // Ignore errors: there may be no reader.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
