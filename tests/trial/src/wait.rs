//! Waits for a condition by polling, for things that send no notification.

use std::time::{Duration, Instant};

/// Far longer than any wait in a test takes, even on a busy machine; it only turns a hang into a failure.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// Interval between two checks of a condition.
pub const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until the condition holds; `what` names it in the message if it never does.
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
