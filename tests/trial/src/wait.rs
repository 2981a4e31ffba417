//! The one way to wait for what tells nobody of itself.

use std::time::{Duration, Instant};

/// Nothing in a test takes nearly as long, on a busy machine either; it only turns a hang into a failure.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// Between two looks at a condition.
pub const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits for the thing itself; what it is goes into the message if it does not come.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(comes_true(condition), "in vain: {what}");
}

pub(crate) fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        let is_true = condition();
        if is_true || began.elapsed() > DEADLINE {
            return is_true;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}
