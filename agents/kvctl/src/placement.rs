//! Chooses the server of a key among several.

/// The rule by which clients choose a key's server. All clients must use the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Placement {
    /// The code of the key's first character modulo the number of servers, as the course has it
    First,
    /// Jump hash: keys are spread evenly, and another server moves as few of them as possible
    Hash,
}

impl Placement {
    /// Returns the index of the key's server.
    pub(crate) fn server_of(self, key: &str, servers: usize) -> usize {
        match self {
            Placement::First => {
                let code = key.chars().next().map_or(0, u32::from);
                usize::try_from(code).unwrap_or_default() % servers.max(1)
            }
            Placement::Hash => jump(hash(key), servers),
        }
    }
}

/// Hashes with 64-bit FNV-1a, and mixes the result once more, because keys often differ only in their last
/// characters.
pub(crate) fn hash(key: &str) -> u64 {
    let hashed = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hashed ^ (hashed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Jump consistent hash (Lamping and Veach 2014), in integer arithmetic.
fn jump(mut hash: u64, servers: usize) -> usize {
    let servers = u64::try_from(servers).unwrap_or(u64::MAX);
    let (mut server, mut next) = (0_u64, 0_u64);
    while next < servers {
        server = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // (server + 1) * 2^31 / (the upper 31 bits + 1)
        let jumped = (u128::from(server) + 1) * (1 << 31) / u128::from((hash >> 33) + 1);
        next = u64::try_from(jumped).unwrap_or(u64::MAX);
    }
    usize::try_from(server).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_character_is_the_courses_rule() {
        for (key, servers, server) in
            [("a", 3, 1), ("apple", 3, 1), ("b", 3, 2), ("c", 3, 0), ("я", 5, 3), ("x", 1, 0)]
        {
            assert_eq!(Placement::First.server_of(key, servers), server, "{key} of {servers}");
        }
    }

    #[test]
    fn hash_spreads_keys_and_moves_few() {
        let keys: Vec<String> = (0..10_000).map(|number| format!("key-{number}")).collect();
        let place = |servers: usize| -> Vec<usize> {
            keys.iter().map(|key| Placement::Hash.server_of(key, servers)).collect()
        };
        for servers in 1..8 {
            let placed = place(servers);
            for server in 0..servers {
                let share = placed.iter().filter(|placed| **placed == server).count();
                assert!(
                    share > 8_000 / servers && share < 12_000 / servers,
                    "{share} on {server} of {servers}"
                );
            }
            let moved: Vec<_> =
                placed.iter().zip(place(servers + 1)).filter(|(before, after)| **before != *after).collect();
            assert!(moved.iter().all(|(_, after)| *after == servers), "keys move to the new server only");
        }
    }
}
