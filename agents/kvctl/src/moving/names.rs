//! The names and contents of the keys that `kvctl rebalance` writes for itself.

use crate::placement::hash;

/// Prefixes of the names of notes at targets, and of marks at sources.
pub(crate) const NOTES: &str = "_moving_/";
pub(crate) const MARKS: &str = "_moved_/";
/// Prefix of the names of probes: keys that show which URLs lead to the same server.
pub(crate) const PROBES: &str = "_rebalance_/";

/// The length up to which a key is part of its note's name. kvd's limit on a name is 1,024 bytes.
const WHOLE_KEY_BYTES_MAX: usize = 1000;

/// The length of the part of a longer key that is in the name, before a hash of the whole key.
const KEY_PART_BYTES: usize = 900;

/// Returns the name of the note for a key that is being moved.
pub(crate) fn note_of(key: &str) -> String {
    name_of(NOTES, key)
}

/// Returns the name of the mark for a key that has moved.
pub(crate) fn mark_of(key: &str) -> String {
    name_of(MARKS, key)
}

fn name_of(prefix: &str, key: &str) -> String {
    if key.len() <= WHOLE_KEY_BYTES_MAX {
        return format!("{prefix}{key}");
    }
    format!("{prefix}{}…{:016x}", &key[..key.floor_char_boundary(KEY_PART_BYTES)], hash(key))
}

/// Returns the content of a note or a mark: the URL of the other server, and the key if it is not in the name.
pub(crate) fn content(url: &str, key: &str) -> String {
    if key.len() <= WHOLE_KEY_BYTES_MAX { url.to_owned() } else { format!("{url}\n{key}") }
}

/// Returns the URL and the key that a note or a mark is about.
pub(crate) fn read<'a>(prefix: &str, name: &'a str, content: &'a str) -> (&'a str, &'a str) {
    content.split_once('\n').unwrap_or((content, name.strip_prefix(prefix).unwrap_or_default()))
}

/// True if this is a client's key: not a note, a mark or a probe.
pub(crate) fn is_ordinary(key: &str) -> bool {
    ![NOTES, MARKS, PROBES].iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_lead_back_to_keys_of_any_length() {
        let url = "http://server-0.server";
        for length in [1, 999, 1000, 1001, 1024] {
            let keys = ["k".repeat(length), format!("{}л", "k".repeat(length.saturating_sub(2)))];
            for key in keys {
                let (name, content) = (note_of(&key), content(url, &key));
                assert!(name.len() <= 1024 && name.starts_with(NOTES) && !is_ordinary(&name), "{name}");
                assert_eq!(read(NOTES, &name, &content), (url, key.as_str()));
            }
        }
        let long = |end: &str| mark_of(&format!("{}{end}", "k".repeat(1020)));
        assert_ne!(long("1"), long("2"));
    }
}
