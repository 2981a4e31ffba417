//! Keys: text that a URL, a listing and a shell can carry.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The maximum length of a key. A path of this length fits into the request line of every HTTP client.
pub const KEY_BYTES_MAX: usize = 1024;

/// A key: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8 without control characters. Keys are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key has at least one character")]
    Empty,
    #[error("a key has at most {KEY_BYTES_MAX} bytes, not {0}")]
    TooLong(usize),
    #[error("a key has no control characters, such as {0:?}")]
    Control(char),
    #[error("a key is UTF-8")]
    NotUtf8,
}

impl Key {
    pub fn new(text: &str) -> Result<Key, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong(text.len()));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(control) => Err(KeyError::Control(control)),
            None => Ok(Key(text.into())),
        }
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Key, KeyError> {
        std::str::from_utf8(bytes).map_err(|_| KeyError::NotUtf8).and_then(Key::new)
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_short_text_without_control_characters() {
        for good in ["a", "..", "a/b//c", "ключ", "a,b", " ", "100%", &"x".repeat(KEY_BYTES_MAX)] {
            assert_eq!(&*Key::new(good).unwrap(), good);
        }
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert_eq!(Key::new(&"x".repeat(KEY_BYTES_MAX + 1)), Err(KeyError::TooLong(KEY_BYTES_MAX + 1)));
        for control in ['\0', '\n', '\t', '\u{7f}', '\u{85}'] {
            assert_eq!(Key::new(&format!("a{control}b")), Err(KeyError::Control(control)));
        }
        assert_eq!(Key::from_bytes(b"a\xff"), Err(KeyError::NotUtf8));
        assert_eq!(Key::from_bytes(b"\xd1\x8f").unwrap(), Key::new("я").unwrap());
    }
}
