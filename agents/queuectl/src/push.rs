//! `queuectl push`: items in batches, each with a key so that a repeated request pushes nothing twice.

use crate::api::Client;
use crate::failure::Failure;
use crate::flags::Push;
use crate::items::{InputItem, ItemOrigin, ItemReader};
use crate::manage::Console;
use crate::retry::until_answered;
use crate::wire::{PushBatch, PushItem, PushedItem, millis};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kit::exit::{Exit, Fatal};
use kit::terminal::{self, count};
use serde_json::json;
use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

const BATCH_ITEMS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Bytes that an item takes in a request in addition to its body.
const ITEM_OVERHEAD_BYTES: usize = 64;

/// An item that was read and is not pushed yet.
struct PendingItem {
    item: PushItem,
    origin: ItemOrigin,
    /// The bytes that the item adds to a batch.
    bytes: usize,
}

/// Counts the items that the server has.
#[derive(Default)]
struct Counts {
    items: u64,
    duplicates: u64,
    /// True if the keys are this run's own. A duplicate is then only a repeated request.
    keys_are_own: bool,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duplicates = if self.keys_are_own { 0 } else { self.duplicates };
        write!(f, "pushed {}", count(self.items - duplicates, "item"))?;
        match duplicates {
            0 => Ok(()),
            1 => f.write_str(", 1 was there already"),
            more => write!(f, ", {more} were there already"),
        }
    }
}

struct Pusher<'a> {
    client: &'a Client,
    push: &'a Push,
    give_up: Duration,
    bar: ProgressBar,
    counts: Counts,
    /// The bound on a batch. Lowered when the server, or a proxy in front of it, has refused a batch as too
    /// large.
    batch_bytes_max: usize,
}

pub(crate) async fn push(console: &Console<'_>, push: &Push) -> Result<(), Fatal> {
    let mut items = ItemReader::of(push).await?;
    let keys = PushKeys::of(push, &items)?;
    let mut pusher = Pusher {
        client: console.client,
        push,
        give_up: console.producers_give_up(),
        bar: progress(items.count(), push.lines.is_some()),
        counts: Counts { keys_are_own: push.key_prefix.is_none() && push.key.is_none(), ..Counts::default() },
        batch_bytes_max: BATCH_BYTES_MAX,
    };
    let mut batch: Vec<PendingItem> = Vec::new();
    let (mut bytes, mut number) = (0, 0);
    while let Some(InputItem { body, origin }) = items.next().await? {
        number += 1;
        let size = body.len() + ITEM_OVERHEAD_BYTES;
        // Kept until another item follows, since the last batch carries the seal.
        let is_full = batch.len() == BATCH_ITEMS_MAX || bytes + size > pusher.batch_bytes_max;
        if is_full && !batch.is_empty() {
            pusher.send(std::mem::take(&mut batch), false).await?;
            bytes = 0;
        }
        bytes += size;
        let delay_ms = push.delay.map(millis);
        let item = PushItem { body: body.into(), key: keys.of_item(number), delay_ms };
        batch.push(PendingItem { item, origin, bytes: size });
    }
    if push.seal || !batch.is_empty() {
        pusher.send(batch, push.seal).await?;
    }
    pusher.bar.finish_and_clear();
    let counts = pusher.counts;
    if console.json {
        let Counts { items, duplicates, .. } = counts;
        return terminal::line(&json!({"pushed": items, "duplicates": duplicates, "sealed": push.seal}));
    }
    if push.ids {
        return Ok(());
    }
    let sealed = if push.seal { ", sealed" } else { "" };
    terminal::line(&format!("{counts}{sealed}"))
}

impl Pusher<'_> {
    /// Pushes a batch, in halves if it is too large for the server. The last part carries the seal.
    async fn send(&mut self, batch: Vec<PendingItem>, seal: bool) -> Result<(), Fatal> {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.send_part(&part, seal && parts.is_empty()).await {
                Ok(pushed) => self.note(&pushed)?,
                Err(failure) if failure.is_too_large() && part.len() > 1 => {
                    let bytes: usize = part.iter().map(|pending| pending.bytes).sum();
                    self.batch_bytes_max = self.batch_bytes_max.min(bytes / 2);
                    tracing::debug!(
                        event = "batch_split",
                        bytes,
                        "the batch is too large for the server, sending it in halves"
                    );
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(failure) => return Err(self.failed(failure, &part)),
            }
        }
        Ok(())
    }

    async fn send_part(&self, part: &[PendingItem], seal: bool) -> Result<Vec<PushedItem>, Failure> {
        let (client, queue) = (self.client, &self.push.which.queue);
        until_answered(client, self.give_up, async || match part {
            [only] => Ok(vec![client.push_one(queue, &only.item, seal).await?]),
            items => {
                let items = items.iter().map(|pending| &pending.item).collect();
                Ok(client.push_batch(queue, &PushBatch { items, seal }).await?.items)
            }
        })
        .await
    }

    fn note(&mut self, pushed: &[PushedItem]) -> Result<(), Fatal> {
        for item in pushed {
            self.counts.items += 1;
            self.counts.duplicates += u64::from(item.duplicate);
            if self.push.ids {
                terminal::line(&item.id)?;
            }
        }
        self.bar.set_position(self.counts.items);
        Ok(())
    }

    /// Names the queue, the item if it is the cause, and how far the push got.
    fn failed(&self, failure: Failure, part: &[PendingItem]) -> Fatal {
        let what = match part {
            [only] if failure.is_about_the_item() => {
                format!("{} ({}) ", only.origin, count_bytes(&only.item))
            }
            _ => String::new(),
        };
        let (queue, server) = (&self.push.which.queue, self.client.server());
        let before = if self.counts.items > 0 { format!("; {} before", self.counts) } else { String::new() };
        failure.fatal(format!("cannot push {what}to queue {queue} of {server}{before}"))
    }
}

fn count_bytes(item: &PushItem) -> String {
    count(u64::try_from(item.body.bytes().len()).unwrap_or(u64::MAX), "byte")
}

/// The keys that make a repeated push have no further effect.
enum PushKeys {
    None,
    One(String),
    Numbered(String),
}

impl PushKeys {
    fn of(push: &Push, items: &ItemReader) -> Result<PushKeys, Fatal> {
        Ok(match (&push.key, &push.key_prefix) {
            _ if push.no_key => PushKeys::None,
            (Some(_), _) if items.count() != Some(1) => {
                return Err(Fatal::new(Exit::Usage, "--key is for a single ITEM or FILE, see --key-prefix"));
            }
            (Some(key), _) => PushKeys::One(key.clone()),
            (None, Some(prefix)) => PushKeys::Numbered(prefix.clone()),
            // A random prefix: the keys only make this run's own retries harmless.
            (None, None) => PushKeys::Numbered(format!("{:016x}", fastrand::u64(..))),
        })
    }

    fn of_item(&self, number: u64) -> Option<String> {
        match self {
            PushKeys::None => None,
            PushKeys::One(key) => Some(key.clone()),
            PushKeys::Numbered(prefix) => Some(format!("{prefix}-{number}")),
        }
    }
}

/// Shows a progress bar, if a person watches and does not type the items.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_items_count_as_pushed() {
        let said = |items, duplicates, keys_are_own| Counts { items, duplicates, keys_are_own }.to_string();
        assert_eq!(said(1, 0, true), "pushed 1 item");
        assert_eq!(said(2, 2, true), "pushed 2 items");
        assert_eq!(said(3, 1, false), "pushed 2 items, 1 was there already");
        assert_eq!(said(2000, 2000, false), "pushed 0 items, 2000 were there already");
    }
}
