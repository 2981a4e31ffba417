//! Decides when the writer pauses, so that each iteration carries more.

use std::time::{Duration, Instant};

/// Makes small back-to-back iterations rarer, so that each carries more. If a sender writes line by line, the
/// iterations are most of the cost. A single line is never delayed. The lines of a busy stream are delayed by
/// at most `PAUSE`.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    last: Instant,
    taken_before: u64,
    quick_turns: u32,
    hurried: bool,
}

impl Pace {
    /// Length of a pause. With a longer one, a single fast sender fills its socket and has to wait.
    const PAUSE: Duration = Duration::from_micros(300);
    /// Longest gap before a quick iteration. After a gap this short, the thread hardly rested.
    const QUICK: Duration = Duration::from_micros(250);
    /// Size limit of a small iteration; large ones gain nothing from a pause.
    const SMALL_BYTES: u64 = 64 * 1024;
    /// Quick iterations that make a stream busy; a burst of a few lines does not.
    const BUSY_AFTER_TURNS: u32 = 16;

    pub fn begin() -> Pace {
        Pace { last: Instant::now(), taken_before: 0, quick_turns: 0, hurried: false }
    }

    pub fn skip_next(&mut self) {
        self.hurried = true;
    }

    pub fn after_turn(&mut self, now: Instant, taken: u64) -> Option<Duration> {
        let quick = now.saturating_duration_since(self.last) < Self::QUICK;
        let small = taken - self.taken_before < Self::SMALL_BYTES;
        let hurried = std::mem::take(&mut self.hurried);
        self.last = now;
        self.taken_before = taken;
        self.quick_turns = if quick { self.quick_turns.saturating_add(1) } else { 0 };
        (small && !hurried && self.quick_turns >= Self::BUSY_AFTER_TURNS).then_some(Self::PAUSE)
    }

    pub fn resumed(&mut self, now: Instant) {
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(pace: &mut Pace, gap: Duration, bytes: u64, count: u32) -> Option<Duration> {
        (0..count).map(|_| pace.after_turn(pace.last + gap, pace.taken_before + bytes)).last().flatten()
    }

    #[test]
    fn only_busy_small_streams_are_paced() {
        let busy = Duration::from_micros(10);
        assert_eq!(turns(&mut Pace::begin(), Duration::from_millis(1), 200, 100), None, "a slow sender");
        assert_eq!(turns(&mut Pace::begin(), busy, 200, 5), None, "a burst");
        assert_eq!(turns(&mut Pace::begin(), busy, 100_000, 100), None, "large blocks");
        assert_eq!(turns(&mut Pace::begin(), busy, 200, 100), Some(Pace::PAUSE));
    }

    #[test]
    fn new_connection_skips_the_pause() {
        let mut pace = Pace::begin();
        turns(&mut pace, Duration::from_micros(10), 200, 100);
        pace.skip_next();
        assert_eq!(turns(&mut pace, Duration::from_micros(10), 200, 1), None);
    }
}
