//! An operator's actions on a running daemon: probes, reloads, drains, socket activation.

use crate::client::{self, send};
use crate::daemon::{Logd, Setup};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use trial::wait_until;

#[test]
fn probes_have_their_usual_names() {
    let logd = Logd::start(&[]);
    for path in ["/ready", "/readyz"] {
        assert_eq!(logd.admin("GET", path), (200, "ready\n".to_owned()));
    }
    for path in ["/live", "/livez", "/healthy", "/healthz"] {
        assert_eq!(logd.admin("GET", path), (200, "live\n".to_owned()));
    }
    assert_eq!(logd.admin("GET", "/drain").0, 405);
    assert_eq!(logd.admin("GET", "/nowhere").0, 404);
}

#[test]
fn draining_daemon_is_live_but_not_ready() {
    let logd = Logd::start(&[]);
    let mut stream = client::connect(logd.address());
    stream.write_all(b"begun\n").unwrap();
    wait_until("it is served", || logd.metric("connections_open") == 1);
    assert_eq!(logd.admin("POST", "/drain"), (200, "draining\n".to_owned()));
    wait_until("it is not ready", || {
        stream.write_all(b"more\n").unwrap(); // otherwise the daemon would take the connection for done
        logd.ready() == (503, "draining: asked to stop\n".to_owned())
    });
    assert_eq!(logd.admin("GET", "/live").0, 200);
    wait_until("the door is shut", || {
        stream.write_all(b"more\n").unwrap();
        send(logd.address(), b"late\n").is_err()
    });
    client::receipt(stream).unwrap();
    assert_eq!(logd.join().code(), Some(0));
    assert!(logd.file().starts_with(b"begun\nmore\n") && logd.file().ends_with(b"more\n"));
}

#[test]
fn second_signal_ends_the_drain() {
    let logd = Logd::start(&["--drain-timeout", "1h"]);
    let mut stream = client::connect(logd.address());
    stream.write_all(b"begun\n").unwrap();
    wait_until("it is served", || logd.metric("connections_open") == 1);
    logd.signal(Signal::SIGINT);
    wait_until("it drains", || {
        stream.write_all(b"more\n").unwrap();
        logd.says("drain_started")
    });
    logd.signal(Signal::SIGTERM);
    assert_eq!(logd.join().code(), Some(0));
    assert!(logd.says("drain_aborted"));
    assert!(client::is_reset(&client::end(&mut stream).unwrap_err()));
}

