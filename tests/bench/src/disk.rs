//! Bytes of files, and bytes that all processes wrote to a disk. The kernel's count for one process does not
//! help: it counts folios of up to 2 MiB, of which the disk may get a single block.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the bytes written so far on the device below this directory, after a flush of everything pending.
/// NaN where the kernel does not count them.
pub fn written_bytes(directory: &Path) -> f64 {
    const SECTOR: f64 = 512.0;
    let sectors_written = || {
        let directory = File::open(directory).ok()?;
        nix::unistd::syncfs(&directory).ok()?;
        let device = directory.metadata().ok()?.dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
        stat.split_whitespace().nth(6)?.parse::<f64>().ok()
    };
    sectors_written().map_or(f64::NAN, |sectors| sectors * SECTOR)
}

/// Returns the size of all files below a directory.
pub fn bytes_below(directory: &Path) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata()? {
            metadata if metadata.is_dir() => bytes_below(&entry.path())?,
            // In KiB, since a file may have more bytes than 32 bits can count.
            metadata => f64::from(u32::try_from(metadata.len().div_ceil(1024))?) * 1024.0,
        };
    }
    Ok(bytes)
}
