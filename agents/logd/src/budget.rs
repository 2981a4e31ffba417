//! Memory for unfinished lines, shared by all connections.
//!
//! Half of the budget is divided evenly. Each connection may always hold its share, so a hostile neighbour
//! with endless lines cannot harm the ordinary lines of others. The other half is for longer lines.

use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// Smallest share, so that no connection has to read byte by byte.
const SHARE_BYTES_MIN: usize = 256;

/// The common half, and each connection's own share.
#[derive(Debug)]
pub struct Budget {
    share_bytes: usize,
    common_left: Cell<usize>,
    freed: Notify,
}

impl Budget {
    pub fn new(total_bytes: usize, connections_max: usize) -> Rc<Budget> {
        let share_bytes = (total_bytes / 2 / connections_max.max(1)).max(SHARE_BYTES_MIN);
        Rc::new(Budget { share_bytes, common_left: Cell::new(total_bytes / 2), freed: Notify::new() })
    }

    /// Resolves when a connection has given memory back.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// The memory that one connection holds beyond its share; returned when dropped.
#[derive(Debug)]
pub struct Holding {
    budget: Rc<Budget>,
    borrowed_bytes: usize,
}

impl Holding {
    pub fn new(budget: Rc<Budget>) -> Holding {
        Holding { budget, borrowed_bytes: 0 }
    }

    /// Returns the number of bytes that may be held now.
    pub fn available(&self) -> usize {
        self.budget.share_bytes + self.budget.common_left.get() + self.borrowed_bytes
    }

    /// Records that the connection holds `held_bytes` now. Returns false if there is no room for them.
    pub fn set(&mut self, held_bytes: usize) -> bool {
        let wanted = held_bytes.saturating_sub(self.budget.share_bytes);
        let available = self.budget.common_left.get() + self.borrowed_bytes;
        if wanted > available {
            return false;
        }
        self.budget.common_left.set(available - wanted);
        if wanted < self.borrowed_bytes {
            self.budget.freed.notify_waiters();
        }
        self.borrowed_bytes = wanted;
        true
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_free_whatever_others_hold() {
        let budget = Budget::new(10_000, 10);
        let mut hog = Holding::new(budget.clone());
        assert_eq!(hog.available(), 5500, "its share of 500 and all of the common 5000");
        assert!(hog.set(5500));
        assert!(!hog.set(5501));
        let mut ordinary = Holding::new(budget.clone());
        assert_eq!((hog.available(), ordinary.available()), (5500, 500));
        assert!(ordinary.set(500));
        assert!(!ordinary.set(501));
        drop(hog);
        assert!(ordinary.set(501));
        drop(ordinary);
        assert_eq!(budget.common_left.get(), 5000, "everything came back");
    }
}
