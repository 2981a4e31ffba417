//! `logd stats`: shows the figures of the page in a terminal, once or repeatedly.

mod display;
mod figures_stream;

use display::Display;
use figures_stream::FiguresStream;
use kit::exit::{Exit, Fatal};
use kit::page::access::token_of;
use kit::settings::Door;
use kit::telemetry::logs::LogFormat;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::sleep;

const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Options of `logd stats`
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Ask the logd on this host that was started with this --admin
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7667")]
    pub admin: Door,

    /// Read the page's token from this file, if logd was started with --page-token
    #[arg(long, value_name = "FILE")]
    pub page_token: Option<PathBuf>,

    /// Print every second until interrupted
    #[arg(long, short)]
    pub watch: bool,

    /// Print one JSON object per line
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

/// An error of one of the two ends: the daemon's stream or the display.
enum FollowError {
    Stream(Fatal),
    Display(Fatal),
}
