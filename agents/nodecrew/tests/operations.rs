//! OPERATIONS.md: each procedure is run by a test or says that it is not. Each command line of an agent is
//! one that the agent accepts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use clap::Command;
use clap::error::ErrorKind;
use std::collections::BTreeMap;
use trial::commands_under;

const OPERATIONS: &str = include_str!("../../../OPERATIONS.md");
/// The tests that run the procedures, each with the ending of the headings of its procedures.
const RUNNERS: [(&str, &str); 2] = [
    ("on a host", include_str!("../../../tests/containers/package/operations.rs")),
    ("in a cluster", include_str!("../../../tests/cluster/it/operations.rs")),
];

/// The sections of the third level before the alerts, with their headings.
fn procedures() -> Vec<(&'static str, &'static str)> {
    let before = OPERATIONS.split("\n## Alerts\n").next().unwrap();
    let sections = before.split("\n### ").skip(1);
    sections.map(|section| section.split_once('\n').unwrap()).collect()
}

/// The text as one line.
fn words_of(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_procedure_is_tested_or_says_not() {
    let procedures = procedures();
    assert!(procedures.len() > 15, "{}", procedures.len());
    for (heading, text) in procedures {
        let quoted = format!("\"{heading}\"");
        let runner = RUNNERS.iter().find(|(_, test)| test.contains(&quoted));
        let admits = words_of(text).contains("**Not tested**");
        assert!(runner.is_some() || admits, "{heading}: no test runs it, and it does not say so");
        for (ending, test) in RUNNERS {
            let here = heading.ends_with(ending) && !admits;
            assert!(!here || test.contains(&quoted), "{heading}: the wrong test runs it");
        }
    }
}

#[test]
fn agents_accept_the_written_commands() {
    let agents = [
        logd::command(),
        logcd::command(),
        queued::command(),
        queuectl::command(),
        kvd::command(),
        kvctl::command(),
    ];
    let agents: BTreeMap<String, Command> =
        agents.into_iter().map(|command| (command.get_name().to_owned(), command)).collect();
    let spans = OPERATIONS.split('`').skip(1).step_by(2).map(str::to_owned);
    let lines = procedures().into_iter().filter(|(_, text)| text.contains("\n    "));
    let lines = lines.flat_map(|(heading, _)| {
        commands_under(heading, OPERATIONS).lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let mut seen = 0;
    for text in spans.chain(lines) {
        // Keep only the part that the agent reads: words for a shell or another program are cut off.
        let words = text.split(" -- ").last().unwrap().split([' ', '\n']).filter(|word| !word.is_empty());
        let words: Vec<&str> = words
            .skip_while(|word| *word == "sudo")
            .take_while(|word| !word.starts_with(['>', '<', '|']))
            .collect();
        let Some(agent) = words.first().and_then(|name| agents.get(*name)) else { continue };
        if words.len() == 1 {
            continue;
        }
        seen += 1;
        // A mere mention, such as `queuectl run`, lacks required arguments.
        let refused = agent.clone().try_get_matches_from(&words).err();
        let refused = refused.filter(|error| error.kind() != ErrorKind::MissingRequiredArgument);
        assert!(refused.is_none(), "{text}: {}", refused.unwrap());
    }
    assert!(seen >= 15, "only {seen} commands were found");
}
