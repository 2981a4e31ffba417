//! Applies changed settings to container logs. Without directories of logs, nothing else watches the settings.

use crate::pods::config::PodsConfig;
use crate::settings::Flags;
use kit::daemon::Context;
use kit::exit::Fatal;
use kit::settings::Settings;
use tokio::sync::watch;

/// The settings that are applied to running container logs.
const LIVE: &[&str] = &[
    "publish-within",
    "keep-days",
    "keep-bytes",
    "namespace",
    "min-free",
    "max-files",
    "max-holes",
    "max-deleted",
    "log-level",
];

/// Reads the settings again at each SIGHUP and after each change of their file, until the daemon is drained.
pub async fn run(
    mut settings: Settings<Flags>,
    pods: watch::Sender<PodsConfig>,
    context: Context,
) -> Result<(), Fatal> {
    let stop = context.stop.clone();
    let mut hangups = stop.hangups();
    let mut file = settings.flags.serve.common.file();
    loop {
        tokio::select! {
            () = stop.drain.cancelled() => return Ok(()),
            Ok(()) = hangups.changed() => {}
            () = file.changed() => {}
        }
        let renewed = settings.renew(LIVE, |flags| {
            let config = flags.serve.pods_config()?;
            kit::telemetry::logs::set_level(&flags.serve.common.log_level)?;
            Ok(config)
        });
        if let Some((new, config)) = renewed {
            settings = new;
            config.into_iter().for_each(|config| drop(pods.send_replace(config)));
        }
    }
}
