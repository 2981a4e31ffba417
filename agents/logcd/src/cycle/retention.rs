//! Chooses the finished archives to remove: those beyond a number of days or bytes, or the oldest to free
//! space.

use jiff::civil::Date;

/// The archives of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedDay {
    pub day: Date,
    pub bytes: u64,
}

/// Limits on the archives that are kept. Today's archive is always kept.
#[derive(Clone, Copy, Debug)]
pub struct RetentionLimits {
    pub days: u32,
    pub bytes: u64,
}

/// Returns the days whose archives are removed.
pub fn to_remove(mut archives: Vec<ArchivedDay>, today: Date, limits: RetentionLimits) -> Vec<Date> {
    archives.sort_by_key(|archive| std::cmp::Reverse(archive.day));
    let mut bytes = 0_u64;
    let mut over = false;
    let mut remove = Vec::new();
    for ArchivedDay { day, bytes: size } in archives {
        bytes = bytes.saturating_add(size);
        let age_days = today.since(day).map_or(0, |span| i64::from(span.get_days()));
        // Once one is over a limit, all older ones go too, so that the kept days have no gap.
        over |= bytes > limits.bytes || age_days >= i64::from(limits.days);
        if over && day < today {
            remove.push(day);
        }
    }
    remove
}

/// Returns the oldest days whose archives free at least `missing_bytes`, or none if all of them together are
/// too small.
pub fn to_make_room(mut archives: Vec<ArchivedDay>, missing_bytes: u64) -> Vec<Date> {
    archives.sort_by_key(|archive| archive.day);
    let (mut freed, mut remove) = (0_u64, Vec::new());
    for ArchivedDay { day, bytes } in archives {
        if freed >= missing_bytes {
            return remove;
        }
        freed = freed.saturating_add(bytes);
        remove.push(day);
    }
    if freed >= missing_bytes { remove } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use proptest::prelude::*;

    #[test]
    fn oldest_days_make_room_if_they_suffice() {
        let kept = |day: &str, bytes| ArchivedDay { day: day.parse().unwrap(), bytes };
        let archives = [kept("2026-03-02", 20), kept("2026-03-01", 10), kept("2026-03-03", 30)];
        for (missing, days) in [(0, 0), (1, 1), (10, 1), (11, 2), (31, 3), (60, 3), (61, 0)] {
            let removed = to_make_room(archives.to_vec(), missing);
            let oldest: Vec<Date> = (1..=days).map(|day| jiff::civil::date(2026, 3, day)).collect();
            assert_eq!(removed, oldest, "{missing} bytes are missing");
        }
    }

    proptest! {
        #[test]
        fn newest_days_within_the_limits_are_kept(
            sizes in prop::collection::vec(0u64..1000, 0..60), days in 1u32..70, bytes in 0u64..20_000,
        ) {
            let today: Date = "2026-03-01".parse().unwrap();
            let archives: Vec<ArchivedDay> = (0_i64..).zip(&sizes)
                .map(|(ago, size)| ArchivedDay { day: today.saturating_sub(ago.days()), bytes: *size }).collect();
            let removed = to_remove(archives.clone(), today, RetentionLimits { days, bytes });
            let kept: Vec<&ArchivedDay> = archives.iter().filter(|a| !removed.contains(&a.day)).collect();
            prop_assert!(kept.len() <= usize::try_from(days).unwrap());
            prop_assert_eq!(&kept[..], &archives.iter().take(kept.len()).collect::<Vec<_>>()[..]);
            if let [today, older @ ..] = &kept[..] && !older.is_empty() {
                prop_assert!(today.bytes + older.iter().map(|a| a.bytes).sum::<u64>() <= bytes);
            }
            prop_assert!(!removed.contains(&today));
            // No archive that fits is removed.
            if let Some(next) = archives.get(kept.len()) {
                let total: u64 = kept.iter().map(|a| a.bytes).sum::<u64>() + next.bytes;
                prop_assert!(kept.len() == usize::try_from(days).unwrap() || total > bytes);
            }
        }
    }
}
