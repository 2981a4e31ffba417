//! Each agent has one page: what it is called with, what every flag of it is for, what it promises, and what
//! happens when something fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use clap::Command;
use std::collections::BTreeSet;

fn flags(command: &Command, found: &mut BTreeSet<String>) {
    found.extend(command.get_arguments().filter_map(|flag| Some(format!("--{}", flag.get_long()?))));
    command.get_subcommands().for_each(|subcommand| flags(subcommand, found));
}

/// A longer flag that begins with it is not it.
fn is_named(flag: &str, page: &str) -> bool {
    page.match_indices(flag).any(|(at, _)| {
        let next = page[at + flag.len()..].chars().next();
        next.is_none_or(|next| next != '-' && !next.is_alphanumeric())
    })
}

#[test]
fn every_flag_is_on_its_agents_page() {
    let agents: [(Command, &str); 6] = [
        (logd::command(), include_str!("../../logd/README.md")),
        (logsend::command(), include_str!("../../logsend/README.md")),
        (logcd::command(), include_str!("../../logcd/README.md")),
        (queued::command(), include_str!("../../queued/README.md")),
        (queuectl::command(), include_str!("../../queuectl/README.md")),
        (keygen::command(), include_str!("../../keygen/README.md")),
    ];
    for (command, page) in agents {
        let mut all = BTreeSet::new();
        flags(&command, &mut all);
        assert!(all.len() > 3, "{all:?}");
        let missing: Vec<&String> = all.iter().filter(|flag| !is_named(flag, page)).collect();
        assert!(missing.is_empty(), "{} does not explain {missing:?}", command.get_name());
    }
}

/// Longer is not read.
const PAGE_LINES_MAX: usize = 120;

#[test]
fn every_page_has_its_parts_and_is_one_page() {
    let parts = ["Flags by purpose", "Guarantees", "When something fails", "Metrics"];
    let pages = [
        (include_str!("../../logd/README.md"), &parts[..]),
        (include_str!("../../logcd/README.md"), &parts),
        (include_str!("../../queued/README.md"), &parts),
        // A client has nobody who scrapes it.
        (include_str!("../../logsend/README.md"), &parts[..3]),
    ];
    for (page, parts) in pages {
        let title = page.lines().next().unwrap();
        assert!(page.lines().count() <= PAGE_LINES_MAX, "{title}: {} lines", page.lines().count());
        let mut sections = page.split("\n## ");
        let beginning = sections.next().unwrap();
        let agent = title.strip_prefix("# ").unwrap();
        let calls = format!("    {agent} ");
        assert!(beginning.lines().any(|line| line.starts_with(&calls)), "{title}: what is it called with?");
        let sections: Vec<_> = sections.collect();
        for part in parts {
            let section = sections.iter().find(|section| section.starts_with(part));
            let section = section.unwrap_or_else(|| panic!("{title} has no {part}"));
            let rows =
                section.lines().filter(|line| line.starts_with("| ") || line.starts_with("- ")).count();
            assert!(rows > 2, "{title}, {part}: nothing to look up");
        }
    }
}
