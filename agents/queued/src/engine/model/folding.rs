//! Compares a state with the one that a later fold over its log reaches.

use super::Both;

impl Both {
    /// A fold reads no clock, so its result is the same at any time and on any machine. After a fold over the
    /// whole history, every field is the same. If the beginning of the log was removed, attempts and the
    /// starts of leases may be missing.
    pub(super) fn fold_and_compare(&self) {
        assert_eq!(self.core.fields(false), self.tape.replay().fields(false));
        if self.knows_history {
            assert_eq!(self.core.fields(true), self.tape.replay_from(0).fields(true));
        }
    }
}
