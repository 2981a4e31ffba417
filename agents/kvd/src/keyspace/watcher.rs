//! A watcher: the mutations of keys with a prefix, in order and without a gap.

use super::Feed;
use crate::store::contract::{Mutation, Revision};
use crate::store::ring::{self, NotKept};
use std::sync::Arc;
use tokio::sync::watch;

/// Limit on the mutations that are examined under one lock.
const LOOK_AT: usize = 512;
/// Limit on the bytes of mutations that are taken at a time. They stay in memory until the client reads them.
const TAKEN_BYTES: usize = 64 << 10;

/// Watches keys with a prefix. Holds a position and no mutations.
#[derive(Debug)]
pub struct KeyWatcher {
    feed: Arc<Feed>,
    prefix: Box<str>,
    /// The revision up to which mutations were examined.
    position: Revision,
    newest: watch::Receiver<Revision>,
}

impl KeyWatcher {
    pub(super) fn new(feed: Arc<Feed>, prefix: &str, after: Option<Revision>) -> Result<KeyWatcher, NotKept> {
        let newest = feed.newest.subscribe();
        let position = {
            let ring = feed.ring();
            let after = after.unwrap_or_else(|| ring.newest());
            ring.position(after)?;
            after
        };
        Ok(KeyWatcher { feed, prefix: prefix.into(), position, newest })
    }

    pub fn position(&self) -> Revision {
        self.position
    }

    /// Waits for the next mutations, and returns at least one. Fails if some are no longer kept, because this
    /// watcher was too slow. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Mutation>, NotKept> {
        loop {
            self.newest.mark_unchanged();
            let (found, is_newest) = self.look()?;
            if !found.is_empty() {
                return Ok(found);
            }
            if is_newest {
                // The sender lives as long as the feed.
                let _ = self.newest.changed().await;
            }
        }
    }

    /// Examines the next mutations, and returns those with the prefix. The flag is true if there are no later
    /// ones.
    fn look(&mut self) -> Result<(Vec<Mutation>, bool), NotKept> {
        let ring = self.feed.ring();
        let (mut found, mut bytes) = (Vec::new(), 0);
        for mutation in ring.after(self.position, LOOK_AT)? {
            self.position = mutation.revision;
            if mutation.key.starts_with(&*self.prefix) {
                bytes += ring::length(mutation);
                found.push(mutation.clone());
            }
            if bytes >= TAKEN_BYTES {
                break;
            }
        }
        Ok((found, self.position == ring.newest()))
    }
}
