//! `logcd extract`: unpacks an archive, for images without a tar.

use crate::archive::reader::ArchiveReader;
use kit::exit::{Exit, Fatal};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Unpacks below `to` and nowhere else, whatever names the archive has.
pub fn extract(archive: &Path, names: &[OsString], to: &Path) -> Result<(), Fatal> {
    let reader = ArchiveReader::open(archive)?;
    let failed = reader.failed();
    std::fs::create_dir_all(to)
        .map_err(|e| Fatal::new(Exit::Failure, format!("cannot create {}", to.display())).because(e))?;
    let mut missing: Vec<&OsStr> = names.iter().map(OsString::as_os_str).collect();
    for entry in reader.stream()?.entries().map_err(&failed)? {
        let mut entry = entry.map_err(&failed)?;
        let name = entry.path_bytes().into_owned();
        if !names.is_empty() && !names.iter().any(|wanted| wanted.as_bytes() == name) {
            continue;
        }
        missing.retain(|wanted| wanted.as_bytes() != name);
        let unpacked = entry.unpack_in(to).map_err(|e| {
            let (name, to) = (name.escape_ascii(), to.display());
            Fatal::new(Exit::Failure, format!("cannot unpack {name} to {to}")).because(e)
        })?;
        if !unpacked {
            let (name, to) = (name.escape_ascii(), to.display());
            return Err(Fatal::new(Exit::Failure, format!("{name} would be outside {to}: not unpacked")));
        }
    }
    match missing.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let (archive, name) = (archive.display(), first.as_bytes().escape_ascii());
            Err(Fatal::new(
                Exit::Failure,
                format!("{archive} holds no {name}; `logcd list {archive}` shows what it holds"),
            ))
        }
    }
}
