//! Each agent in its image: it answers its probes, does its work, is inspected without a shell, and stops in
//! order as process 1.

use crate::container::{Container, podman_says, run, send, volume};
use crate::network::Network;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

#[track_caller]
fn probes_answer(container: &Container, port: u16) {
    container.ready(port);
    for path in ["/live", "/ready", "/healthy", "/readyz"] {
        assert_eq!(container.get(port, path).0, 200, "{path}");
    }
    assert!(container.get(port, "/metrics").1.contains("nodecrew_build_info"));
}

#[test]
fn logd_gives_last_receipt_after_sigterm() {
    let node = tempfile::tempdir().unwrap();
    let network = Network::new("logd");
    let logd = Container::start(&network, "logd", &[&volume(node.path(), "/var")], &[]);
    probes_answer(&logd, 7667);
    send(logd.at(6666), "21 Nov - Greetings from client-x7\n");
    let log = "21 Nov - Greetings from client-x7";
    assert_eq!(logd.exec_says(&["cat", "/var/node_log"]), log);
    assert_eq!(std::fs::read_to_string(node.path().join("node_log")).unwrap(), format!("{log}\n"));
    assert_eq!(logd.exec_says(&["wc", "-l", "/var/node_log"]), "1 /var/node_log");
    assert!(logd.exec_says(&["ls", "-l", "/var"]).contains("node_log"));
    assert_eq!(logd.exec_says(&["cat", "/proc/1/comm"]), "logd");
    let copied = logd.exec(&["tar", "cf", "-", "/var/node_log"]).stdout;
    assert!(copied.starts_with(b"var/node_log\0") && copied.windows(log.len()).any(|w| w == log.as_bytes()));
    assert!(!logd.exec(&["sh", "-c", "true"]).status.success(), "there is a shell");
    assert!(logd.exec_says(&["cat", "/proc/1/status"]).contains("CapEff:\t0000000000000000"));

    let mut open = TcpStream::connect(logd.at(6666)).unwrap();
    open.write_all(b"begun before the end\n").unwrap();
    let lines = "the line of an open connection";
    logd.until(lines, || {
        logd.exec_says(&["tail", "-n", "1", "/var/node_log"]).contains("begun").then_some(())
    });
    logd.signal("TERM");
    open.write_all(b"ended after it\n").unwrap();
    open.shutdown(Shutdown::Write).unwrap();
    assert_eq!(open.read(&mut [0]).unwrap(), 0, "the receipt of a connection that was open");
    assert_eq!(logd.end(), 0, "{}", logd.logs());
    let kept = std::fs::read_to_string(node.path().join("node_log")).unwrap();
    assert_eq!(kept, format!("{log}\nbegun before the end\nended after it\n"));
}

