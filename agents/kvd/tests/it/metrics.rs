//! Tests that every metric is documented and changes.

use crate::daemon::Kvd;
use std::collections::BTreeSet;
use trial::metric;

const README: &str = include_str!("../../README.md");

#[test]
fn every_metric_is_documented_and_moves() {
    let kvd = Kvd::start(&[]);
    kvd.put("/v1/keys/abc", "12345").expect(201);
    kvd.put("/v1/keys/gone", "x").expect(201);
    kvd.delete("/v1/keys/gone").expect(200);
    // The last put, so that its expiry is a separate commit.
    kvd.put("/v1/keys/short?ttl=1ms", "x").expect(201);
    kvd.get("/load/abc");
    kvd.get("/load/abc");
    let page = || kvd.get("/metrics").text().to_owned();
    let sample = |name: &str| metric::<u64>(&page(), name);
    kvd.wait_until("the key to expire", || sample("kvd_mutations_total{kind=\"expire\"}") == 1);
    assert_eq!(sample("kvd_mutations_total{kind=\"put\"}"), 3);
    assert_eq!(sample("kvd_mutations_total{kind=\"delete\"}"), 1);
    assert_eq!(sample("kvd_requests_total{door=\"v1\",status=\"201\"}"), 3);
    assert_eq!(sample("kvd_requests_total{door=\"course\",status=\"200\"}"), 2);
    assert_eq!(sample("kvd_commits_total"), 5);
    assert_eq!(sample("kvd_commit_seconds_count"), 5);
    let gauge = |name: &str| metric::<f64>(&page(), name);
    let stats = kvd.get("/v1/stats").json();
    assert_eq!(gauge("kvd_keys"), 1.0);
    assert_eq!(gauge("kvd_key_bytes"), 8.0);
    assert_eq!(Some(gauge("kvd_revision")), stats["revision"].as_f64());
    // Tests of watchers and of full disks change these.
    assert_eq!(
        (sample("kvd_watchers"), sample("kvd_refuses_writes"), sample("kvd_commit_errors_total")),
        (0, 0, 0)
    );

    let page = page();
    let served: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE kvd_")?.split(' ').next()).collect();
    let table = README.split("## Metrics").nth(1).unwrap();
    let documented: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `kvd_")?.split(['`', '{']).next())
        .map(|name| name.trim_end_matches("_total"))
        .collect();
    assert_eq!(served, documented);
}
