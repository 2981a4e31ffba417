//! The procedures of OPERATIONS.md on a host, read from that file and run as root.

use crate::host::{Host, next_package, package};
use trial::commands_under;

const OPERATIONS: &str = include_str!("../../../OPERATIONS.md");

/// Runs the commands under a heading in a directory, each of which must succeed.
#[track_caller]
fn follow(host: &Host, heading: &str, directory: &str) -> String {
    let commands = commands_under(heading, OPERATIONS);
    // Root has no sudo here, and nobody to answer questions.
    let shell = "set -e; sudo() { \"$@\"; }; export DEBIAN_FRONTEND=noninteractive";
    host.says(&format!("{shell}; mkdir -p {directory}; cd {directory}\n{commands}"))
}

/// Starts a host with some items in a queue, and a line in logd's file.
fn at_work() -> Host {
    let host = Host::with_package();
    host.says("systemctl enable --now logd.socket logcd queued");
    host.says("echo kept | logsend && queuectl push -q work first second");
    host
}

fn items(host: &Host) -> String {
    host.says("queuectl peek -q work | grep -oE 'first|second|third' | sort -u | tr '\\n' ' '")
}

#[test]
fn backup_of_a_running_queued_is_restored() {
    let host = at_work();
    follow(&host, "Back up queued on a host", "/root");
    host.says("queuectl push -q work third && queuectl run -q work --until empty -- true");
    follow(&host, "Restore queued on a host", "/root");
    assert_eq!(items(&host), "first second");
    assert_eq!(host.answer("systemctl is-active queued"), "active");
    host.says("queuectl run -q work -- true");
}

#[test]
fn backup_of_a_running_kvd_is_restored() {
    let host = Host::with_package();
    host.says("systemctl enable --now kvd && kvctl put greeting hello");
    follow(&host, "Back up kvd on a host", "/root");
    host.says("kvctl put greeting later && kvctl put other later");
    follow(&host, "Restore kvd on a host", "/root");
    assert_eq!(host.says("kvctl list --values"), "greeting\thello");
    assert_eq!(host.answer("systemctl is-active kvd"), "active");
}

#[test]
fn lost_host_is_replaced_from_its_backup() {
    let host = at_work();
    follow(&host, "Back up queued on a host", "/root");
    let backup = tempfile::tempdir().unwrap();
    let file = backup.path().join("queued.tar");
    host.take("/var/backups/queued.tar", file.to_str().unwrap());
    drop(host);
    let host = Host::with_package();
    host.bring(file.to_str().unwrap(), "/var/backups/queued.tar");
    follow(&host, "Replace queued's host", "/root");
    assert_eq!(items(&host), "first second");
}

#[test]
fn data_moves_to_another_directory_and_survives_a_restart() {
    let host = at_work();
    follow(&host, "Move queued's data on a host", "/root");
    assert_eq!(items(&host), "first second");
    host.says("queuectl push -q work third && systemctl restart queued");
    assert_eq!(items(&host), "first second third");
    host.says("test -n \"$(find /srv/private/queued -newer /var/lib/private/queued.old -type f)\"");

    follow(&host, "Move logd's files on a host", "/root");
    host.says("echo moved | logsend");
    assert_eq!(host.says("cat /srv/private/logd/node.log"), "kept\nmoved");
    assert_eq!(host.says("cat /var/log/logd/node.log"), "kept\nmoved");

    // The mount points stay, empty.
    follow(&host, "Uninstall on a host", "/root");
    assert_eq!(host.says("find /srv/private -type f"), "");
}

#[test]
fn upgrade_and_way_back_keep_items_and_lines() {
    let host = at_work();
    host.says("mkdir /root/next /root/back");
    host.bring(&next_package(), "/root/next/nodecrew_next.deb");
    host.bring(&package(), "/root/back/nodecrew_back.deb");
    let version = || host.says("dpkg-query -W -f '${Version}' nodecrew");
    let first = version();
    assert_eq!(follow(&host, "Upgrade on a host", "/root/next").lines().last(), Some("active"));
    assert_ne!(version(), first);
    assert_eq!(items(&host), "first second");
    follow(&host, "Go back on a host", "/root/back");
    assert_eq!(version(), first);
    assert_eq!(items(&host), "first second");
    host.says("echo after | logsend");
    assert_eq!(host.says("cat /var/log/logd/node.log"), "kept\nafter");
}

#[test]
fn first_look_and_uninstall_work_as_written() {
    let host = at_work();
    let said = follow(&host, "First look on a host", "/root");
    for word in ["logd.service", "logcd.service", "queued.service", "work", "/var/"] {
        assert!(said.contains(word), "no {word} in {said}");
    }
    follow(&host, "Uninstall on a host", "/root");
    host.says("! command -v logd && ! test -e /var/lib/queued/ && ! test -e /etc/nodecrew");
}
