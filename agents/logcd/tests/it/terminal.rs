//! Progress bars, which logcd shows on a terminal only.

use crate::support::{Setup, for_both_kinds, run};
use logcd::archive::codec::Codec;
use std::process::{Command, Output, Stdio};

/// Runs the command on a pseudo-terminal. Returns its stdout and stderr together.
fn on_a_terminal(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]).env("TERM", "xterm");
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = terminal.envs(variables).stdin(Stdio::null()).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{seen}");
    seen
}

/// Checks that a bar was drawn, and removed at the end.
#[track_caller]
fn has_a_bar_that_goes(seen: &str, total: &str) {
    let (drawn, last) = seen.rsplit_once(" left").unwrap_or_else(|| panic!("no bar: {seen:?}"));
    assert!(drawn.contains("[#") && drawn.contains(&format!(" of {total}")), "{seen:?}");
    assert!(last.trim_start_matches(' ').starts_with("\r\x1b[2K") && !last.contains('#'), "{seen:?}");
}

fn progress_is_shown_on_a_terminal_only(codec: Codec) {
    let setup = Setup::of(codec, &[]);
    // Half of the logs: 6 MiB that do not compress, then 28 MiB that do.
    let half = |seed: u64| {
        let mut random = Vec::with_capacity(6 << 20);
        let mut state = seed | 1;
        while random.len() < 6 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            random.extend(state.to_le_bytes());
        }
        random.resize(34 << 20, b'x');
        random
    };
    setup.write("a.log", half(1));
    setup.write("b.log", half(2));
    let mut once = setup.command();
    once.arg("--once");
    let seen = on_a_terminal(&once);
    has_a_bar_that_goes(&seen, "68.00 MiB");
    assert!(seen.contains("archive_published"), "{seen:?}");

    let archive = setup.archive();
    let mut verify = setup.reader();
    verify.arg("verify").arg(&archive);
    let seen = on_a_terminal(&verify);
    has_a_bar_that_goes(&seen, "12.");
    assert!(seen.contains(": sound, 2 files"), "{seen:?}");

    let Output { status, stdout, stderr } = verify.output().unwrap();
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    assert_eq!(String::from_utf8_lossy(&stdout).lines().count(), 1);
    std::fs::remove_file(archive).unwrap();
    let piped = once.output().unwrap();
    let said = String::from_utf8_lossy(&piped.stderr);
    assert!(
        said.contains("archive_published") && !said.contains('\r') && !said.contains(" left"),
        "{said:?}"
    );
}

#[test]
#[ignore = "needs script of util-linux: just test-programs"]
fn small_work_shows_no_bar() {
    let setup = Setup::new(&[]);
    setup.write("a.log", "line\n");
    let seen = on_a_terminal(setup.command().arg("--once"));
    assert!(seen.contains("archive_published") && !seen.contains(" left"), "{seen:?}");
    let mut verify = setup.reader();
    let sound = String::from_utf8(run(verify.arg("verify").arg(setup.archive()))).unwrap();
    assert_eq!(on_a_terminal(&verify).replace("\r\n", "\n"), sound);
}

for_both_kinds!(progress_is_shown_on_a_terminal_only);
