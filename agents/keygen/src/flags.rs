//! The settings of keygen.

use kit::settings::help::examples;
use kit::settings::parse_duration;
use std::time::Duration;

/// The longest key. A longer one would take minutes, and nobody uses such keys.
const BITS_MAX: u64 = 16384;

/// Makes RSA keys, prints the SHA256 fingerprint of each one's SSH public key, and discards the keys.
///
/// Stdin is ignored, so that keygen can be the command of `queuectl run`. Each long flag is also an
/// environment variable (KEYGEN_COUNT for --count).
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "keygen", after_long_help = examples(&[
    "keygen --count 3",
    "keygen --bits 1024 --time 10s",
    "queuectl run -q keygen -- keygen                     # one key for each item",
]))]
pub(crate) struct Flags {
    /// Make this many keys [default: 1, or with --time as many as fit]
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Length of each key in bits
    #[arg(long, value_name = "N", default_value = "4096", value_parser = parse_bits)]
    pub(crate) bits: usize,

    /// Start no new key after this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    time: Option<Duration>,

    /// Exit with this code at the end, to demonstrate failures
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) exit_code: u8,
}

impl Flags {
    /// True if another key must be made, after `made` keys in the time `elapsed`.
    pub(crate) fn wants_more(&self, made: u64, elapsed: Duration) -> bool {
        let count_max = self.count.unwrap_or(if self.time.is_some() { u64::MAX } else { 1 });
        made < count_max && self.time.is_none_or(|time| elapsed < time)
    }
}

fn parse_bits(text: &str) -> Result<usize, String> {
    let bits = text.parse::<u64>().ok().filter(|bits| (512..=BITS_MAX).contains(bits));
    bits.and_then(|bits| usize::try_from(bits).ok()).ok_or_else(|| format!("expected 512 to {BITS_MAX} bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn wants(arguments: &[&str], made: u64, elapsed_s: u64) -> bool {
        let flags = Flags::parse_from(["keygen"].iter().chain(arguments));
        flags.wants_more(made, Duration::from_secs(elapsed_s))
    }

    #[test]
    fn count_or_time_ends_the_run() {
        assert!(wants(&[], 0, 0) && !wants(&[], 1, 0));
        assert!(wants(&["--count", "3"], 2, 99) && !wants(&["--count", "3"], 3, 99));
        assert!(!wants(&["--count", "0"], 0, 0));
        assert!(wants(&["--time", "5s"], 1000, 4) && !wants(&["--time", "5s"], 0, 5));
        assert!(!wants(&["--time", "5s", "--count", "3"], 3, 1));
        assert!(!wants(&["--time", "5s", "--count", "3"], 2, 6));
    }
}
