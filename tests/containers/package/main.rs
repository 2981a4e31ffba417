//! The Debian package on its own host: a container with a real systemd as process 1.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod host;
mod operations;

use host::Host;
use std::collections::BTreeSet;
use std::path::Path;

const UNITS: [&str; 6] =
    ["logd.service", "logcd.service", "logcd-once.service", "queued.service", "kvd.service", "logd.socket"];

/// Highest exposure that `systemd-analyze security` may find, in tenths.
const EXPOSURE_MAX: &str = "20";

#[test]
fn installed_agents_run_when_enabled() {
    let host = Host::with_package();
    for unit in UNITS {
        assert_eq!(host.answer(&format!("systemctl is-active {unit}")), "inactive");
    }
    // A log that only root may read.
    host.says("umask 077; echo 'hello from root' >/var/log/root.log");
    host.says("systemctl enable --now logd.socket logcd queued kvd");
    host.until("exec 3<>/dev/tcp/127.0.0.1/6666");
    assert_eq!(host.says("echo hello | logsend && cat /var/log/logd/node.log"), "hello");
    host.says("seq 3 | logsend");
    assert_eq!(host.says("cat /var/log/logd/node.log"), "hello\n1\n2\n3");
    assert_eq!(host.answer("systemctl is-active logd logcd queued kvd"), ["active"; 4].join("\n"));

    host.until("logcd cat /var/lib/logcd/all-logs-*.tar.gz root.log");
    assert_eq!(host.says("logcd cat /var/lib/logcd/all-logs-*.tar.gz root.log"), "hello from root");

    // Lines that logd keeps are archived too; the reload makes logcd look at once.
    host.says("systemctl reload logcd");
    host.until("logcd cat /var/lib/logcd/all-logs-*.tar.gz logd/node.log | grep -x 3");

    host.says("queuectl push -q work --seal a b c");
    assert_eq!(host.says("queuectl run -q work -- sh -c 'echo got $ITEM' | sort"), "got a\ngot b\ngot c");

    assert_eq!(host.says("kvctl put greeting hello && kvctl get greeting"), "hello");

    for agent in ["logd", "logcd", "queued", "kvd"] {
        let user = host.says(&format!("stat -c %u /proc/$(systemctl show -P MainPID {agent})"));
        assert_ne!(user, "0", "{agent} runs as root");
        host.says(&format!("systemctl reload {agent} && systemctl stop {agent}"));
        assert_eq!(host.says(&format!("systemctl show -P Result {agent}")), "success");
    }
}

#[test]
fn admin_setting_opens_metrics_to_others() {
    let host = Host::with_package();
    // Listeners on any address, by the kernel's own list, for the ports 7667, 7668 and 7669.
    let listens =
        |port: u16| host.answer(&format!("grep -c ' 0\\{{32\\}}:{port:04X} 0*:0000 0A ' /proc/net/tcp6"));
    host.says("systemctl enable --now logd.socket logcd queued && systemctl start logd");
    assert_eq!([7667, 7668, 7669].map(listens), ["0", "0", "0"], "open unasked");
    host.says("sed -i 's/^#admin = /admin = /' /etc/nodecrew/*.toml && systemctl restart logd logcd queued");
    assert_eq!([7667, 7668, 7669].map(listens), ["1", "1", "1"]);
}

#[test]
fn hanging_daemon_is_restarted_by_systemd() {
    let host = Host::with_package();
    host.says("mkdir -p /run/systemd/system/logd.service.d");
    host.says("printf '[Service]\\nWatchdogSec=10s\\n' >/run/systemd/system/logd.service.d/quick.conf");
    host.says("systemctl daemon-reload && systemctl enable --now logd.socket && systemctl start logd");
    host.says("echo before | logsend");
    host.says("kill -STOP $(systemctl show -P MainPID logd)");
    host.says("echo after | logsend");
    assert_eq!(host.says("cat /var/log/logd/node.log"), "before\nafter");
    assert_eq!(host.says("systemctl show -P NRestarts logd"), "1");
}

#[test]
fn bad_settings_are_reported_without_restarts() {
    let host = Host::with_package();
    host.says("echo 'rotate-bites = 1' >>/etc/nodecrew/logd.toml");
    assert_ne!(host.answer("systemctl start logd.service"), "");
    assert_eq!(host.says("systemctl show -P NRestarts -P ExecMainStatus logd"), "0\n78");
    let said = host.says("journalctl --no-pager -u logd");
    assert!(said.contains("did you mean `rotate-bytes`"), "{said}");
}

