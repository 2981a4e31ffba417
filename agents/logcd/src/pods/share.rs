//! Divides the space for archives among namespaces, and chooses the archives to remove.

use crate::pods::bounds::Bound;
use crate::pods::hour::ArchiveName;
use jiff::civil::Date;
use std::collections::BTreeMap;

/// The archives of one namespace, with their sizes.
pub type Hours = BTreeMap<ArchiveName, u64>;

/// Returns the bytes that each namespace may keep. The input is the bytes that each namespace uses, and its
/// own bound. Namespaces below an equal share keep everything. The bytes that they leave are divided among
/// the others.
pub fn allowances(used: &[(u64, Bound)], total: u64) -> Vec<u64> {
    let wanted: Vec<u64> = used.iter().map(|(bytes, bound)| (*bytes).min(bound.bytes)).collect();
    let mut ascending: Vec<u64> = wanted.clone();
    ascending.sort_unstable();
    let mut left = total;
    let mut level = u64::MAX;
    for (at, bytes) in ascending.iter().enumerate() {
        let share = left / (ascending.len() - at) as u64;
        if *bytes > share {
            level = share;
            break;
        }
        left -= bytes;
    }
    wanted.into_iter().map(|bytes| bytes.min(level)).collect()
}

/// Returns the archives to remove: those that are too old, and the oldest archives of each namespace above
/// its allowance.
pub fn to_remove(
    namespaces: &BTreeMap<String, Hours>,
    bound_of: impl Fn(&str) -> Bound,
    total: u64,
    today: Date,
) -> Vec<(String, ArchiveName)> {
    let mut removed = Vec::new();
    let mut kept = Vec::new();
    for (namespace, hours) in namespaces {
        let bound = bound_of(namespace);
        let is_old = |name: &ArchiveName| {
            let age = today.since(name.day()).map_or(0, |span| i64::from(span.get_days()));
            age >= i64::from(bound.days)
        };
        let (old, young): (Vec<_>, Vec<_>) =
            hours.iter().map(|(n, b)| (*n, *b)).partition(|(name, _)| is_old(name));
        removed.extend(old.into_iter().map(|(name, _)| (namespace.clone(), name)));
        kept.push((namespace, bound, young));
    }
    let sum =
        |hours: &[(ArchiveName, u64)]| hours.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let used: Vec<(u64, Bound)> = kept.iter().map(|(_, bound, hours)| (sum(hours), *bound)).collect();
    for ((namespace, _, hours), allowance) in kept.iter().zip(allowances(&used, total)) {
        let mut bytes = sum(hours);
        for (name, size) in hours {
            if bytes <= allowance {
                break;
            }
            bytes -= size;
            removed.push(((*namespace).to_owned(), *name));
        }
    }
    removed
}

