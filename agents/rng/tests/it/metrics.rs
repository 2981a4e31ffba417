//! Tests that every metric is documented, and really changes.

use crate::daemon::Rng;
use std::collections::BTreeSet;
use trial::metric;

const README: &str = include_str!("../../README.md");

#[test]
fn every_metric_is_documented_and_moves() {
    let rng = Rng::start(&[]);
    for path in ["/32", "/8", "/0", "/x", "/x", "/9999999"] {
        rng.get(path);
    }
    rng.ask("HEAD", "/500");
    let page = rng.get("/metrics");
    let page = page.text();
    let sample = |name: &str| metric::<u64>(page, name);
    assert_eq!(sample("rng_bytes_total"), 40);
    let by_status = |status: u16| sample(&format!("rng_requests_total{{status=\"{status}\"}}"));
    assert_eq!([200, 404, 400].map(by_status), [4, 2, 1]);

    let served: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE rng_")?.split(' ').next()).collect();
    let table = README.split("## Metrics").nth(1).unwrap();
    let documented: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `rng_")?.split("_total").next()).collect();
    assert_eq!(served, documented);
}
