//! `logcd list`: lists the files of an archive, from the index if there is one.

use crate::archive::member;
use crate::archive::reader::ArchiveReader;
use jiff::Timestamp;
use kit::exit::Fatal;
use std::io::{BufWriter, Write};
use std::path::Path;

pub fn list(archive: &Path) -> Result<(), Fatal> {
    let reader = ArchiveReader::open(archive)?;
    let failed = reader.failed();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut line = |size: u64, mtime_s: u64, name: &[u8]| {
        let time =
            i64::try_from(mtime_s).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
        writeln!(out, "{size:>14} {time} {}", name.escape_ascii()).map_err(&failed)
    };
    if let Some(index) = &reader.index {
        for entry in &index.entries {
            line(entry.size(), entry.meta.mtime_s, &member::path(&index.prefix, &entry.name))?;
        }
    } else {
        for entry in reader.stream()?.entries().map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            line(entry.size(), entry.header().mtime().unwrap_or(0), &entry.path_bytes())?;
        }
    }
    out.flush().map_err(failed)
}
