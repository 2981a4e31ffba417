//! The time of each part: cargo bench -p hot --features clock.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn by_the_clock(criterion: &mut Criterion) {
    for part in hot::PARTS {
        let mut work = (part.prepare)();
        criterion.bench_function(part.name, |bencher| bencher.iter(|| black_box(work())));
    }
}

criterion_group!(parts, by_the_clock);
criterion_main!(parts);