/// In process 1 of a container, the kernel would drop a signal that is not caught yet.
#[test]
#[ignore = "needs strace: just test-programs"]
fn signal_during_the_start_is_a_drain() {
    let setup = Setup::new();
    let logd = setup.command();
    let mut strace = std::process::Command::new("strace");
    // The runtime's first step, before anything listens to signals.
    strace.args(["-f", "-o", "/dev/null", "-e", "inject=epoll_create1:signal=SIGTERM:when=1"]);
    strace.arg(logd.get_program()).args(logd.get_args());
    strace.current_dir(logd.get_current_dir().unwrap());
    for (name, value) in logd.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    let output = strace.output().expect("strace is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("draining"), "{}: {said}", output.status);
}

#[test]
fn changed_settings_are_applied_or_named() {
    let setup = Setup::new().arguments(&["--config", "logd.toml"]);
    setup.write("logd.toml", "max-line = \"1000\"\n");
    let logd = setup.start();
    let line = b"x".repeat(1500);
    send(logd.address(), &line).unwrap();
    assert_eq!(logd.metric("splits_total{reason=\"max_line\"}"), 1);

    std::fs::write(logd.path("logd.toml"), "max-line = \"2000\"\nformat = \"json\"\n").unwrap();
    wait_until("it is applied", || !logd.events("restart_required").is_empty());
    assert_eq!(logd.events("settings_reloaded")[0]["applied"], "max-line");
    assert_eq!(logd.events("restart_required")[0]["settings"], "format");
    // The change is logged a moment before it is applied.
    wait_until("the line stays whole", || {
        let before = logd.metric("splits_total{reason=\"max_line\"}");
        send(logd.address(), &line).unwrap();
        logd.metric("splits_total{reason=\"max_line\"}") == before
    });

    std::fs::write(
        logd.path("logd.toml"),
        "max-line = \"2000\"\nformat = \"json\"\nallow = \"10.0.0.0/8\"\n",
    )
    .unwrap();
    wait_until("it is applied", || logd.events("settings_reloaded").len() == 2);
    wait_until("this peer is refused", || {
        send(logd.address(), b"not me\n").is_err_and(|error| client::is_reset(&error))
    });
    logd.counts("refused_total{reason=\"not_allowed\"}", 1);
}

#[test]
fn bad_settings_file_keeps_the_old_settings() {
    let setup = Setup::new().arguments(&["--config", "logd.toml"]);
    setup.write("logd.toml", "max-line = \"1000\"\n");
    let logd = setup.start();
    std::fs::write(logd.path("logd.toml"), "max-line = \"lots\"\nmax-lime = 3\n").unwrap();
    wait_until("it is named", || !logd.events("settings_rejected").is_empty());
    let error = logd.events("settings_rejected")[0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("logd.toml"), "{error}");
    send(logd.address(), &b"x".repeat(1500)).unwrap();
    assert_eq!(logd.metric("splits_total{reason=\"max_line\"}"), 1);
}

#[test]
fn changed_file_setting_needs_a_restart() {
    let setup =
        Setup::new().arguments(&["--config", "logd.toml", "--rotate-bytes", "1000", "--keep-files", "1"]);
    setup.write("logd.toml", "file = \"node_log\"\n");
    let foreign = "other_log.000001-20260101T000000Z";
    setup.write(foreign, "somebody else's");
    let logd = setup.start();
    std::fs::write(logd.path("logd.toml"), "file = \"other_log\"\n").unwrap();
    wait_until("it is named", || !logd.events("restart_required").is_empty());
    for _ in 0..4 {
        send(logd.address(), &b"x".repeat(900)).unwrap();
    }
    wait_until("the bound on the files is kept", || logd.metric("removed_files_total") == 2);
    assert!(logd.path(foreign).exists());
}

#[test]
fn busy_daemon_notices_changed_settings() {
    let setup =
        Setup::new().arguments(&["--config", "logd.toml", "--rotate-bytes", "100", "--keep-files", "2"]);
    setup.write("logd.toml", "max-line = \"1000\"\n");
    let logd = setup.start();
    // Rotates all the time; each rotation is an event on the control side.
    let rotate = || send(logd.address(), &b"x".repeat(90)).unwrap();
    wait_until("it rotates", || {
        rotate();
        logd.metric("rotations_total") > 2
    });
    std::fs::write(logd.path("logd.toml"), "max-line = \"2000\"\n").unwrap();
    let mut rotations = 0;
    while logd.events("settings_reloaded").is_empty() {
        rotate();
        rotations += 1;
        assert!(rotations < 20_000, "{rotations} rotations later still not noticed");
    }
}

#[test]
fn hangup_reopens_only_a_moved_file() {
    let logd = Logd::start(&[]);
    send(logd.address(), b"before\n").unwrap();
    std::fs::rename(logd.path("node_log"), logd.path("moved")).unwrap();
    // logrotate's `create` leaves an empty file like this.
    std::fs::write(logd.path("node_log"), "").unwrap();
    logd.signal(Signal::SIGHUP);
    wait_until("it is reopened", || logd.metric("reopened_total") == 1);
    send(logd.address(), b"after\n").unwrap();
    assert_eq!(
        (std::fs::read(logd.path("moved")).unwrap(), logd.file()),
        (b"before\n".to_vec(), b"after\n".to_vec())
    );
    logd.signal(Signal::SIGHUP);
    logd.turn();
    assert_eq!(logd.metric("reopened_total"), 1);
}

#[test]
fn sockets_of_systemd_are_served() {
    let sockets = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let setup = Setup::new();
    // The shell knows its own process id, and exec keeps it.
    let daemon = setup.command();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\""]);
    command.arg(daemon.get_program()).args(daemon.get_args()).current_dir(setup.path(""));
    let descriptors = sockets.each_ref().map(AsRawFd::as_raw_fd);
    #[allow(unsafe_code, reason = "there is no safe way to pass descriptors on under chosen numbers")]
    // SAFETY: dup is async-signal-safe, and the descriptors stay open until the child was started.
    unsafe {
        command.pre_exec(move || {
            // Move the descriptors away first: a target may also be a source.
            let copies = descriptors.map(|fd| nix::libc::fcntl(fd, nix::libc::F_DUPFD, 100));
            for (number, fd) in (3..).zip(copies) {
                if nix::libc::dup2(fd, number) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let logd = setup.start_with(command);
    drop(sockets);
    for address in addresses {
        send(address, format!("to {address}\n").as_bytes()).unwrap();
    }
    let expected: String = addresses.iter().map(|address| format!("to {address}\n")).collect();
    assert_eq!(logd.file(), expected.into_bytes());
}
