//! File name patterns with `*` and `?`, as in a shell, for raw bytes.

use std::str::FromStr;

/// A pattern for a name or, if it has a slash, for a path below the log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

impl FromStr for Pattern {
    type Err = String;

    /// Rejects patterns that a shell would understand differently, and those that can match no file.
    fn from_str(text: &str) -> Result<Pattern, String> {
        let why = match text {
            "" => "expected a name, such as *.log",
            _ if text.starts_with('/') => {
                "expected a name, or a path below the log directory: it cannot begin with a slash"
            }
            _ if text.ends_with('/') => {
                "expected the name of a file, such as *.log: it cannot end with a slash"
            }
            _ if text.contains(['[', '{']) => {
                "expected a name with * and ? only: sets such as [ab] and {a,b} are not understood, and ? stands for any character"
            }
            _ => return Ok(Pattern(text.as_bytes().to_vec())),
        };
        Err(why.to_owned())
    }
}

impl Pattern {
    pub fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        wildcard(&self.0, if self.0.contains(&b'/') { path } else { name })
    }
}

/// Matches one star at a time: its match grows until the rest fits. The time is never exponential.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, eaten)) = star else { return false };
                star = Some((after, eaten + 1));
                p = after;
                t = eaten + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, path, expected) in [
            ("*.log", "x.log", true),
            ("*.log", "sub/x.log", true),
            ("*.log", "x.log.1", false),
            ("*.log", ".log", true),
            ("a?c*", "abcdef", true),
            ("a?c*", "ac", false),
            ("sub/*.log", "sub/x.log", true),
            ("sub/*.log", "x.log", false),
        ] {
            assert_eq!(
                pattern.parse::<Pattern>().unwrap().matches(path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn unsupported_patterns_are_refused() {
        for (pattern, why) in [
            ("[", "sets such as"),
            ("*.{log,txt}", "sets such as"),
            ("/var/log/x.log", "slash"),
            ("sub/", "slash"),
            ("", "a name"),
        ] {
            let refused = pattern.parse::<Pattern>().unwrap_err();
            assert!(refused.contains(why), "{pattern}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_made_from_a_name_matches_it(name in prop::collection::vec(any::<u8>(), 0..40), holes: Vec<bool>) {
            let mut holes = holes.into_iter().chain(std::iter::repeat(false));
            let pattern: Vec<u8> = name.iter().map(|b| if holes.next() == Some(true) { b'?' } else { *b }).collect();
            prop_assert!(wildcard(&pattern, &name));
            prop_assert!(wildcard(&[b"*", &pattern[..], b"*"].concat(), &[b"x", &name[..], b"yz"].concat()));
        }
    }
}
