//! Counts the memory and the log bytes that items take.

use super::item::Item;
use std::collections::BTreeMap;

/// Approximate bytes of an item in the log beyond its body.
const ITEM_RECORD_BYTES: u64 = 40;

/// Totals over the items of all queues, updated with every change.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    pub items: u64,
    /// Bytes of bodies in memory.
    pub memory_bytes: u64,
    /// Log bytes of existing items, by segment.
    pub live: BTreeMap<u32, u64>,
    pub live_bytes: u64,
}

impl Usage {
    pub fn add(&mut self, item: &Item) {
        let bytes = u64::from(item.len) + ITEM_RECORD_BYTES;
        self.items += 1;
        self.memory_bytes += item.body_bytes_in_memory();
        self.live_bytes += bytes;
        *self.live.entry(item.place.segment).or_default() += bytes;
    }

    pub fn subtract(&mut self, item: &Item) {
        let bytes = u64::from(item.len) + ITEM_RECORD_BYTES;
        self.items -= 1;
        self.memory_bytes -= item.body_bytes_in_memory();
        self.live_bytes -= bytes;
        if let Some(live) = self.live.get_mut(&item.place.segment) {
            *live -= bytes;
            if *live == 0 {
                self.live.remove(&item.place.segment);
            }
        }
    }
}
