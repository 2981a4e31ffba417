//! Tests that `watch-letters` prints the lines of the course's client byte for byte, except for the time.

use crate::kvctl::says;
use crate::server::Kvd;

const HEADER: &str = "                    abcdefghijklmnopqrstuvwxyz
                    --------------------------
                    12012012012012012012012012
                    --------------------------
";

/// Runs `watch-letters`. Checks the header and the form of the times, and returns the lines without both.
fn watch(servers: &[Kvd], more: &[&str]) -> Vec<String> {
    let hosts: Vec<String> = servers.iter().map(Kvd::host).collect();
    let hosts = hosts.join(",");
    let arguments = [&["watch-letters", &hosts, "--interval", "0s"], more].concat();
    let said = says("http://unused.invalid", &arguments);
    let lines = said.strip_prefix(HEADER).unwrap_or_else(|| panic!("{said}"));
    let without_time = |line: &str| {
        let (time, rest) = line.split_at(20);
        let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(form, "0000-00-00 00:00:00 ");
        rest.to_owned()
    };
    lines.lines().map(without_time).collect()
}

#[test]
fn letters_are_written_and_then_found() {
    let servers = [Kvd::start(), Kvd::start(), Kvd::start()];
    let written = "wwwwwwwwwwwwwwwwwwwwwwwwww | hits = 0 (0%)";
    let found = "hhhhhhhhhhhhhhhhhhhhhhhhhh | hits = 26 (100%)";
    assert_eq!(watch(&servers, &["-n", "3"]), [written, found, found]);
    // The server of a letter is the letter's code modulo the number of servers.
    for (number, server) in servers.iter().enumerate() {
        let expected: String =
            ('a'..='z').filter(|c| *c as usize % 3 == number).flat_map(|c| [c, '\n']).collect();
        assert_eq!(says(&server.url(), &["list"]), expected);
    }
    assert_eq!(says(&servers[1].url(), &["get", "a"]), "a");
}

#[test]
fn missing_drained_and_absent_servers_have_their_letters() {
    let mut servers = [Kvd::start(), Kvd::start(), Kvd::start()];
    let line = |letters: [char; 3], hits: &str| {
        let of = |c: char| letters[c as usize % 3];
        format!("{} | hits = {hits}", ('a'..='z').map(of).collect::<String>())
    };
    assert_eq!(watch(&servers, &["-n", "1", "--readonly"]), [line(['m', 'm', 'm'], "0 (0%)")]);
    watch(&servers, &["-n", "1"]);
    std::fs::write(servers[0].path("data/_shutting_down_"), "").unwrap();
    servers[1].go_away();
    assert_eq!(watch(&servers, &["-n", "1"]), [line(['5', '.', 'h'], "9 (35%)")]);
    std::fs::remove_file(servers[0].path("data/_shutting_down_")).unwrap();
    servers[1].come_back();
    for letter in ["b", "c"] {
        let server = letter.as_bytes()[0] as usize % 3;
        says(&servers[server].url(), &["put", letter, "other"]);
    }
    let mixed = watch(&servers, &["-n", "1"]).remove(0);
    assert_eq!(mixed, "hxxhhhhhhhhhhhhhhhhhhhhhhh | hits = 24 (92%)");
}
