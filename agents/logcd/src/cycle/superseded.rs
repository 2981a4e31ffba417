//! Superseded content, which a file no longer holds: its names in the archive, and the limit on its size.

use crate::archive::entry::{Entry, Origin};
use std::collections::HashSet;

/// Returns `NAME.TIME`, followed by a number if that name is taken.
pub fn name(of: &[u8], suffix: &str, taken: &HashSet<Vec<u8>>) -> Vec<u8> {
    let mut name = [of, suffix.as_bytes()].concat();
    let len = name.len();
    for number in 1_u64.. {
        if !taken.contains(&name) {
            break;
        }
        name.truncate(len);
        name.extend(format!(".{number}").into_bytes());
    }
    name
}

/// True if a name from an archive without an index has this form: `….YYYYMMDDTHHMMSS`, or that and `.N`.
pub fn is_name(name: &[u8]) -> bool {
    let mut parts = name.rsplit(|b| *b == b'.');
    let Some(mut last) = parts.next() else { return false };
    if !is_time(last) && !last.is_empty() && last.iter().all(u8::is_ascii_digit) {
        last = parts.next().unwrap_or_default();
    }
    is_time(last) && parts.next().is_some()
}

fn is_time(part: &[u8]) -> bool {
    part.len() == 15
        && part.iter().enumerate().all(|(i, b)| if i == 8 { *b == b'T' } else { b.is_ascii_digit() })
}

/// Returns the names of the oldest superseded entries to drop, so that at most `packed_bytes_max` remain.
pub fn too_many(entries: &[Entry], packed_bytes_max: u64) -> HashSet<Vec<u8>> {
    let mut old: Vec<&Entry> = entries.iter().filter(|e| e.origin == Origin::Superseded).collect();
    old.sort_by_key(|entry| std::cmp::Reverse(time(&entry.name)));
    let mut packed = 0_u64;
    let over = old.into_iter().skip_while(|entry| {
        packed = packed.saturating_add(entry.packed_len());
        packed <= packed_bytes_max
    });
    over.map(|entry| entry.name.clone()).collect()
}

/// Returns the part of a name that holds the time, by which superseded entries are sorted.
fn time(name: &[u8]) -> Vec<u8> {
    let part = name.rsplit(|b| *b == b'.').find(|part| is_time(part));
    part.map(<[u8]>::to_vec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::entry::EntryLayout;
    use crate::archive::header::Meta;

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let mut taken = HashSet::new();
        for expected in ["x.log.20261121T003000", "x.log.20261121T003000.1", "x.log.20261121T003000.2"] {
            let name = name(b"x.log", ".20261121T003000", &taken);
            assert_eq!(name, expected.as_bytes());
            assert!(is_name(&name));
            taken.insert(name);
        }
        for other in ["x.log", "x.log.1", "20261121T003000", "x.log.20261121-003000", ""] {
            assert!(!is_name(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn oldest_superseded_content_goes_first() {
        let entry = |name: &str, origin| Entry {
            name: name.into(),
            origin,
            meta: Meta::default(),
            layout: EntryLayout { header_packed_len: 100, ..EntryLayout::default() },
            blocks: Vec::new(),
        };
        let entries = [
            entry("a.log.20261121T030000", Origin::Superseded),
            entry("b.log", Origin::Recovered),
            entry("b.log.20261121T010000", Origin::Superseded),
            entry("c.log.20261121T020000.1", Origin::Superseded),
        ];
        assert!(too_many(&entries, 300).is_empty());
        assert_eq!(too_many(&entries, 299), HashSet::from([b"b.log.20261121T010000".to_vec()]));
        assert_eq!(too_many(&entries, 0).len(), 3);
    }
}
