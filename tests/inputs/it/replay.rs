//! Replays the inputs that the fuzzer found worth keeping, for every check.

use flate2::read::GzDecoder;
use std::fs::File;
use std::io::Read;
use std::panic::catch_unwind;
use std::path::Path;
use tar::Archive;

#[test]
fn checks_hold_for_their_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, check) in inputs::ALL {
        let file = File::open(corpus.join(name).with_extension("tar.gz")).unwrap();
        let mut inputs = 0;
        for entry in Archive::new(GzDecoder::new(file)).entries().unwrap() {
            let mut entry = entry.unwrap();
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = entry.path().unwrap().display().to_string();
            assert!(catch_unwind(|| check(&bytes)).is_ok(), "{name}: {path}: {}", bytes.escape_ascii());
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {name} is empty");
    }
}
