//! Each agent has a README: how to call it, the purpose of each flag, its promises, and its behaviour in
//! failures.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use clap::Command;
use std::collections::BTreeSet;

fn flags(command: &Command, found: &mut BTreeSet<String>) {
    found.extend(command.get_arguments().filter_map(|flag| Some(format!("--{}", flag.get_long()?))));
    command.get_subcommands().for_each(|subcommand| flags(subcommand, found));
}

/// True if the page names this flag, not only a longer one that begins with it.
fn is_named(flag: &str, page: &str) -> bool {
    page.match_indices(flag).any(|(at, _)| {
        let next = page[at + flag.len()..].chars().next();
        next.is_none_or(|next| next != '-' && !next.is_alphanumeric())
    })
}

#[test]
fn every_flag_is_in_its_readme() {
    let agents: [(Command, &str); 9] = [
        (logd::command(), include_str!("../../logd/README.md")),
        (logsend::command(), include_str!("../../logsend/README.md")),
        (logcd::command(), include_str!("../../logcd/README.md")),
        (queued::command(), include_str!("../../queued/README.md")),
        (queuectl::command(), include_str!("../../queuectl/README.md")),
        (kvd::command(), include_str!("../../kvd/README.md")),
        (kvctl::command(), include_str!("../../kvctl/README.md")),
        (keygen::command(), include_str!("../../keygen/README.md")),
        (rng::command(), include_str!("../../rng/README.md")),
    ];
    for (command, page) in agents {
        let mut all = BTreeSet::new();
        flags(&command, &mut all);
        assert!(all.len() > 3, "{all:?}");
        let missing: Vec<&String> = all.iter().filter(|flag| !is_named(flag, page)).collect();
        assert!(missing.is_empty(), "{} does not explain {missing:?}", command.get_name());
    }
}
