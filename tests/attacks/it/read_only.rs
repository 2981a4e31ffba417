//! The file system becomes read-only under load, as ext4 does when it finds an error. The agent promises
//! nothing more and reports the reason. Earlier promises hold when the disk works again.

use crate::disk::{Disk, Kind};
use crate::http::Http;
use crate::lines::{self, Senders};
use crate::logs::{self, Logs};
use crate::power_loss::wait_for_more;
use crate::queue::{self, Queue};
use trial::Process;

/// Waits until the probe reports not ready, and why: pending calls see an I/O error, later ones a read-only
/// disk.
pub fn is_not_ready(agent: &Process, door: &str) {
    let mut http = Http::connect(agent.address(door)).unwrap();
    let known = ["Input/output error", "Read-only file system"];
    agent.wait_until("that it is not ready because of its disk", || {
        let (status, why) = http.call("GET", "/ready", "").unwrap();
        status == 503 && known.iter().any(|error| why.contains(error))
    });
}

#[test]
fn logd_keeps_receipts_on_read_only_disk() {
    let disk = Disk::new(Kind::Ext4);
    let senders = Senders::default();
    let file = disk.path("node_log");
    for round in 0..crate::rounds() {
        let agent = Process::start_ready(&mut lines::command(&file, "always"));
        let address = lines::door(&agent);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| senders.go_on(address));
            }
            wait_for_more(&senders.receipts, fastrand::u64(1..100), &agent);
            disk.becomes_read_only();
            is_not_ready(&agent, "admin");
            let late = scope.spawn(|| senders.send(address));
            let mut http = Http::connect(agent.address("admin")).unwrap();
            let enough = http.metric("logd_write_errors_total") + 2;
            agent.wait_until("more failures", || http.metric("logd_write_errors_total") >= enough);
            agent.kill9();
            assert!(late.join().unwrap().is_err(), "a receipt for what is in no file");
        });
        disk.power_on();
        let agent = Process::start_ready(&mut lines::command(&file, "always"));
        senders.check(&file, round + 1);
        agent.kill9();
    }
}

#[test]
fn queued_keeps_answers_on_read_only_disk() {
    let disk = Disk::new(Kind::Ext4);
    let queue = Queue::new("q");
    let command = || queue::command(&disk.path("data"), "always", "64KiB");
    for _ in 0..crate::rounds() {
        let agent = Process::start_ready(&mut command());
        let address = queue::door(&agent);
        let mut http = Http::connect(address).unwrap();
        queue.check(&mut http);
        queue.make(&mut http).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| queue.produce(address));
            scope.spawn(|| queue.consume(address));
            wait_for_more(&queue.answers, fastrand::u64(1..100), &agent);
            disk.becomes_read_only();
            is_not_ready(&agent, "http");
            let (status, why) = http.call("POST", "/v1/queues/q/items", "\"more\"").unwrap();
            assert_eq!(status, 507, "{why}");
            agent.kill9();
        });
        disk.power_on();
    }
    let agent = Process::start_ready(&mut command());
    queue.check(&mut Http::connect(queue::door(&agent)).unwrap());
    agent.kill9();
}

#[test]
fn logcd_loses_no_log_on_read_only_disk() {
    let disk = Disk::new(Kind::Ext4);
    let mut logs = Logs::below(&disk.root());
    for _ in 0..crate::rounds() {
        let agent = Process::start_ready(&mut logs::command(logs.directory(), logs.out()));
        let enough = logs.gone() + fastrand::usize(1..5);
        logs.until_gone(enough, &agent, |logs| logs.write(fastrand::usize(1..20_000)));
        logs.write(1000);
        disk.becomes_read_only();
        is_not_ready(&agent, "admin");
        agent.kill9();
        disk.power_on();
        logs.check();
    }
    logs.all_go();
}
