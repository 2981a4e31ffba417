//! `logcd verify`: reads every byte of an archive and reports damage.

use crate::archive::reader::ArchiveReader;
use crate::archive::verify;
use crate::pods::veil;
use crate::progress;
use kit::exit::{Exit, Fatal};
use std::io::Write;
use std::path::Path;

pub fn verify(path: &Path) -> Result<(), Fatal> {
    let reader = ArchiveReader::open(path)?;
    let has_members = veil::is_start_of(&reader.file);
    let verified = match has_members {
        true => verify::verify_members(progress::reading(&reader.file)),
        false => verify::verify(progress::reading(&reader.file), reader.index.as_ref()),
    };
    let totals = verified.map_err(|fault| {
        Fatal::new(Exit::Failure, format!("{} is damaged", path.display())).because(fault)
    })?;
    let index = match (&reader.index, has_members) {
        (_, true) => "",
        (Some(_), _) => ", and its index matches",
        (None, _) => "; no matching index next to it",
    };
    let verify::Totals { files, bytes } = totals;
    writeln!(std::io::stdout().lock(), "{}: sound, {files} files, {bytes} bytes{index}", path.display())
        .map_err(reader.failed())
}
