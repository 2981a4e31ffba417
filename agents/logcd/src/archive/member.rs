//! Converts between entry names and the paths that a reader of the archive sees.

/// Returns the path in the archive. Names below the first log directory follow the prefix; a name that begins
/// with a slash is a whole path.
pub fn path(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    match name.strip_prefix(b"/") {
        Some(whole) => whole.to_vec(),
        None => [prefix, name].concat(),
    }
}

/// Returns the entry's name for a path in the archive: the reverse of [`path`].
pub fn name(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let relative = path.iter().position(|b| *b != b'/').map_or(&[][..], |start| &path[start..]);
    match relative.strip_prefix(prefix) {
        Some(name) if !name.is_empty() && !name.starts_with(b"/") => name.to_vec(),
        _ => [b"/", relative].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_outside_the_first_directory_are_whole_paths() {
        for (prefix, path_in_archive, name_here) in [
            ("var/log/", "var/log/x.log", "x.log"),
            ("var/log/", "var/log/logd/node.log", "logd/node.log"),
            ("var/log/", "var/lib/logd/node_log", "/var/lib/logd/node_log"),
            ("", "x.log", "x.log"),
        ] {
            assert_eq!(name(prefix.as_bytes(), path_in_archive.as_bytes()), name_here.as_bytes());
            assert_eq!(path(prefix.as_bytes(), name_here.as_bytes()), path_in_archive.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn path_survives_the_way_there_and_back(prefix in "([ab]/){0,2}", member in "[ab]/{0,2}[ab/]{0,6}") {
            let name = name(prefix.as_bytes(), member.as_bytes());
            prop_assert_eq!(path(prefix.as_bytes(), &name), member.as_bytes());
        }
    }
}