#[test]
fn timer_archives_without_a_daemon() {
    let host = Host::with_package();
    host.says("echo hello >/var/log/some.log && systemctl enable --now logcd-once.timer");
    assert!(host.says("systemctl list-timers --no-pager").contains("logcd-once.timer"));
    host.says("systemctl start logcd-once.service");
    assert_eq!(host.says("logcd cat /var/lib/logcd/all-logs-*.tar.gz some.log"), "hello");
}

#[test]
fn upgrade_keeps_settings_and_restarts_agents() {
    let host = Host::with_package();
    host.says("echo 'keep-files = 3' >>/etc/nodecrew/logd.toml && systemctl enable --now logd.socket queued");
    host.says("echo before | logsend && queuectl push -q work one");
    let first = host.says("systemctl show -P MainPID logd");
    host.install(&host::next_package());
    assert_eq!(host.says("tail -n 1 /etc/nodecrew/logd.toml"), "keep-files = 3");
    assert_ne!(host.says("systemctl show -P MainPID logd"), first, "it runs on with what was replaced");
    assert_eq!(host.says("systemctl is-active logd queued"), "active\nactive");
    assert_eq!(host.answer("systemctl is-active logcd"), "inactive");
    host.says("echo after | logsend");
    assert_eq!(host.says("cat /var/log/logd/node.log"), "before\nafter");
    assert_eq!(host.says("queuectl run -q work --until empty -- cat"), "one");
}

#[test]
fn purge_removes_what_remove_leaves() {
    let host = Host::new();
    let everything =
        "find / -xdev ! -path '/proc/*' ! -path '/sys/*' ! -path '/run/*' ! -path '/tmp/*' | sort";
    // Not the package's: the logs and lists of dpkg, systemd's journal and notes, and the backups of the user
    // lists. Users stay in Debian, so that nobody else gets their files.
    let aside = "grep -vE '^/var/(log/(journal|dpkg|alternatives)|lib/dpkg|lib/systemd|cache)|^/var/log/private$|^/var/lib/private$|systemd/system/(multi-user|sockets|timers).target.wants$|^/usr/local|^/etc/(passwd|group|g?shadow)-$|^/etc/.pwd.lock$'";
    let before = host.says(&format!("{everything} | {aside}"));
    host.install(&host::package());
    host.says("systemctl enable --now logd.socket logcd queued kvd && echo one | logsend");
    host.says("dpkg --remove nodecrew");
    assert!(host.says("ls /etc/nodecrew /var/log/logd/ /var/lib/queued/ /var/lib/kvd/").contains("node.log"));
    assert_ne!(host.answer("exec 3<>/dev/tcp/127.0.0.1/6666"), "", "the door is shut");
    host.says("dpkg --purge nodecrew");
    let after = host.says(&format!("{everything} | {aside}"));
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) =
        (before.lines().collect(), after.lines().collect());
    assert_eq!(after.symmetric_difference(&before).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert_eq!(host.answer("dpkg-query -W nodecrew 2>/dev/null"), "");
}

#[test]
fn units_are_sound_and_confined() {
    let host = Host::with_package();
    for unit in UNITS.iter().chain(&["logcd-once.timer"]) {
        let path = format!("/lib/systemd/system/{unit}");
        assert_eq!(
            host.says(&format!("systemd-analyze verify --man=no --recursive-errors=no {path} 2>&1")),
            ""
        );
    }
    for unit in UNITS.iter().filter(|unit| unit.ends_with(".service")) {
        let words = format!("systemd-analyze security --no-pager --offline=yes --threshold={EXPOSURE_MAX}");
        println!("{}", host.says(&format!("{words} /lib/systemd/system/{unit} | tail -n 1")));
    }
}

#[test]
fn programs_have_man_pages_and_completions() {
    let host = Host::with_package();
    for agent in
        ["logd", "logsend", "logcd", "queued", "queuectl", "kvd", "kvctl", "keygen", "rng", "nodecrew"]
    {
        host.says(&format!("zcat /usr/share/man/man1/{agent}.1.gz | grep -q '^.SH OPTIONS'"));
        host.says(&format!(
            "bash -c '. /usr/share/bash-completion/completions/{agent}; complete -p {agent}'"
        ));
        host.says(&format!("test -s /usr/share/zsh/vendor-completions/_{agent}"));
        host.says(&format!("test -s /usr/share/fish/vendor_completions.d/{agent}.fish"));
        host.says(&format!("{agent} --version"));
    }
    assert!(Path::new(&host::package()).exists());
}
