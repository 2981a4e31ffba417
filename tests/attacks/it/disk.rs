//! A file system of its own, in a file, whose power can be lost.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The smallest that mkfs.xfs makes.
const IMAGE_BYTES: u64 = 300 << 20;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Ext4,
    Xfs,
}

/// Unmounted when it is dropped.
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// Made and mounted. In memory: what is lost is decided by the file system, not by the disk below it.
    pub fn new(kind: Kind) -> Disk {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let disk = Disk { directory };
        File::create(disk.image()).unwrap().set_len(IMAGE_BYTES).unwrap();
        let (mkfs, more): (_, &[_]) = match kind {
            Kind::Ext4 => ("mkfs.ext4", &["-e", "remount-ro"]),
            Kind::Xfs => ("mkfs.xfs", &[]),
        };
        run(Command::new(mkfs).arg("-q").args(more).arg(disk.image()));
        std::fs::create_dir(disk.root()).unwrap();
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn mount(&self) {
        run(Command::new("mount").arg("-o").arg("loop").arg(self.image()).arg(self.root()));
    }

    /// From now on nothing reaches the disk, and what was not synced never will have.
    pub fn lose_power(&self) {
        let root = File::open(self.root()).unwrap();
        let mut how = WITHOUT_FLUSHING;
        #[allow(unsafe_code, reason = "nix has no such call, only a macro to make it")]
        // SAFETY: the descriptor is open, and the pointer that of one u32, which is all that the kernel looks at.
        unsafe { go_down(root.as_raw_fd(), &mut how) }.unwrap();
    }

    /// ext4 finds an error in itself, as a bad disk makes it do: from now on it can only be read, until it is mounted anew.
    pub fn becomes_read_only(&self) {
        let device = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.root()).output().unwrap();
        let device = PathBuf::from(String::from_utf8(device.stdout).unwrap().trim());
        let errors = Path::new("/sys/fs/ext4").join(device.file_name().unwrap()).join("trigger_fs_error");
        std::fs::write(errors, "test").unwrap();
        let refused = File::create(self.path("probe")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }

    pub fn unmount(&self) {
        run(Command::new("umount").arg(self.root()));
    }

    /// After a loss of power: as after the machine's next start.
    pub fn power_on(&self) {
        self.unmount();
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.root()).output();
    }
}

const WITHOUT_FLUSHING: u32 = 2;
nix::ioctl_read!(
    /// FS_IOC_SHUTDOWN, which ext4 and XFS have for just this kind of test. It reads, but is numbered like one that writes.
    go_down,
    b'X',
    125,
    u32
);

/// Must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
