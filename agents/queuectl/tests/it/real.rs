//! queuectl and the real server together.

use crate::queuectl::{command, run, stderr, stdout};
use crate::server::Port;
use kit::daemon::Context;
use kit::lifecycle::stop::Stop;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::Duration;
use trial::{signal, wait_until};

struct Queued {
    url: String,
    stop: Stop,
    _port: Port,
    thread: Option<JoinHandle<()>>,
}

impl Queued {
    fn start() -> Queued {
        Queued::start_with("http", &[])
    }

    fn start_with(scheme: &str, flags: &[&str]) -> Queued {
        let port = Port::reserve();
        let http = port.address.to_string();
        let url = format!("{scheme}://{http}");
        let argv = ["queued", "--data", "memory", "--http", &http, "--line", "none"];
        let argv = argv.iter().chain(flags).map(OsString::from);
        let settings = kit::settings::load("QUEUED_TEST_UNSET", argv).unwrap();
        let stop = Stop::by_hand(Duration::ZERO);
        let context = Context::new("queued", stop.clone());
        let thread = std::thread::spawn(move || {
            kit::daemon::runtime().unwrap().block_on(queued::control::run(settings, context)).unwrap();
        });
        Queued { url, stop, _port: port, thread: Some(thread) }
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = command(&self.url, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn stats(&self) -> serde_json::Value {
        serde_json::from_str(&self.ask(&["stats", "-q", "q", "--json"])).unwrap()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let stop = self.stop.clone();
        // A drain needs a runtime, an abort does not.
        stop.drain.cancel();
        stop.abort.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a worker whose command writes its item to the file `begun`, and ends when the file `go` exists.
fn worker(queued: &Queued, directory: &Path) -> Child {
    let script = "echo $ITEM >> $0/begun; while [ ! -e $0/go ]; do sleep 0.02; done; echo $ITEM";
    let mut command: Command = command(&queued.url, ["run", "-q", "q", "--", "sh", "-c", script]);
    command.arg(directory).process_group(0).spawn().unwrap()
}

#[test]
fn surviving_workers_end_when_all_is_done() {
    let queued = Queued::start();
    queued.ask(&[
        "create",
        "-q",
        "q",
        "--lease",
        "1s",
        "--backoff",
        "0s",
        "--max-attempts",
        "0",
        "--give-up",
        "30s",
    ]);
    let directory = tempfile::tempdir().unwrap();
    let begun =
        || std::fs::read_to_string(directory.path().join("begun")).unwrap_or_default().lines().count();
    let mut workers: Vec<Child> = (0..30).map(|_| worker(&queued, directory.path())).collect();
    let items: Vec<String> = (0..100).map(|i| format!("item-{i}")).collect();
    let words = ["push", "-q", "q", "--seal"].into_iter().chain(items.iter().map(String::as_str));
    queued.ask(&words.collect::<Vec<_>>());
    wait_until("all thirty are at work", || begun() >= 30);

    // Killed with everything that the worker started, as a container is killed. The lease has to expire.
    let mut killed: Vec<Child> = workers.drain(..5).collect();
    for worker in &mut killed {
        killpg(Pid::from_raw(i32::try_from(worker.id()).unwrap()), Signal::SIGKILL).unwrap();
        worker.wait().unwrap();
    }
    let mut told: Vec<Child> = workers.drain(..5).collect();
    for worker in &mut told {
        signal(worker, Signal::SIGTERM);
        assert_eq!(worker.wait().unwrap().code(), Some(75));
    }
    assert!(
        workers.iter_mut().all(|worker| worker.try_wait().unwrap().is_none()),
        "nobody ends before the verdict"
    );
    std::fs::write(directory.path().join("go"), "").unwrap();

    let mut done = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        done.extend(stdout(&output).lines().map(str::to_owned));
    }
    assert_eq!(done.iter().collect::<HashSet<_>>(), items.iter().collect::<HashSet<_>>());
    let stats = queued.stats();
    assert_eq!(
        (&stats["verdict"], &stats["acked"], &stats["backlog"]),
        (&"drained".into(), &100.into(), &0.into())
    );
}

#[test]
fn poison_item_dies_and_can_be_redriven() {
    let queued = Queued::start();
    queued.ask(&["create", "-q", "q", "--max-attempts", "2", "--backoff", "0s", "--give-up", "30s"]);
    queued.ask(&["push", "-q", "q", "good", "bad"]);
    let script = "echo cannot do $ITEM >&2; [ $ITEM = good ]";
    let output = command(&queued.url, ["run", "-q", "q", "--", "sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    let dead = queued.ask(&["dead", "list", "-q", "q"]);
    assert!(dead.contains("dead          2  bad   cannot do bad") && !dead.contains("good"), "{dead}");
    assert_eq!(queued.ask(&["dead", "redrive", "-q", "q", "--all"]), "redriven 1 item\n");
    queued.ask(&["run", "-q", "q", "--", "true"]);
    assert_eq!((queued.stats()["acked"].clone(), queued.stats()["dead"].clone()), (2.into(), 0.into()));
}

#[test]
fn worker_fails_when_every_item_died() {
    let queued = Queued::start();
    queued.ask(&["create", "-q", "q", "--max-attempts", "1", "--give-up", "30s"]);
    queued.ask(&["push", "-q", "q", "--seal", "1", "2", "3", "4", "5"]);
    let work = |flags: &[&str], program: &str| {
        let arguments = [&["run", "-q", "q"], flags, &["--", program]].concat();
        command(&queued.url, arguments).output().unwrap()
    };
    // The second worker finds a queue that is already drained, as the replacement of a Job's pod does.
    for output in [work(&["-j", "2"], "false"), work(&[], "true")] {
        assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
        assert!(stderr(&output).contains("queue q is drained, but 5 items died"), "{}", stderr(&output));
    }
    assert!(queued.ask(&["stats"]).contains("drained, 5 failed, sealed"));
    assert_eq!(work(&["--allow-dead"], "true").status.code(), Some(0));
    queued.ask(&["dead", "redrive", "-q", "q", "--all"]);
    let output = work(&[], "true");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn items_in_a_dead_letter_queue_count_as_dead() {
    let queued = Queued::start();
    let settings = ["--max-attempts", "1", "--dead-letter-queue", "graves", "--give-up", "30s"];
    queued.ask(&[&["create", "-q", "q"][..], &settings].concat());
    queued.ask(&["push", "-q", "q", "--seal", "a"]);
    let output = command(&queued.url, ["run", "-q", "q", "--", "false"]).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(stderr(&output).contains("they are in queue graves"), "{}", stderr(&output));
}

#[test]
fn empty_sealed_queue_is_drained() {
    let queued = Queued::start();
    let output = run(&queued.url, &["push", "-q", "q", "--seal", "--give-up", "30s"], b"");
    assert_eq!(stdout(&output), "pushed 0 items, sealed\n", "{}", stderr(&output));
    queued.ask(&["run", "-q", "q", "--", "true"]);
}

#[test]
fn other_subcommands_match_the_server() {
    let queued = Queued::start();
    assert!(queued.ask(&["create", "-q", "q", "--give-up", "30s", "--max-items", "9"]).contains("max_items"));
    assert!(queued.ask(&["configure", "-q", "q", "--lease", "1m"]).contains("lease_ms            60000"));
    assert_eq!(queued.ask(&["seal", "-q", "q"]), "q is sealed, drained\n");
    assert_eq!(queued.ask(&["unseal", "-q", "q"]), "q is open, pending\n");
    assert_eq!(queued.ask(&["push", "-q", "q", "a", "b"]), "pushed 2 items\n");
    assert!(
        queued.ask(&["peek", "-q", "q", "--state", "ready", "-n", "1"]).ends_with("ready         0  a\n")
    );
    assert!(queued.ask(&["stats"]).contains("working"));
    assert_eq!(queued.ask(&["queues"]), "q\n");
    assert_eq!(queued.ask(&["drain", "-q", "q"]), "removed 2 items\n");
    assert_eq!(queued.ask(&["delete", "-q", "q", "--json"]), "{}\n");
    assert_eq!(queued.ask(&["queues"]), "");
}

#[test]
fn tls_name_and_token_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = || rcgen::generate_simple_self_signed(["queue.test".to_owned()]).unwrap();
    let (right, stranger) = (pair(), pair());
    let (cert, key) = (write("crt", &right.cert.pem()), write("key", &right.signing_key.serialize_pem()));
    let stranger = write("stranger", &stranger.cert.pem());
    let tokens = write("tokens", "may-push push\nmay-work work\n");
    let (pushing, working) = (write("p", "may-push\n"), write("w", "may-work\n"));
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--tokens", &tokens];
    let queued = Queued::start_with("https", &flags);

    let tls = ["--ca", &cert, "--tls-name", "queue.test"];
    let with = |token: &str, arguments: &[&str]| {
        let flags = [&tls[..], &["--token-file", token], arguments].concat();
        command(&queued.url, flags).output().unwrap()
    };
    let output = with(&pushing, &["push", "-q", "q", "--seal", "a"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = with(&pushing, &["run", "-q", "q", "--", "true"]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    let output = with(&working, &["run", "-q", "q", "--", "cat"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "a"), "{}", stderr(&output));

    for (ca, name) in [(&stranger, "queue.test"), (&cert, "other.test")] {
        let output = command(&queued.url, ["--ca", ca, "--tls-name", name, "queues"]).output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
        assert!(stderr(&output).contains("TLS handshake failed"), "{}", stderr(&output));
    }
}

#[test]
fn an_item_is_shown_with_its_attempts() {
    let queued = Queued::start();
    queued.ask(&["create", "-q", "q", "--max-attempts", "1", "--give-up", "30s"]);
    let id = queued.ask(&["push", "-q", "q", "--seal", "--ids", "apple"]);
    let output =
        command(&queued.url, ["run", "-q", "q", "--", "sh", "-c", "echo rotten; exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    let shown = queued.ask(&["peek", "-q", "q", "--id", id.trim()]);
    let rows: Vec<&str> = shown.lines().collect();
    assert!(rows[1].starts_with(id.trim()) && rows[1].contains("apple"), "{shown}");
    assert!(rows[3].starts_with("ATTEMPT  WORKER"), "{shown}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(rows[4].contains(&format!("{}/", host.trim())), "{shown}");
    assert!(rows[4].contains("nacked, dead") && rows[4].contains("rotten"), "{shown}");
    let output = command(&queued.url, ["peek", "-q", "q", "--id", &"0".repeat(32)]).output().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("no item"), "{}", stderr(&output));
}
