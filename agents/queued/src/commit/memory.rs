//! The log for `--data memory`: it keeps nothing, so items live in memory only and end with the process.

use super::{Group, Log, LogEnd, LogFailure};
use crate::engine::item::BodyPlace;
use std::io;

#[derive(Debug)]
pub struct Memory;

impl Log for Memory {
    fn end(&self) -> Option<LogEnd> {
        None
    }

    fn append(&self, _groups: &mut [Group]) -> Result<(), LogFailure> {
        Ok(())
    }

    fn sync(&self) -> Result<(), LogFailure> {
        Ok(())
    }

    fn check(&self) -> Result<(), LogFailure> {
        Ok(())
    }

    fn read(&self, _place: BodyPlace, _len: u32) -> io::Result<Box<[u8]>> {
        Err(io::ErrorKind::NotFound.into())
    }
}
