//! The flag `--namespace`: bounds for the container logs of some namespaces.

use crate::logs::pattern::Pattern;
use crate::pods::bounds::Bound;
use kit::settings::parse_size;

/// Bounds for the namespaces that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceRule {
    pub(super) pattern: Pattern,
    keep_bytes: Option<u64>,
    keep_days: Option<u32>,
}

impl NamespaceRule {
    /// Returns the bounds of this rule. Those that it does not name are the bounds for all namespaces.
    pub(super) fn within(&self, all: Bound) -> Bound {
        Bound { bytes: self.keep_bytes.unwrap_or(all.bytes), days: self.keep_days.unwrap_or(all.days) }
    }
}

impl std::str::FromStr for NamespaceRule {
    type Err = String;

    fn from_str(text: &str) -> Result<NamespaceRule, String> {
        let expected = || {
            "expected NAMESPACE:keep-bytes=SIZE,keep-days=DAYS, such as kube-system:keep-bytes=1GiB"
                .to_owned()
        };
        let (pattern, bounds) = text.split_once(':').ok_or_else(expected)?;
        let mut rule = NamespaceRule { pattern: pattern.parse()?, keep_bytes: None, keep_days: None };
        for bound in bounds.split(',') {
            match bound.split_once('=').ok_or_else(expected)? {
                ("keep-bytes", size) => rule.keep_bytes = Some(parse_size(size)?),
                ("keep-days", days) => {
                    let days = days.parse().ok().filter(|days| *days > 0);
                    rule.keep_days = Some(days.ok_or("keep-days: expected a number of days above zero")?);
                }
                (other, _) => return Err(format!("`{other}` is not a bound of a namespace; {}", expected())),
            }
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_bounds_a_namespace() {
        let rule: NamespaceRule = "kube-*:keep-bytes=1MiB,keep-days=7".parse().unwrap();
        let all = Bound { bytes: 5, days: 3 };
        assert_eq!(rule.within(all), Bound { bytes: 1 << 20, days: 7 });
        assert_eq!(
            "a:keep-days=7".parse::<NamespaceRule>().unwrap().within(all),
            Bound { bytes: 5, days: 7 }
        );
        for text in ["a", "a:", "a:keep-days=0", "a:keep-hours=3", ":keep-days=1"] {
            assert!(text.parse::<NamespaceRule>().is_err(), "{text}");
        }
    }
}
