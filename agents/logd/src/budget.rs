//! Memory for lines whose end has not come yet, shared by all connections.
//!
//! Half of the budget is divided evenly: each connection may always hold its share, so a hostile neighbour with
//! endless lines cannot make anybody else's ordinary lines suffer. The other half is for whoever has longer ones.

use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// The common half, and each connection's own share.
#[derive(Debug)]
pub struct Budget {
    share_bytes: usize,
    common_left: Cell<usize>,
    freed: Notify,
}

impl Budget {
    pub fn new(total_bytes: usize, connections_max: usize) -> Rc<Budget> {
        let share_bytes = (total_bytes / 2 / connections_max.max(1)).max(1);
        Rc::new(Budget { share_bytes, common_left: Cell::new(total_bytes / 2), freed: Notify::new() })
    }

    /// Resolves when somebody has given memory back.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// What one connection holds beyond its share; given back when dropped.
#[derive(Debug)]
pub struct Holding {
    budget: Rc<Budget>,
    borrowed_bytes: usize,
}

impl Holding {
    pub fn new(budget: Rc<Budget>) -> Holding {
        Holding { budget, borrowed_bytes: 0 }
    }

    /// Accounts for `held_bytes` now being held; false when there is no room for so much.
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
    fn a_share_is_there_whatever_the_others_hold() {
        let budget = Budget::new(1000, 10);
        let mut hog = Holding::new(budget.clone());
        assert!(hog.set(550), "its share of 50 and all of the common 500");
        assert!(!hog.set(551));
        let mut ordinary = Holding::new(budget.clone());
        assert!(ordinary.set(50));
        assert!(!ordinary.set(51));
        drop(hog);
        assert!(ordinary.set(51));
        drop(ordinary);
        assert_eq!(budget.common_left.get(), 500, "everything came back");
    }
}
