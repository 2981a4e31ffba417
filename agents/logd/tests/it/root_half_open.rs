//! A peer whose host is gone: no packet comes from it any more, not even an end.

use crate::client::send;
use crate::daemon::Logd;
use std::io::Write;
use std::process::Command;
use trial::{connect_from, wait_until};

/// An address of this host that nobody else uses.
const GONE: &str = "127.66.66.77";

/// Drops all packets from and to this address until the value is dropped.
struct CableCut;

impl CableCut {
    fn rules(what: &str) -> bool {
        ["-s", "-d"].into_iter().all(|side| {
            let rule = [what, "INPUT", side, GONE, "-j", "DROP"];
            Command::new("iptables").arg("-w").args(rule).status().expect("iptables is installed").success()
        })
    }

    fn now() -> CableCut {
        assert!(CableCut::rules("-I"));
        CableCut
    }
}

impl Drop for CableCut {
    fn drop(&mut self) {
        let _ = CableCut::rules("-D");
    }
}

#[test]
#[ignore = "needs root and iptables: just test-root"]
fn root_lines_of_a_lost_host_stay() {
    let logd = Logd::start(&["--keepalive", "1s", "--max-connections", "1"]);
    let mut peer = connect_from(GONE, logd.address());
    peer.write_all(b"whole\nhalf").unwrap();
    wait_until("it has arrived", || logd.metric("received_bytes_total") == 10);
    let cut = CableCut::now();
    wait_until("it is given up", || logd.metric("resets_total{reason=\"peer_gone\"}") == 1);
    // The connection's place is free again.
    send(logd.address(), b"after\n").unwrap();
    assert_eq!(logd.file(), b"whole\nhalf\nafter\n");
    drop(cut);
}
