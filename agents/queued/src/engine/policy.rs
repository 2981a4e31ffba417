//! The settings of a queue: lease time, attempts, back-off, limits.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Shorter leases expire before an answer has crossed a network; no client needs a lease of more than a day.
const LEASE_MS: RangeInclusive<u64> = 100..=86_400_000;
const ATTEMPTS_MAX: u32 = 1_000_000;
/// A year: keeps sums of times far from overflow.
const DURATION_MS_MAX: u64 = 366 * 86_400_000;
pub const NAME_BYTES_MAX: usize = 128;

/// The settings of one queue; they are part of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub lease_ms: u64,
    /// 0 means unlimited.
    pub max_attempts: u32,
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    /// 0 means that only the server's limits apply.
    pub max_items: u64,
    pub max_bytes: u64,
    pub key_memory_ms: u64,
    pub dead_letter_queue: Option<Box<str>>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            lease_ms: 30_000,
            max_attempts: 5,
            backoff_ms: 1_000,
            backoff_max_ms: 60_000,
            max_items: 0,
            max_bytes: 0,
            key_memory_ms: 600_000,
            dead_letter_queue: None,
        }
    }
}

/// A change of settings; absent fields keep their value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyChange {
    pub lease_ms: Option<u64>,
    pub max_attempts: Option<u32>,
    pub backoff_ms: Option<u64>,
    pub backoff_max_ms: Option<u64>,
    pub max_items: Option<u64>,
    pub max_bytes: Option<u64>,
    pub key_memory_ms: Option<u64>,
    /// `Some(None)` is a `null`: from now on dead items stay in the queue.
    #[serde(deserialize_with = "present")]
    pub dead_letter_queue: Option<Option<Box<str>>>,
}

/// Distinguishes a field that is `null` from an absent one.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<Box<str>>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

impl Policy {
    /// Returns the settings after the change, or the reason why the change is refused.
    pub fn changed(&self, change: &PolicyChange) -> Result<Policy, String> {
        let mut new = self.clone();
        let set = |field: &mut u64, value: Option<u64>| *field = value.unwrap_or(*field);
        set(&mut new.lease_ms, change.lease_ms);
        set(&mut new.backoff_ms, change.backoff_ms);
        set(&mut new.backoff_max_ms, change.backoff_max_ms);
        set(&mut new.max_items, change.max_items);
        set(&mut new.max_bytes, change.max_bytes);
        set(&mut new.key_memory_ms, change.key_memory_ms);
        new.max_attempts = change.max_attempts.unwrap_or(new.max_attempts);
        if let Some(name) = &change.dead_letter_queue {
            new.dead_letter_queue = name.clone().filter(|name| !name.is_empty());
        }
        check_lease_ms(new.lease_ms)?;
        if new.max_attempts > ATTEMPTS_MAX {
            return Err(format!("max_attempts is at most {ATTEMPTS_MAX}"));
        }
        for (name, value) in [
            ("backoff_ms", new.backoff_ms),
            ("backoff_max_ms", new.backoff_max_ms),
            ("key_memory_ms", new.key_memory_ms),
        ] {
            check_duration_ms(name, value)?;
        }
        if let Some(name) = &new.dead_letter_queue {
            check_name(name).map_err(|e| format!("dead_letter_queue: {e}"))?;
        }
        Ok(new)
    }

    /// Returns the delay of an item after this number of attempts.
    pub fn backoff_ms_after(&self, attempts: u32) -> u64 {
        let doublings = attempts.saturating_sub(1).min(62);
        self.backoff_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms)
    }

    /// True if an item with this number of attempts must not be leased again.
    pub fn is_spent(&self, attempts: u32) -> bool {
        self.max_attempts != 0 && attempts >= self.max_attempts
    }
}

pub fn check_lease_ms(lease_ms: u64) -> Result<u64, String> {
    let (low, high) = (LEASE_MS.start(), LEASE_MS.end());
    if LEASE_MS.contains(&lease_ms) { Ok(lease_ms) } else { Err(format!("lease_ms is from {low} to {high}")) }
}

pub fn check_duration_ms(name: &str, value: u64) -> Result<u64, String> {
    if value <= DURATION_MS_MAX { Ok(value) } else { Err(format!("{name} is at most {DURATION_MS_MAX}")) }
}

/// Permits only characters that need no quotes in paths, labels and shell commands.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!(
            "a queue's name is 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ - and does not begin with a dot"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_bound() {
        let policy = Policy { backoff_ms: 100, backoff_max_ms: 1000, ..Policy::default() };
        let rests: Vec<u64> = (1..=6).map(|attempts| policy.backoff_ms_after(attempts)).collect();
        assert_eq!(rests, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.backoff_ms_after(u32::MAX), 1000);
        assert_eq!(Policy { backoff_ms: 0, ..policy }.backoff_ms_after(9), 0);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name_and_null_clears() {
        let change: PolicyChange =
            serde_json::from_str(r#"{"lease_ms":500,"dead_letter_queue":"bad"}"#).unwrap();
        let policy = Policy::default().changed(&change).unwrap();
        assert_eq!((policy.lease_ms, policy.max_attempts), (500, 5));
        assert_eq!(policy.dead_letter_queue.as_deref(), Some("bad"));
        let change: PolicyChange = serde_json::from_str(r#"{"dead_letter_queue":null}"#).unwrap();
        let policy = policy.changed(&change).unwrap();
        assert_eq!((policy.lease_ms, policy.dead_letter_queue), (500, None));
    }

    #[test]
    fn nonsense_is_named() {
        for (change, word) in [
            (r#"{"lease_ms":1}"#, "lease_ms"),
            (r#"{"max_attempts":1000001}"#, "max_attempts"),
            (r#"{"backoff_ms":99999999999999}"#, "backoff_ms"),
            (r#"{"dead_letter_queue":"a/b"}"#, "dead_letter_queue"),
        ] {
            let change: PolicyChange = serde_json::from_str(change).unwrap();
            assert!(Policy::default().changed(&change).unwrap_err().contains(word));
        }
        for name in ["", ".hidden", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("keygen-2.dead_letters").unwrap();
    }
}
