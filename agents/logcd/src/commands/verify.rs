//! `logcd verify`: reads every byte of an archive and reports damage.

use crate::archive::reader::Reader;
use crate::archive::verify;
use crate::progress;
use kit::exit::{Exit, Fatal};
use std::io::Write;
use std::path::Path;

pub fn verify(path: &Path) -> Result<(), Fatal> {
    let reader = Reader::open(path)?;
    let totals = verify::verify(progress::reading(&reader.file), reader.index.as_ref()).map_err(|fault| {
        Fatal::new(Exit::Failure, format!("{} is damaged", path.display())).because(fault)
    })?;
    let index =
        if reader.index.is_some() { ", and its index fits" } else { "; no index that fits beside it" };
    let verify::Totals { files, bytes } = totals;
    writeln!(std::io::stdout().lock(), "{}: sound, {files} files, {bytes} bytes{index}", path.display())
        .map_err(reader.failed())
}
