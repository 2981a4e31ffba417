//! Waits by polling until the condition holds.

use std::time::{Duration, Instant};

/// Deadline that is long enough for a busy machine; no test result depends on its length.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pause between two checks: each check is a process and several requests.
const PAUSE: Duration = Duration::from_millis(300);

/// Waits until `look` finds something; panics at the deadline with the text of `tell`.
#[track_caller]
pub fn until_or<T>(what: &str, tell: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "this did not come: {what}\n{}", tell());
        #[expect(
            clippy::disallowed_methods,
            reason = "not for time to pass: so that looking is not all the machine does"
        )]
        std::thread::sleep(PAUSE);
    }
}

#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_or(what, String::new, look)
}
