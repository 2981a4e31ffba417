//! `queuectl push`: items in batches, each with a key so that a repeated request pushes nothing twice.

use crate::flags::Push;
use crate::items::Items;
use crate::manage::Desk;
use crate::patience::persist;
use crate::wire::{PushBatch, PushItem, millis};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kit::exit::{Exit, Fatal};
use kit::terminal;
use serde_json::json;
use std::io::IsTerminal;
use std::time::Duration;

const BATCH_ITEMS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Bytes that an item costs in a request beside its body.
const ITEM_OVERHEAD_BYTES: usize = 64;

/// What was pushed so far.
#[derive(Default)]
struct Tally {
    items: usize,
    duplicates: usize,
}

pub(crate) async fn push(desk: &Desk<'_>, push: &Push) -> Result<(), Fatal> {
    let mut items = Items::of(push).await?;
    let keys = Keys::of(push, &items)?;
    let bar = progress(items.count(), push.lines.is_some());
    let mut tally = Tally::default();
    let mut batch = PushBatch { items: Vec::new(), seal: false };
    let (mut bytes, mut number) = (0, 0);
    while let Some(item) = items.next().await? {
        number += 1;
        let size = item.len() + ITEM_OVERHEAD_BYTES;
        // Kept back until something follows it: the last batch carries the seal.
        if !batch.items.is_empty() && (batch.items.len() == BATCH_ITEMS_MAX || bytes + size > BATCH_BYTES_MAX)
        {
            send(desk, push, &mut batch, &mut tally, &bar).await?;
            bytes = 0;
        }
        bytes += size;
        let delay_ms = push.delay.map(millis);
        batch.items.push(PushItem { body: item.into(), key: keys.of_item(number), delay_ms });
    }
    batch.seal = push.seal;
    if push.seal || !batch.items.is_empty() {
        send(desk, push, &mut batch, &mut tally, &bar).await?;
    }
    bar.finish_and_clear();
    let Tally { items, duplicates } = tally;
    if desk.json {
        return terminal::line(&json!({"pushed": items, "duplicates": duplicates, "sealed": push.seal}));
    }
    if push.ids {
        return Ok(());
    }
    let again = if duplicates > 0 { format!(" ({duplicates} were there already)") } else { String::new() };
    let sealed = if push.seal { ", sealed" } else { "" };
    terminal::line(&format!("pushed {items} items{again}{sealed}"))
}

async fn send(
    desk: &Desk<'_>,
    push: &Push,
    batch: &mut PushBatch,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<(), Fatal> {
    let (queue, client) = (&push.which.queue, desk.client);
    let asked =
        persist(client.server(), desk.patience_of_producers(), async || client.push(queue, batch).await)
            .await;
    let pushed = asked.map_err(|failure| {
        let so_far = tally.items;
        failure
            .fatal(format!("cannot push to queue {queue} of {}, {so_far} items were pushed", client.server()))
    })?;
    tally.items += pushed.items.len();
    tally.duplicates += pushed.items.iter().filter(|item| item.duplicate).count();
    bar.set_position(u64::try_from(tally.items).unwrap_or(u64::MAX));
    if push.ids {
        for item in &pushed.items {
            terminal::line(&item.id)?;
        }
    }
    batch.items.clear();
    Ok(())
}

/// What makes a repeated push the same push.
enum Keys {
    None,
    One(String),
    Numbered(String),
}

impl Keys {
    fn of(push: &Push, items: &Items) -> Result<Keys, Fatal> {
        Ok(match (&push.key, &push.key_prefix) {
            _ if push.no_key => Keys::None,
            (Some(_), _) if items.count() != Some(1) => {
                return Err(Fatal::new(Exit::Usage, "--key is for a single ITEM or FILE, see --key-prefix"));
            }
            (Some(key), _) => Keys::One(key.clone()),
            (None, Some(prefix)) => Keys::Numbered(prefix.clone()),
            // Nobody else's: it only makes this run's own repeats harmless.
            (None, None) => Keys::Numbered(format!("{:016x}", fastrand::u64(..))),
        })
    }

    fn of_item(&self, number: u64) -> Option<String> {
        match self {
            Keys::None => None,
            Keys::One(key) => Some(key.clone()),
            Keys::Numbered(prefix) => Some(format!("{prefix}-{number}")),
        }
    }
}

/// Only for a person who looks at it while something else types the items.
fn progress(count: Option<usize>, from_file: bool) -> ProgressBar {
    let typed = count.is_none() && !from_file && std::io::stdin().is_terminal();
    if typed || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (length, template) = match count {
        Some(count) => (u64::try_from(count).ok(), "{bar:30} {pos}/{len} items, {per_sec}"),
        None => (None, "{spinner} {pos} items, {per_sec}, {elapsed}"),
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
