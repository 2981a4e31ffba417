//! The one way to wait: look again until it is there.

use std::time::{Duration, Instant};

/// Long enough for a busy machine; nothing is judged by it.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks: each is a process and several requests.
const PAUSE: Duration = Duration::from_millis(300);

/// Panics with what `tell` says when `look` finds nothing for long.
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
