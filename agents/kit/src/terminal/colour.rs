//! Decides whether output is coloured, by the variables that terminal programs agreed on.

use std::ffi::OsString;

/// True if text to this stream is coloured. `NO_COLOR` turns colour off, and `CLICOLOR_FORCE` turns it on for
/// pipes and files too. If neither is set, a terminal gets colour. `NO_COLOR` wins.
pub fn is_wanted(is_terminal: bool) -> bool {
    decide(is_terminal, |name| std::env::var_os(name))
}

fn decide(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    set("NO_COLOR").is_none() && (is_terminal || forced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(is_terminal: bool, set: &[(&str, &str)]) -> bool {
        decide(is_terminal, |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn no_color_wins_over_force() {
        assert!(decided(true, &[]) && !decided(false, &[]));
        for value in ["1", "true", "0"] {
            assert!(!decided(true, &[("NO_COLOR", value)]), "{value}");
            assert!(!decided(false, &[("NO_COLOR", value), ("CLICOLOR_FORCE", "1")]), "{value}");
        }
        assert!(decided(true, &[("NO_COLOR", "")]), "empty means not set");
        assert!(decided(false, &[("CLICOLOR_FORCE", "1")]) && decided(false, &[("CLICOLOR_FORCE", "yes")]));
        assert!(!decided(false, &[("CLICOLOR_FORCE", "0")]) && !decided(false, &[("CLICOLOR_FORCE", "")]));
    }
}
