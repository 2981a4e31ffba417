//! Names resolve in a static binary on an image without a system, through DNS and through /etc/hosts.

use crate::container::{Container, volume};
use crate::network::Network;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

/// A dnsmasq that knows one name and asks no other server.
struct Resolver(Child);

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Resolver {
    fn start(listen: &str, name: &str, address: IpAddr) -> Resolver {
        let child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
                "--conf-file=/dev/null",
            ])
            .args(["--pid-file=", "--user=root", &format!("--listen-address={listen}")])
            .arg(format!("--address=/{name}/{address}"))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Resolver(child)
    }
}

#[test]
fn hosts_are_found_through_dns_and_etc_hosts() {
    let node = tempfile::tempdir().unwrap();
    let network = Network::new("names");
    let logd = Container::start(&network, "logd", &[&volume(node.path(), "/var")], &[]);
    logd.ready(7667);
    let log = || logd.exec_says(&["cat", "/var/node_log"]);

    let dns = network.gateway();
    let _resolver = Resolver::start(&dns, "logd.crew.test", logd.address());
    let words = ["--host", "logd.crew.test", "--", "expr", "20", "+", "1"];
    // First the full name through DNS. Below, a search list like a pod's makes `logd.crew` a name, too.
    let by_dns = Container::start(&network, "logsend", &[&format!("--dns={dns}")], &words);
    assert_eq!(by_dns.end(), 0, "{}", by_dns.logs());
    assert_eq!(log(), "21");

    let words = ["--host", "logd.crew", "--", "expr", "40", "+", "2"];
    let options = [&format!("--dns={dns}"), "--dns-search=test"];
    let by_search = Container::start(&network, "logsend", &options, &words);
    assert_eq!(by_search.end(), 0, "{}", by_search.logs());
    assert_eq!(log(), "21\n42");

    let words = ["--host", "the-node", "--", "expr", "60", "+", "3"];
    let known = format!("--add-host=the-node:{}", logd.address());
    // A resolver that answers nothing: only the file knows the name.
    let by_file = Container::start(&network, "logsend", &[&known, "--dns=127.0.0.1"], &words);
    assert_eq!(by_file.end(), 0, "{}", by_file.logs());
    assert_eq!(log(), "21\n42\n63");
}
