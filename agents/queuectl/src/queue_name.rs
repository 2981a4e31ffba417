//! A queue's name, checked by the server's rule so that it can be part of a path.

use std::fmt;
use std::str::FromStr;

const BYTES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueName(String);

impl FromStr for QueueName {
    type Err = String;

    fn from_str(text: &str) -> Result<QueueName, String> {
        let length = 1..=BYTES_MAX;
        if length.contains(&text.len()) && text.chars().all(is_allowed) && !text.starts_with('.') {
            Ok(QueueName(text.to_owned()))
        } else {
            Err(format!(
                "expected 1 to {BYTES_MAX} letters, digits, dots, underscores or dashes, and no dot at the start, \
                 such as {}",
                possible(text)
            ))
        }
    }
}

/// Suggests a similar name that the server accepts.
fn possible(text: &str) -> String {
    let replaced = text.trim().chars().map(|c| if is_allowed(c) { c } else { '-' });
    let name: String = replaced.skip_while(|c| *c == '.').take(BYTES_MAX).collect();
    if name.chars().any(|c| c.is_ascii_alphanumeric()) { name } else { "work-items".to_owned() }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_a_path_are_refused() {
        for good in ["keygen", "a.b_c-D9", &"x".repeat(128)] {
            assert_eq!(good.parse::<QueueName>().unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", ".a", "a/b", "a?b", "a b", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hint_is_a_name_that_is_possible() {
        for (bad, hint) in [("a b/ä", "a-b--"), ("..a", "a"), ("", "work-items"), ("ä", "work-items")] {
            let error = bad.parse::<QueueName>().unwrap_err();
            assert!(error.ends_with(&format!("such as {hint}")), "{error}");
            assert!(hint.parse::<QueueName>().is_ok());
        }
        assert!(possible(&"x".repeat(200)).parse::<QueueName>().is_ok());
    }
}
