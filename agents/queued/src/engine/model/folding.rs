//! Compares a state with the one that a later fold over its log reaches.

use super::Both;

impl Both {
    /// A fold takes no clock, so it is the same at any time and place. Every field is the same after the whole
    /// history. After a log whose beginning was removed, attempts and beginnings of leases may be missing.
    pub(super) fn fold_and_compare(&self) {
        assert_eq!(self.core.fields(false), self.tape.replay().fields(false));
        if self.knows_history {
            assert_eq!(self.core.fields(true), self.tape.replay_from(0).fields(true));
        }
    }
}
