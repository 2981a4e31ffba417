//! Finds the archive that a cycle starts from. Changes nothing on the disk.

use crate::archive::codec::Codec;
use crate::archive_dir::ArchiveDir;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::day::archive_name;
use crate::error::ArchiveError;
use jiff::civil::Date;
use std::fs::File;

/// The archive that a cycle starts from.
#[derive(Debug)]
pub enum Base {
    /// No archive can be used: all logs are compressed.
    None,
    /// Our newest archive, with an index that fits. If it is of an earlier day, only its blocks are used.
    Ours(File),
    /// An archive of this day that has to be taken over first, so that nothing in it is lost.
    Foreign(ForeignArchive),
}

/// An archive of this day without an index that fits, or of the other kind.
#[derive(Debug)]
pub struct ForeignArchive {
    pub name: String,
    pub file: File,
    /// Our own archive, if there is one as well.
    pub ours: Option<File>,
}

impl Base {
    /// Finds the base. Sets `current` to `None` if its archive is gone or was replaced.
    pub fn find(
        dir: &ArchiveDir,
        current: &mut Option<IndexedArchive>,
        day: Date,
        codec: Codec,
    ) -> Result<Base, ArchiveError> {
        let ours = match current {
            Some(archive) => archive.open(dir)?,
            None => None,
        };
        if ours.is_none()
            && let Some(lost) = current.take()
        {
            let archive = dir.path_of(&lost.archive_name());
            tracing::warn!(
                event = "archive_altered",
                archive,
                "the archive was removed or changed by another process"
            );
        }
        let own = ours.is_none().then(|| archive_name(day, codec));
        for name in own.into_iter().chain([archive_name(day, codec.other())]) {
            if let Some((file, _)) = dir.open(&name)? {
                return Ok(Base::Foreign(ForeignArchive { name, file, ours }));
            }
        }
        Ok(ours.map_or(Base::None, Base::Ours))
    }
}
