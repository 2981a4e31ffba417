//! A queue's name, as the server takes it; checked here so that it can be part of a path.

use std::fmt;
use std::str::FromStr;

const BYTES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueName(String);

impl FromStr for QueueName {
    type Err = String;

    fn from_str(text: &str) -> Result<QueueName, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let length = 1..=BYTES_MAX;
        if length.contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.') {
            Ok(QueueName(text.to_owned()))
        } else {
            Err("expected 1 to 128 of A-Z a-z 0-9 . _ -, not beginning with a dot".to_owned())
        }
    }
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
    fn names_that_could_leave_their_place_in_a_path_are_refused() {
        for good in ["keygen", "a.b_c-D9", &"x".repeat(128)] {
            assert_eq!(good.parse::<QueueName>().unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", ".a", "a/b", "a?b", "a b", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
    }
}
