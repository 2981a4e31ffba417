//! The source of a value: an argument, a file or stdin.

use axum::body::Bytes;
use kit::exit::{Exit, Fatal};
use std::ffi::OsStr;
use std::io::{IsTerminal, Read, stdin};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const STDIN: &str = "-";

/// Reads the value from the argument, else from the file, else from stdin.
pub(crate) fn read(argument: Option<&OsStr>, file: Option<&Path>) -> Result<Bytes, Fatal> {
    if let Some(argument) = argument {
        return Ok(Bytes::copy_from_slice(argument.as_bytes()));
    }
    let failed = |what: String| move |e| Fatal::new(Exit::Failure, format!("cannot read {what}")).because(e);
    match file.filter(|file| file.as_os_str() != STDIN) {
        Some(file) => Ok(std::fs::read(file).map_err(failed(file.display().to_string()))?.into()),
        None if file.is_none() && stdin().is_terminal() => {
            Err(Fatal::new(Exit::Usage, "no value: give VALUE or --file, or send it to stdin"))
        }
        None => {
            let mut bytes = Vec::new();
            stdin().lock().read_to_end(&mut bytes).map_err(failed("stdin".to_owned()))?;
            Ok(bytes.into())
        }
    }
}
