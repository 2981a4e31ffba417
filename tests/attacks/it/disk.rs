//! A file system in an image file, whose power the test can cut.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The smallest size that mkfs.xfs accepts.
const IMAGE_BYTES: u64 = 300 << 20;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Ext4,
    Xfs,
}

/// A mounted file system, unmounted on drop.
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// Makes and mounts the file system in memory: it alone decides what a power loss takes, not the disk
    /// below it.
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

    /// Returns the mount point.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn mount(&self) {
        run(Command::new("mount").arg("-o").arg("loop").arg(self.image()).arg(self.root()));
    }

    /// Cuts the power: nothing reaches the disk any more, and whatever was not synced is lost.
    pub fn lose_power(&self) {
        let root = File::open(self.root()).unwrap();
        let mut how = WITHOUT_FLUSHING;
        #[allow(unsafe_code, reason = "nix has no such call, only a macro to make it")]
        // SAFETY: the descriptor is open, and the pointer is to one u32, which is all that the kernel reads.
        unsafe { go_down(root.as_raw_fd(), &mut how) }.unwrap();
    }

    /// Makes ext4 find an error in itself, as a bad disk does. It stays read-only until it is mounted again.
    pub fn becomes_read_only(&self) {
        let device = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.root()).output().unwrap();
        let device = PathBuf::from(String::from_utf8(device.stdout).unwrap().trim());
        let errors = Path::new("/sys/fs/ext4").join(device.file_name().unwrap()).join("trigger_fs_error");
        std::fs::write(errors, "test").unwrap();
        let refused = File::create(self.path("probe")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }

    /// Waits while the disk is busy: a child that another test forks has its open files until its `exec`.
    pub fn unmount(&self) {
        let unmounted = || Command::new("umount").arg(self.root()).output().unwrap().status.success();
        trial::wait_until("the disk is unmounted", unmounted);
    }

    /// Mounts the file system again after a power loss, as the machine's next start does.
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
    /// FS_IOC_SHUTDOWN, which ext4 and XFS have for exactly this kind of test. The kernel reads the argument,
    /// although the call's number says that it writes it.
    go_down,
    b'X',
    125,
    u32
);

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
