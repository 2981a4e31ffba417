//! The file of the checkpoint: loads it, replaces it, and sets a damaged one aside.

use crate::error::ArchiveError;
use crate::pods::cursor::Checkpoint;
use crate::safe_dir::SafeDir;
use nix::fcntl::renameat;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub const CHECKPOINT: &str = ".logcd-pods.checkpoint";

/// Replaces the checkpoint. The caller must sync the directory.
pub fn save(at: &SafeDir, mode: u32, checkpoint: &Checkpoint) -> Result<(), ArchiveError> {
    let path = at.path().join(CHECKPOINT);
    let name = format!("{CHECKPOINT}.draft");
    let failed = |error| ArchiveError::on("write", &path)(error);
    let bytes = serde_json::to_vec(checkpoint).map_err(|error| failed(error.into()))?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode).custom_flags(nix::libc::O_NOFOLLOW);
    let write = |mut file: File| {
        file.write_all(&bytes)?;
        file.sync_all()
    };
    options.open(at.path().join(&name)).and_then(write).map_err(failed)?;
    renameat(at.fd(), name.as_str(), at.fd(), CHECKPOINT).map_err(|errno| failed(errno.into()))
}

/// Loads the checkpoint, if there is one. Renames a damaged one. Only the daemon may do this, because it holds
/// the lock.
pub fn load_or_set_aside(out: &Path) -> Result<Option<Checkpoint>, ArchiveError> {
    match load(out) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => set_aside(out, &error),
        loaded => loaded.map_err(ArchiveError::on("read", &out.join(CHECKPOINT))),
    }
}

/// Loads the checkpoint, if there is one. The error for a damaged one is [`io::ErrorKind::InvalidData`].
pub fn load(out: &Path) -> io::Result<Option<Checkpoint>> {
    let bytes = match std::fs::read(out.join(CHECKPOINT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn set_aside(out: &Path, error: &io::Error) -> Result<Option<Checkpoint>, ArchiveError> {
    let path = out.join(CHECKPOINT);
    tracing::error!(event = "checkpoint_damaged", path = %path.display(), %error, "the checkpoint is damaged: logs that are archived already are archived again");
    let kept = out.join(format!("{CHECKPOINT}.damaged"));
    std::fs::rename(&path, kept).map_err(ArchiveError::on("rename", &path))?;
    Ok(None)
}
