//! The median, and percentiles.

use anyhow::Context;
use std::time::Duration;

/// Returns the whole round with the median `key`: figures of different rounds do not belong on one line.
pub fn median<T: Copy>(rounds: &[T], key: impl Fn(&T) -> f64) -> anyhow::Result<T> {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
    sorted.get(sorted.len() / 2).copied().context("no round")
}

/// Returns the seconds within which `of_a_thousand` of a thousand requests were done; NaN if there were none.
pub fn within(sorted: &[Duration], of_a_thousand: usize) -> f64 {
    let took = sorted.get(sorted.len() * of_a_thousand / 1000).or(sorted.last());
    took.map_or(f64::NAN, Duration::as_secs_f64)
}
