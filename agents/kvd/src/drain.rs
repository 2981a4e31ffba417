//! Draining: the marker file, the commands that create and remove it, and the check that each request makes.

use crate::settings::KeyPlace;
use kit::exit::{Exit, Fatal};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Tells each request if the server is going down.
#[derive(Clone, Debug)]
pub struct Drain {
    marker: Option<PathBuf>,
    stopping: CancellationToken,
}

impl Drain {
    pub fn new(place: &KeyPlace, stopping: CancellationToken) -> Drain {
        Drain { marker: place.marker(), stopping }
    }

    /// Returns the signal that the server stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// True if the server is going down. Looks for the marker at each call, so that `kvd drain` takes effect
    /// before it returns. The directory entry is in the kernel's cache, so a call takes about a microsecond.
    pub fn is_going_down(&self) -> bool {
        self.stopping.is_cancelled() || self.marker_path().is_some()
    }

    /// Returns the marker's path if the file exists.
    pub fn marker_path(&self) -> Option<&PathBuf> {
        self.marker.as_ref().filter(|marker| marker.exists())
    }

    /// Returns the files to watch, so that `/ready` follows the marker.
    pub fn files(&self) -> Vec<PathBuf> {
        self.marker.iter().cloned().collect()
    }
}

fn marker(place: &KeyPlace) -> Result<PathBuf, Fatal> {
    place.marker().ok_or_else(|| {
        let message = "keys in memory have no directory for a marker: give --marker FILE, to the server too";
        Fatal::new(Exit::Usage, message)
    })
}

/// Creates the marker.
pub fn drain(place: &KeyPlace) -> Result<(), Fatal> {
    let path = marker(place)?;
    let made = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    made.map(drop)
        .map_err(|e| Fatal::new(Exit::Failure, format!("cannot make {}", path.display())).because(e))
}

/// Removes the marker. Succeeds if it does not exist.
pub fn resume(place: &KeyPlace) -> Result<(), Fatal> {
    let path = marker(place)?;
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Fatal::new(Exit::Failure, format!("cannot remove {}", path.display())).because(e))
        }
        _ => Ok(()),
    }
}
