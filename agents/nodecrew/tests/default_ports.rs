//! No page is served by default on a port that browsers refuse to open.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use kit::net::browser_ports::is_blocked;
use std::process::Command;

/// Addresses that are never opened in a browser: they take lines of logs or hand out items as bare bytes.
const WITHOUT_PAGES: [&str; 4] =
    ["logd --listen", "logsend --port", "queued --line", "nodecrew up --lines-port"];

/// The default ports of a command's flags.
fn default_ports(command: &clap::Command) -> Vec<(String, u16)> {
    let mut ports = Vec::new();
    for argument in command.get_arguments() {
        for value in argument.get_default_values() {
            let value = value.to_str().unwrap();
            let is_port = argument
                .get_value_names()
                .is_some_and(|names| names.iter().any(|name| name.contains("PORT")));
            let port = value.rsplit_once(':').map_or(value, |(_, port)| port).parse();
            if let (true, Ok(port), Some(long)) = (is_port, port, argument.get_long()) {
                ports.push((format!("{} --{long}", command.get_name()), port));
            }
        }
    }
    ports.extend(command.get_subcommands().flat_map(default_ports));
    ports
}

/// The default ports of `nodecrew up`, from its help: `--http-port <PORT>`, then `[default: 8080]` on a later
/// line.
fn default_ports_of_up() -> Vec<(String, u16)> {
    let help = Command::new(env!("CARGO_BIN_EXE_nodecrew")).args(["up", "--help"]).output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let flags = help.split("      --").filter_map(|text| text.split_once(" <PORT>"));
    let default = |text: &str| text.split_once("[default: ")?.1.split_once(']')?.0.parse().ok();
    flags.map(|(flag, text)| (format!("nodecrew up --{flag}"), default(text).unwrap())).collect()
}

#[test]
fn no_page_defaults_to_a_port_that_browsers_block() {
    let commands = [
        logd::command(),
        logsend::command(),
        logcd::command(),
        queued::command(),
        queuectl::command(),
        kvd::command(),
        kvctl::command(),
        rng::command(),
    ];
    let mut ports: Vec<_> = commands.iter().flat_map(default_ports).collect();
    ports.extend(default_ports_of_up());
    let names: Vec<_> = ports.iter().map(|(name, _)| name.as_str()).collect();
    for known in [
        "logd --admin",
        "stats --admin",
        "logcd --admin",
        "queued --http",
        "kvd --http",
        "rng --http",
        "nodecrew up --logd-admin-port",
    ] {
        assert!(names.contains(&known), "{known} is not looked at: {names:?}");
    }
    let blocked: Vec<_> = ports
        .iter()
        .filter(|(name, port)| is_blocked(*port) && !WITHOUT_PAGES.contains(&name.as_str()))
        .collect();
    assert!(blocked.is_empty(), "no browser opens a page there: {blocked:?}");
}
