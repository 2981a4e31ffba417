//! Puts an item into a command's arguments and environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The longest word of a command line. Linux rejects an argument or variable above 32 pages, including its
/// name and NUL byte.
const WORD_BYTES_MAX: usize = 128 * 1024 - 64;

/// The reason why an item cannot be a word of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAWord {
    #[error("it contains a NUL byte")]
    Nul,
    #[error("it is longer than {WORD_BYTES_MAX} bytes")]
    TooLong,
}

/// Returns the item as one word, byte for byte; it need not be UTF-8.
pub(crate) fn word(item: &[u8]) -> Result<&OsStr, NotAWord> {
    if item.contains(&0) {
        Err(NotAWord::Nul)
    } else if item.len() > WORD_BYTES_MAX {
        Err(NotAWord::TooLong)
    } else {
        Ok(OsStr::from_bytes(item))
    }
}

/// Replaces each `placeholder` in the arguments by the item. An item that cannot be a word is an error only
/// if there is a placeholder.
pub(crate) fn arguments(
    arguments: &[OsString],
    placeholder: &OsStr,
    item: &[u8],
) -> Result<Vec<OsString>, NotAWord> {
    let one = |argument: &OsString| match replaced(argument.as_bytes(), placeholder.as_bytes(), item) {
        None => Ok(argument.clone()),
        Some(bytes) => {
            word(item)?;
            word(&bytes)?;
            Ok(OsString::from_vec(bytes))
        }
    };
    arguments.iter().map(one).collect()
}

/// Returns `None` without a placeholder. Placeholders in the item itself stay.
fn replaced(argument: &[u8], placeholder: &[u8], item: &[u8]) -> Option<Vec<u8>> {
    let find = |rest: &[u8]| rest.windows(placeholder.len()).position(|window| window == placeholder);
    if placeholder.is_empty() {
        return None;
    }
    let mut rest = argument;
    let mut bytes = Vec::new();
    find(rest)?;
    while let Some(at) = find(rest) {
        bytes.extend_from_slice(&rest[..at]);
        bytes.extend_from_slice(item);
        rest = &rest[at + placeholder.len()..];
    }
    bytes.extend_from_slice(rest);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replace(argument: &str, item: &[u8]) -> Result<Vec<u8>, NotAWord> {
        let words = arguments(&[argument.into()], OsStr::new("{}"), item)?;
        Ok(words[0].as_bytes().to_vec())
    }

    #[test]
    fn placeholders_are_replaced_but_not_in_the_item() {
        assert_eq!(replace("--in={}.txt,{}", b"a").unwrap(), b"--in=a.txt,a");
        assert_eq!(replace("{}", b"{}{}").unwrap(), b"{}{}");
        assert_eq!(replace("{{}}", b"x").unwrap(), b"{x}");
        assert_eq!(replace("{}", &[0xff]).unwrap(), [0xff]);
        assert_eq!(arguments(&["{}".into()], OsStr::new(""), b"x").unwrap(), ["{}"]);
    }

    #[test]
    fn item_must_be_a_word_only_for_a_placeholder() {
        let long = vec![b'x'; 200_000];
        for (item, why) in [(&b"a\0b"[..], NotAWord::Nul), (&long, NotAWord::TooLong)] {
            assert_eq!(replace("no placeholder", item).unwrap(), b"no placeholder");
            assert_eq!(replace("{}", item).unwrap_err(), why);
            assert_eq!(word(item), Err(why));
        }
        assert_eq!(replace(&"{}".repeat(3), &long[..50_000]).unwrap_err(), NotAWord::TooLong);
    }

    proptest! {
        #[test]
        fn text_around_placeholders_is_kept(around in proptest::collection::vec("[a-z{]{0,5}", 1..6), item in "[a-z]{0,5}") {
            // A brace before a placeholder would form another placeholder.
            let around: Vec<String> = around.iter().map(|text| text.replace('{', "[")).collect();
            let expected = around.join(&item);
            prop_assert_eq!(replace(&around.join("{}"), item.as_bytes()).unwrap(), expected.into_bytes());
        }
    }
}
