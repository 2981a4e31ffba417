//! `logcd cat`: prints one file of an archive, directly from its blocks if there is an index.

use crate::archive::member;
use crate::archive::reader::ArchiveReader;
use kit::exit::{Exit, Fatal};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn cat(archive: &Path, name: &OsStr) -> Result<(), Fatal> {
    let reader = ArchiveReader::open(archive)?;
    let failed = reader.failed();
    let wanted = name.as_bytes();
    let mut out = io::stdout().lock();
    if let Some(index) = &reader.index {
        let entry =
            index.entries.iter().find(|entry| is_meant(wanted, &member::path(&index.prefix, &entry.name)));
        let entry = entry.ok_or_else(|| not_there(&reader, name))?;
        reader.copy_entry(entry, &mut out).map_err(&failed)?;
        return out.flush().map_err(failed);
    }
    for entry in reader.stream()?.entries().map_err(&failed)? {
        let mut entry = entry.map_err(&failed)?;
        if is_meant(wanted, &entry.path_bytes()) {
            io::copy(&mut entry, &mut out).map_err(&failed)?;
            return out.flush().map_err(failed);
        }
    }
    Err(not_there(&reader, name))
}

/// True if `wanted` is the whole path, or the end of it after a slash.
fn is_meant(wanted: &[u8], member: &[u8]) -> bool {
    member.strip_suffix(wanted).is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
}

fn not_there(reader: &ArchiveReader, name: &OsStr) -> Fatal {
    let (archive, name) = (reader.path.display(), name.as_bytes().escape_ascii());
    Fatal::new(
        Exit::Failure,
        format!("{archive} holds no {name}; `logcd list {archive}` shows what it holds"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_found_by_the_end_of_its_path() {
        for (wanted, expected) in [
            ("var/log/x.log", true),
            ("x.log", true),
            ("log/x.log", true),
            ("g/x.log", false),
            ("log", false),
        ] {
            assert_eq!(is_meant(wanted.as_bytes(), b"var/log/x.log"), expected, "{wanted}");
        }
    }
}
