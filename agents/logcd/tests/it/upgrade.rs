//! Archives and indexes of earlier and later versions. tests/fixtures/version-1 was written by the first
//! version: `logcd --once --utc --prefix=p`, with and without `--zstd`, on b.log and on a.log
//! (`seq -f "line %g of a" 200`), and again after b.log was deleted.

use crate::support::{Setup, at, for_both_kinds, names, run};
use logcd::archive::codec::Codec;
use logcd::archive::index::{Index, IndexError};
use logcd::cycle::archiver::CycleMode;
use std::path::PathBuf;

const SUPERSEDED: &str = "b.log.20261122T000114";

fn fixture(codec: Codec, before: &str, after: &str) -> PathBuf {
    let name = format!("{before}all-logs-2026-11-22{}{after}", codec.suffix());
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1").join(name)
}

fn lines() -> String {
    (1..=200).map(|number| format!("line {number} of a\n")).collect()
}

/// Makes a directory with an archive of the first version and the given index.
fn taken_over(codec: Codec, index: &[u8]) -> Setup {
    let setup = Setup::of(codec, &[]);
    let archive = fixture(codec, "", "");
    std::fs::copy(&archive, setup.out().join(archive.file_name().unwrap())).unwrap();
    std::fs::write(crate::support::index_of(&setup.archive()), index).unwrap();
    setup.write("a.log", lines() + "and one more\n");
    setup
}

fn goes_on(setup: &Setup) {
    setup.archiver().cycle(at("2026-11-22T12:00:00Z"), CycleMode::Now).unwrap();
    let members = setup.members();
    assert_eq!(names(&members), ["a.log", SUPERSEDED]);
    assert_eq!(members[&b"a.log"[..]], setup.logs()[&b"a.log"[..]]);
    assert_eq!(members[SUPERSEDED.as_bytes()], b"only in the archive\n");
    assert!(setup.leftovers().is_empty(), "{:?}", setup.leftovers());
}

fn archive_of_version_1_is_continued(codec: Codec) {
    let index = std::fs::read(fixture(codec, ".", ".index")).unwrap();
    let decoded = Index::decode(&index).unwrap();
    let entries: Vec<&[u8]> = decoded.entries.iter().map(|entry| &entry.name[..]).collect();
    assert_eq!((decoded.codec, &entries[..]), (codec, &[b"a.log", SUPERSEDED.as_bytes()][..]));
    let mut again = Vec::new();
    decoded.encode(&mut again).unwrap();
    assert!(again == index, "a logcd of that time would not read what this one writes");
    assert_eq!(decoded.identity.size, std::fs::metadata(fixture(codec, "", "")).unwrap().len());
    let setup = taken_over(codec, &index);
    let read = |name: &str| run(setup.reader().arg("cat").arg(setup.archive()).arg(name));
    assert_eq!(read("p/a.log"), lines().as_bytes());
    assert_eq!(read(&format!("p/{SUPERSEDED}")), b"only in the archive\n");
    goes_on(&setup);
}

/// After a downgrade to this version, the later version's index is unusable, and the archive alone is enough.
fn index_of_a_later_version_is_rebuilt(codec: Codec) {
    let mut index = std::fs::read(fixture(codec, ".", ".index")).unwrap();
    index[7] += 1;
    let content = index.len() - 4;
    let sum = crc32fast::hash(&index[..content]).to_le_bytes();
    index[content..].copy_from_slice(&sum);
    assert_eq!(Index::decode(&index), Err(IndexError::Foreign));
    let setup = taken_over(codec, &index);
    goes_on(&setup);
    let made = std::fs::read(crate::support::index_of(&setup.archive())).unwrap();
    assert_eq!(made[..8], codec.index_magic());
}

for_both_kinds!(archive_of_version_1_is_continued, index_of_a_later_version_is_rebuilt,);
