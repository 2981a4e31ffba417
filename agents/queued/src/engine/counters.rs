//! The counters of a queue, from its creation on.

/// Counts since the queue was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub pushed: u64,
    pub leases: u64,
    pub acked: u64,
    pub nacked: u64,
    pub expired: u64,
    pub released: u64,
    pub died: u64,
    pub drained: u64,
    pub removed: u64,
    /// Items that died and were moved to the dead-letter queue. Unknown in a log of version 1.
    pub moved: Option<u64>,
    /// Items that a repair could not find.
    pub lost: u64,
}

impl Counters {
    /// Calls `see` with each counter that every version of the log has.
    pub fn each(&self, mut see: impl FnMut(u64)) {
        let Counters { pushed, leases, acked, nacked, expired, released, died, drained, removed, .. } = *self;
        for value in [pushed, leases, acked, nacked, expired, released, died, drained, removed] {
            see(value);
        }
    }

    pub fn from_each(mut next: impl FnMut() -> Option<u64>) -> Option<Counters> {
        Some(Counters {
            pushed: next()?,
            leases: next()?,
            acked: next()?,
            nacked: next()?,
            expired: next()?,
            released: next()?,
            died: next()?,
            drained: next()?,
            removed: next()?,
            moved: None,
            lost: 0,
        })
    }
}
