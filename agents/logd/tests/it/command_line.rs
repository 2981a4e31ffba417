//! Settings that cannot work are refused at the start, with an exit code and one line that names the culprit.

use crate::daemon::{Logd, Setup};
use std::net::TcpListener;
use std::process::Output;

/// Returns the one line on stderr of a daemon that must refuse to start.
#[track_caller]
fn refusal(setup: &Setup, code: i32) -> String {
    let output = setup.run();
    let lines = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{lines}");
    let events: Vec<_> = lines.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(events.len(), 1, "{lines}");
    assert!(events[0].starts_with("logd: "), "{lines}");
    events[0].to_owned()
}

#[track_caller]
fn names(line: &str, culprits: &[&str]) {
    for culprit in culprits {
        assert!(line.contains(culprit), "no {culprit:?} in {line:?}");
    }
}

#[test]
fn taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin"] {
        names(&refusal(&Setup::new().arguments(&[flag, &address]), 1), &[&address, "choose another port"]);
    }
}

#[test]
fn unwritable_directory_is_named() {
    // Root may write anywhere except here.
    names(&refusal(&Setup::new().arguments(&["--file", "/sys/node_log"]), 1), &["/sys/", "node_log"]);
    let setup = Setup::new().arguments(&["--file", "plain_file/node_log"]);
    setup.write("plain_file", "");
    names(&refusal(&setup, 1), &["plain_file"]);
}

#[test]
fn other_than_regular_file_is_named() {
    names(&refusal(&Setup::new().arguments(&["--file", "."]), 1), &["."]);
    let setup = Setup::new();
    std::fs::create_dir(setup.path("node_log")).unwrap();
    names(&refusal(&setup, 1), &["node_log"]);
    let setup = Setup::new();
    nix::unistd::mkfifo(&setup.path("node_log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    names(&refusal(&setup, 1), &["node_log is not a regular file"]);
}

#[test]
fn second_daemon_learns_the_first() {
    let logd = Logd::start(&[]);
    let file = logd.path("node_log");
    let second = Setup::new().arguments(&["--file", file.to_str().unwrap()]);
    names(&refusal(&second, 75), &[&format!("process {}", logd.pid()), file.to_str().unwrap()]);
}

#[test]
fn bad_setting_is_blamed_on_its_source() {
    let flag = Setup::new().arguments(&["--max-line", "lots"]);
    names(&refusal(&flag, 64), &["lots", "--max-line", "expected a size"]);
    let environment = Setup::new().environment("LOGD_MAX_LINE", "lots");
    names(&refusal(&environment, 78), &["LOGD_MAX_LINE", "lots", "expected a size"]);
    let file = Setup::new().arguments(&["--config", "logd.toml"]);
    file.write("logd.toml", "max-line = \"lots\"\n");
    names(&refusal(&file, 78), &["logd.toml", "max-line", "lots", "expected a size"]);
    let environment = Setup::new().arguments(&["--config", "logd.toml"]).environment("LOGD_SYNC", "often");
    environment.write("logd.toml", "max-line = \"2MiB\"\n");
    names(&refusal(&environment, 78), &["LOGD_SYNC", "often"]);
}

#[test]
fn an_unknown_flag_or_key_is_named() {
    names(
        &refusal(&Setup::new().arguments(&["--rotate-bites", "1MB"]), 64),
        &["--rotate-bites", "--rotate-bytes"],
    );
    let setup = Setup::new().arguments(&["--config", "logd.toml"]);
    setup.write("logd.toml", "rotate-bites = \"1MB\"\n");
    names(&refusal(&setup, 78), &["logd.toml", "`rotate-bites`", "did you mean `rotate-bytes`"]);
    setup.write("logd.toml", "rotate-bytes = \n");
    names(&refusal(&setup, 78), &["logd.toml"]);
    let missing = Setup::new().arguments(&["--config", "nowhere.toml"]);
    names(&refusal(&missing, 78), &["nowhere.toml", "No such file"]);
}

#[test]
fn values_out_of_range_are_rejected() {
    for (flag, value) in [
        ("--max-line", "0"),
        ("--max-connections", "0"),
        ("--allow", "everyone"),
        ("--listen", "66666"),
        ("--sync", "sometimes"),
        ("--idle-timeout", "15"),
        ("--log-level", "loud=very"),
    ] {
        names(&refusal(&Setup::new().arguments(&[flag, value]), 64), &[flag, value]);
    }
}

#[test]
fn flag_wins_over_environment_over_file() {
    let setup = Setup::new()
        .arguments(&["--config", "logd.toml", "--rotate-bytes", "0"])
        .environment("LOGD_FILE", "from_environment")
        .environment("LOGD_ROTATE_BYTES", "lots");
    setup.write("logd.toml", "file = \"from_file\"\nmax-line = \"1000\"\n");
    let logd = setup.start();
    crate::client::send(logd.address(), &b"x".repeat(1500)).unwrap();
    assert_eq!(std::fs::read(logd.path("from_environment")).unwrap().len(), 1502);
    assert!(!logd.path("from_file").exists());
}

#[test]
fn help_and_version_go_to_stdout() {
    for (flag, expected) in [("--help", "--rotate-bytes"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let Output { status, stdout, stderr } = Setup::new().arguments(&[flag]).run();
        assert_eq!((status.code(), stderr.len()), (Some(0), 0));
        names(&String::from_utf8(stdout).unwrap(), &["logd", expected]);
    }
}