#[test]
fn logcd_makes_last_archive_after_sigterm() {
    let node = tempfile::tempdir().unwrap();
    std::fs::write(node.path().join("client2-x7.log"), "hello from client2-x7\n").unwrap();
    let network = Network::new("logcd");
    let logcd = Container::start(
        &network,
        "logcd",
        &[&volume(node.path(), "/var/log")],
        &["--admin", "[::]:7668", "--interval", "100ms", "--publish-within", "100ms"],
    );
    probes_answer(&logcd, 7668);
    let find = ["find", "/var/log", "-name", "*.gz"];
    let archive = logcd.until("the archive", || Some(logcd.exec_says(&find)).filter(|path| !path.is_empty()));
    let member = "var/log/client2-x7.log";
    assert_eq!(logcd.exec_says(&["tar", "-tf", &archive]), member);
    assert_eq!(logcd.exec_says(&["tar", "-xzOf", &archive, member]), "hello from client2-x7");
    assert_eq!(logcd.exec_says(&["logcd", "cat", &archive, "client2-x7.log"]), "hello from client2-x7");

    std::fs::write(node.path().join("late.log"), "just before the end\n").unwrap();
    logcd.signal("TERM");
    assert_eq!(logcd.end(), 0, "{}", logcd.logs());
    let name = archive.strip_prefix("/var/log/").unwrap();
    let shown =
        run("logcd", &[&volume(node.path(), "/var/log")], &["cat", &format!("/var/log/{name}"), "late.log"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "just before the end\n");
}

#[test]
fn queue_survives_a_restart_of_its_server() {
    let network = Network::new("queued");
    let data = format!("nodecrew-test-{}", std::process::id());
    // A named volume takes its owner from the image's directory, so that the user needs no capability to
    // write.
    let keep = format!("--volume={data}:/data");
    let queued = Container::start(&network, "queued", &[&keep], &[]);
    probes_answer(&queued, 8080);
    let server = |queued: &Container| format!("--env=QUEUE_URL=http://{}:8080", queued.address());
    let push = ["push", "-q", "keygen", "--seal", "one", "two", "three"];
    assert_eq!(Container::start(&network, "queuectl", &[&server(&queued)], &push).end(), 0);
    queued.signal("TERM");
    assert_eq!(queued.end(), 0, "{}", queued.logs());

    let queued = Container::start(&network, "queued", &[&keep], &[]);
    queued.ready(8080);
    let words = ["run", "-q", "keygen", "--", "keygen", "--bits", "512"];
    let worker = Container::start(&network, "queuectl", &[&server(&queued)], &words);
    assert_eq!(worker.end(), 0, "{}", worker.logs());
    assert_eq!(worker.logs().matches("SHA256:").count(), 3, "{}", worker.logs());

    let push = ["push", "-q", "later", "an item"];
    assert_eq!(Container::start(&network, "queuectl", &[&server(&queued)], &push).end(), 0);
    let stats = |state: &str| {
        queued.until(state, || queued.get(8080, "/v1/queues/later").1.contains(state).then_some(()));
    };
    let words = ["run", "-q", "later", "--", "tail", "-f", "/etc/passwd"];
    let worker = Container::start(&network, "queuectl", &[&server(&queued)], &words);
    stats(r#""leased":1"#);
    worker.signal("TERM");
    assert_eq!(worker.end(), 75, "an eviction is no success: {}", worker.logs());
    stats(r#""ready":1"#);
    drop((worker, queued));
    podman_says(&["volume", "rm", "--force", &data]);
}

#[test]
fn keys_survive_a_restart_of_their_server() {
    let network = Network::new("kvd");
    let data = format!("nodecrew-test-kvd-{}", std::process::id());
    let keep = format!("--volume={data}:/data");
    let server = |kvd: &Container| format!("--env=KVD_URL=http://{}:8002", kvd.address());
    let kvd = Container::start(&network, "kvd", &[&keep], &["--linger", "100ms"]);
    probes_answer(&kvd, 8002);
    let put = ["put", "title", "Sapiens"];
    assert_eq!(Container::start(&network, "kvctl", &[&server(&kvd)], &put).end(), 0);
    // The hooks of a pod, which have no shell.
    kvd.exec_says(&["kvd", "drain"]);
    assert_eq!(kvd.get(8002, "/load/title"), (503, "_shutting_down_".to_owned()));
    kvd.exec_says(&["kvd", "resume"]);
    kvd.signal("TERM");
    assert_eq!(kvd.end(), 0, "{}", kvd.logs());
    let kvd = Container::start(&network, "kvd", &[&keep], &[]);
    kvd.ready(8002);
    assert_eq!(kvd.get(8002, "/load/title"), (200, "Sapiens".to_owned()));
    drop(kvd);
    podman_says(&["volume", "rm", "--force", &data]);
}

#[test]
fn rng_answers_writes_access_lines_and_stops_after_its_linger() {
    let network = Network::new("rng");
    let rng = Container::start(&network, "rng", &["--env=NODE_NAME=node-1"], &["--linger", "100ms"]);
    probes_answer(&rng, 8001);
    let (status, greeting) = rng.get(8001, "/");
    assert!(status == 200 && greeting.starts_with("RNG running on "), "{greeting}");
    rng.until("the access line", || rng.logs().contains("\"GET / HTTP/1.1\" 200").then_some(()));
    rng.signal("TERM");
    assert_eq!(rng.end(), 0, "{}", rng.logs());
}

#[test]
fn crew_runs_from_one_image() {
    let network = Network::new("nodecrew");
    let data = format!("nodecrew-crew-{}", std::process::id());
    let crew = Container::start(&network, "nodecrew", &[&format!("--volume={data}:/data")], &[]);
    for port in [7667, 7668, 8080] {
        probes_answer(&crew, port);
    }
    send(crew.at(6666), "hello\n");
    assert_eq!(crew.exec_says(&["cat", "/data/logs/node.log"]), "hello");
    let version = crew.exec_says(&["nodecrew", "--version"]);
    assert_eq!(crew.exec_says(&["logd", "--version"]), version.replace("nodecrew", "logd"));
    crew.signal("TERM");
    assert_eq!(crew.end(), 0, "{}", crew.logs());
    drop(crew);
    podman_says(&["volume", "rm", "--force", &data]);
}
