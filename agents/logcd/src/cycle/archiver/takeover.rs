//! Takes over an archive that another program made, that lost its index, or that is of the other kind.

use super::Archiver;
use crate::cycle::adopt::adopt;
use crate::cycle::base::ForeignArchive;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::day::index_name;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::safe_dir::status_of;
use jiff::civil::Date;

impl Archiver {
    /// Publishes an archive of ours with all content of the foreign one, which is then removed or replaced.
    /// If we already have an archive of this day, its content comes first.
    pub(super) fn take_over(
        &mut self,
        roots: &Roots,
        foreign: &ForeignArchive,
        day: Date,
    ) -> Result<(), ArchiveError> {
        let ForeignArchive { name, file, ours: base } = foreign;
        let (archive, own_name) = (self.dir.path_of(name), self.archive_name(day));
        tracing::info!(
            event = "archive_taken_over",
            archive,
            "no index in this format: reading the whole archive instead"
        );
        let ours = self.current.as_ref().filter(|current| current.day == day);
        let expected = ours.map_or(0, |ours| ours.index.identity.size);
        let size = status_of(file).map_err(ArchiveError::doing(format!("look at {archive}")))?.stamp.size;
        let mut assembly = self.assembly(roots, base.as_ref(), &own_name, expected.saturating_add(size))?;
        self.start_threads(&mut assembly, u64::MAX)?;
        for entry in ours.map_or(&[][..], IndexedArchive::entries) {
            assembly.carry(entry, &entry.name, entry.origin, entry.meta)?;
        }
        let damage = adopt(file, &mut assembly)?;
        let (_, taken_over) = self.finish(assembly, day, |dir| match &damage {
            Some(why) => {
                let kept_as = format!("{name}.damaged");
                tracing::error!(
                    event = "archive_damaged",
                    archive,
                    why,
                    kept_as,
                    "the archive is damaged: kept what could be read"
                );
                dir.keep_as(name, &kept_as)
            }
            None => Ok(()),
        })?;
        self.current = Some(taken_over);
        if *name != own_name {
            // Removed only now that its content is published under the new name.
            self.dir.remove(name)?;
            self.dir.remove(&index_name(name))?;
        }
        Ok(())
    }
}