/// Returns archives to remove so that `missing` bytes are freed, and `spare` more if possible. Returns none
/// if all archives together are too small.
pub fn to_make_room(
    namespaces: &BTreeMap<String, Hours>,
    bound_of: impl Fn(&str) -> Bound,
    missing: u64,
    spare: u64,
    today: Date,
) -> Vec<(String, ArchiveName)> {
    let kept = namespaces.values().flat_map(BTreeMap::values).fold(0_u64, |sum, b| sum.saturating_add(*b));
    if missing == 0 || kept < missing {
        return Vec::new();
    }
    to_remove(namespaces, bound_of, kept.saturating_sub(missing.saturating_add(spare)), today)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::codec::Codec;
    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    const FREE: Bound = Bound { bytes: u64::MAX, days: u32::MAX };

    fn hours(start_hour: i64, sizes: &[u64]) -> Hours {
        let at =
            |n: usize| date(2026, 11, 28).at(0, 0, 0, 0) + (start_hour + i64::try_from(n).unwrap()).hours();
        sizes.iter().enumerate().map(|(n, size)| (ArchiveName::at(at(n), Codec::Gzip), *size)).collect()
    }

    #[test]
    fn shares_are_equal_when_room_is_scarce() {
        assert_eq!(allowances(&[(10, FREE), (500, FREE), (900, FREE)], 300), [10, 145, 145]);
        assert_eq!(allowances(&[(10, FREE), (500, FREE)], 600), [10, 500]);
        assert_eq!(allowances(&[(100, Bound { bytes: 20, days: 1 }), (500, FREE)], 400), [20, 380]);
    }

    #[test]
    fn namespace_at_its_bound_evicts_nothing_of_another() {
        let namespaces = BTreeMap::from([
            ("noisy".to_owned(), hours(0, &[100, 100, 100])),
            ("quiet".to_owned(), hours(0, &[40, 10])),
        ]);
        let removed = to_remove(&namespaces, |_| FREE, 300, date(2026, 11, 28));
        let oldest = *namespaces["noisy"].keys().next().unwrap();
        assert_eq!(removed, [("noisy".to_owned(), oldest)]);
    }

    #[test]
    fn archives_make_room_if_they_suffice() {
        let namespaces = BTreeMap::from([("a".to_owned(), hours(0, &[10, 20, 30]))]);
        let removed =
            |missing, spare| to_make_room(&namespaces, |_| FREE, missing, spare, date(2026, 11, 28)).len();
        for (missing, spare, expected) in
            [(0, 60, 0), (1, 0, 1), (1, 10, 2), (31, 0, 3), (60, 9, 3), (61, 0, 0)]
        {
            assert_eq!(removed(missing, spare), expected, "{missing} bytes are missing");
        }
    }

    #[test]
    fn days_are_bounded_too() {
        let namespaces = BTreeMap::from([("a".to_owned(), hours(0, &[1, 1]))]);
        let days = |days| Bound { bytes: u64::MAX, days };
        assert_eq!(to_remove(&namespaces, |_| days(2), u64::MAX, date(2026, 11, 30)).len(), 2);
        assert_eq!(to_remove(&namespaces, |_| days(3), u64::MAX, date(2026, 11, 30)), []);
    }

    proptest! {
        /// A noisy neighbour takes nothing from a namespace within its share, whatever the bounds of the
        /// namespaces are.
        #[test]
        fn neighbour_takes_nothing_from_a_namespace_within_its_share(
            own in prop::collection::vec(0u64..100, 1..6),
            others in prop::collection::vec((prop::collection::vec(0u64..5000, 0..20), 0u64..9000), 0..6),
            total in 0u64..10_000,
        ) {
            let used: u64 = own.iter().sum();
            let count = others.len() as u64 + 1;
            prop_assume!(used <= total / count);
            let mut namespaces: BTreeMap<String, Hours> =
                (0..).zip(&others).map(|(n, (sizes, _))| (format!("n{n}"), hours(0, sizes))).collect();
            namespaces.insert("own".to_owned(), hours(0, &own));
            let bound = |name: &str| {
                let number = name.strip_prefix('n').and_then(|n| n.parse::<usize>().ok());
                number.map_or(FREE, |n| Bound { bytes: others[n].1, days: u32::MAX })
            };
            let removed = to_remove(&namespaces, bound, total, date(2026, 11, 28));
            prop_assert!(!removed.iter().any(|(namespace, _)| namespace == "own"));
            // The oldest archives go first, and every other namespace stays within its own bound.
            for (namespace, hours) in namespaces.iter().filter(|(name, _)| *name != "own") {
                let kept: Vec<_> = hours.iter().filter(|(name, _)| !removed.contains(&(namespace.clone(), **name))).collect();
                prop_assert!(kept.iter().map(|(_, bytes)| **bytes).sum::<u64>() <= bound(namespace).bytes);
                prop_assert!(hours.keys().rev().zip(kept.iter().rev()).all(|(a, (b, _))| a == *b));
            }
        }

        /// On a full disk, enough space is freed, or nothing is removed.
        #[test]
        fn room_is_made_or_nothing_removed(
            sizes in prop::collection::vec(prop::collection::vec(0u64..1000, 0..6), 1..6), missing in 0u64..8000, spare in 0u64..2000,
        ) {
            let namespaces: BTreeMap<String, Hours> =
                sizes.iter().enumerate().map(|(n, sizes)| (format!("n{n}"), hours(0, sizes))).collect();
            let removed = to_make_room(&namespaces, |_| FREE, missing, spare, date(2026, 11, 28));
            let freed: u64 = removed.iter().map(|(namespace, name)| namespaces[namespace][name]).sum();
            let kept: u64 = sizes.iter().flatten().sum();
            let is_right = if kept < missing { freed == 0 } else { freed >= missing };
            prop_assert!(is_right, "{} of {} freed, {} missing", freed, kept, missing);
        }

        #[test]
        fn no_more_than_the_total_is_kept_and_nobody_within_an_equal_share_loses(
            sizes in prop::collection::vec(prop::collection::vec(0u64..1000, 0..10), 1..8), total in 0u64..10_000,
        ) {
            let namespaces: BTreeMap<String, Hours> =
                sizes.iter().enumerate().map(|(n, sizes)| (format!("n{n}"), hours(0, sizes))).collect();
            let removed = to_remove(&namespaces, |_| FREE, total, date(2026, 11, 28));
            let left = |namespace: &str| -> u64 {
                let gone: Vec<_> = removed.iter().filter(|(n, _)| n == namespace).map(|(_, name)| *name).collect();
                namespaces[namespace].iter().filter(|(name, _)| !gone.contains(name)).map(|(_, bytes)| bytes).sum()
            };
            prop_assert!(namespaces.keys().map(|n| left(n)).sum::<u64>() <= total);
            for (namespace, hours) in &namespaces {
                let used: u64 = hours.values().sum();
                if used <= total / namespaces.len() as u64 {
                    prop_assert_eq!(left(namespace), used);
                }
            }
        }
    }
}
