//! The archive of one namespace and hour. New members are appended. Members that are not committed yet can be
//! removed again.

use crate::error::ArchiveError;
use crate::pods::cursor::OpenArchive;
use crate::pods::hour::ArchiveName;
use crate::pods::veil;
use crate::safe_dir::{Kind, SafeDir, status_at, status_of};
use kit::disk::sync::still_takes_changes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The state of an archive between two commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArchiveState {
    /// The archive is new, and has a draft's name.
    Draft,
    /// The archive is committed. At the last commit it had this size, including the end mark.
    Committed { bytes: u64 },
}

#[derive(Debug)]
pub struct HourArchive {
    pub name: ArchiveName,
    file: File,
    /// The path, for messages.
    path: String,
    state: ArchiveState,
    /// The number of bytes written.
    written: u64,
    /// True if the checkpoint covers all written bytes, but readers do not see them yet.
    is_accepted: bool,
    /// The position of the previous end mark, if there is one. After a restart it must be hidden, because a
    /// crash may have come before that.
    hidden_end: Option<u64>,
}

/// The directory of a namespace's archives.
#[derive(Debug)]
pub struct NamespaceDir {
    at: SafeDir,
}

impl NamespaceDir {
    pub fn new(at: SafeDir) -> NamespaceDir {
        NamespaceDir { at }
    }

    fn path_of(&self, name: &str) -> String {
        self.at.path().join(name).display().to_string()
    }

    fn open(&self, name: &str, flags: OFlag, mode: u32) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .mode(Mode::from_bits_truncate(mode))
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        Ok(openat2(self.at.fd(), name, how)?.into())
    }

    pub fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        match unlinkat(self.at.fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(ArchiveError::doing(format!("remove {}", self.path_of(name)))(errno.into())),
        }
    }

    pub fn sync(&self) -> Result<(), ArchiveError> {
        fsync(self.at.fd())
            .map_err(io::Error::from)
            .map_err(ArchiveError::on("sync the directory", self.at.path()))
    }
}

/// True if a name cannot be opened for writing, because it is a link, a directory or a socket.
pub fn is_no_file(error: &io::Error) -> bool {
    use nix::libc::{EISDIR, ELOOP, ENOTDIR, ENXIO};
    matches!(error.raw_os_error(), Some(ELOOP | EISDIR | ENOTDIR | ENXIO))
}

pub fn draft_name(name: ArchiveName) -> String {
    format!(".{name}.draft")
}

pub fn is_draft(name: &str) -> bool {
    let archive = undrafted(name);
    archive != name && archive.parse::<ArchiveName>().is_ok()
}

/// Returns the final name of a draft, and any other name unchanged.
pub fn undrafted(name: &str) -> &str {
    name.strip_prefix('.').and_then(|name| name.strip_suffix(".draft")).unwrap_or(name)
}

impl HourArchive {
    /// Creates an archive as a draft. The first commit gives it its name.
    pub fn create(dir: &NamespaceDir, name: ArchiveName, mode: u32) -> Result<HourArchive, ArchiveError> {
        let draft = draft_name(name);
        let path = dir.path_of(&name.to_string());
        dir.remove(&draft)?;
        let file = dir
            .open(&draft, OFlag::O_CREAT | OFlag::O_EXCL, mode)
            .map_err(ArchiveError::doing(format!("create {path}")))?;
        // `--mode` must hold whatever the umask is.
        fchmod(&file, Mode::from_bits_truncate(mode))
            .map_err(io::Error::from)
            .map_err(ArchiveError::doing(format!("set the mode of {path}")))?;
        let mut archive = HourArchive {
            name,
            file,
            path,
            state: ArchiveState::Draft,
            written: 0,
            is_accepted: false,
            hidden_end: None,
        };
        archive.append(&veil::start(name.codec()))?;
        Ok(archive)
    }

    /// Opens an archive again, and cuts it back to its size at a commit. `None` if the archive is gone or was
    /// changed by another program.
    pub fn reopen(
        dir: &NamespaceDir,
        name: ArchiveName,
        at_commit: &OpenArchive,
    ) -> Result<Option<HourArchive>, ArchiveError> {
        let (path, draft) = (dir.path_of(&name.to_string()), draft_name(name));
        let opened = match dir.open(&name.to_string(), OFlag::empty(), 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A crash may have come between the checkpoint and the rename.
                match renameat(dir.at.fd(), draft.as_str(), dir.at.fd(), name.to_string().as_str()) {
                    Ok(()) => dir.open(&name.to_string(), OFlag::empty(), 0),
                    Err(_) => return Ok(None),
                }
            }
            opened => opened,
        };
        let cannot = |error| ArchiveError::doing(format!("open {path} again"))(error);
        let file = match opened {
            // Another program has created a link, a directory or a socket with this name.
            Err(error) if is_no_file(&error) => return Ok(None),
            opened => opened.map_err(cannot)?,
        };
        let look = status_of(&file).map_err(cannot)?;
        let (bytes, end_bytes) = (at_commit.bytes, veil::end_bytes(name.codec()));
        if look.kind != Kind::Regular || look.stamp.size < bytes || bytes < end_bytes {
            return Ok(None);
        }
        let is_end_at = |at| {
            let mut end = veil::end(name.codec()).to_vec();
            file.read_exact_at(&mut end, at).is_ok() && veil::is_end(name.codec(), &end)
        };
        if !is_end_at(bytes - end_bytes) || at_commit.hidden_end.is_some_and(|at| !is_end_at(at)) {
            return Ok(None);
        }
        let archive = HourArchive {
            name,
            file,
            path,
            state: ArchiveState::Committed { bytes },
            written: bytes,
            is_accepted: false,
            hidden_end: at_commit.hidden_end,
        };
        archive.take_back(bytes)?;
        if let Some(end) = archive.hidden_end {
            archive.veil(end, true)?;
        }
        // A later commit that did not survive may have hidden the end mark.
        archive.veil(bytes - end_bytes, false)?;
        Ok(Some(archive))
    }

    /// Returns the size at the last commit.
    pub fn committed(&self) -> u64 {
        match self.state {
            _ if self.is_accepted => self.written,
            ArchiveState::Draft => 0,
            ArchiveState::Committed { bytes } => bytes,
        }
    }

    fn end_bytes(&self) -> u64 {
        veil::end_bytes(self.name.codec())
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn append(&mut self, member: &[u8]) -> Result<(), ArchiveError> {
        self.file
            .write_all_at(member, self.written)
            .map_err(ArchiveError::doing(format!("write {}", self.path)))?;
        self.written += member.len() as u64;
        Ok(())
    }

    /// True if the name still leads to this file, which was neither removed nor replaced.
    pub fn has_its_name(&self, dir: &NamespaceDir) -> Result<bool, ArchiveError> {
        let name = match self.state {
            ArchiveState::Draft => draft_name(self.name),
            ArchiveState::Committed { .. } => self.name.to_string(),
        };
        let look = || -> io::Result<bool> {
            let own = status_of(&self.file)?.stamp;
            match status_at(dir.at.fd(), OsStr::new(&name)) {
                Ok(found) => Ok((found.stamp.dev, found.stamp.ino) == (own.dev, own.ino)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        };
        look().map_err(ArchiveError::doing(format!("look at {}", self.path)))
    }

    /// Appends an end mark and syncs the archive.
    pub fn seal(&mut self, dir: &NamespaceDir) -> Result<(), ArchiveError> {
        self.append(veil::end(self.name.codec()))?;
        self.file
            .sync_data()
            .and_then(|()| still_takes_changes(&self.file))
            .map_err(ArchiveError::doing(format!("sync {}", self.path)))?;
        match self.state {
            ArchiveState::Draft => dir.sync(),
            ArchiveState::Committed { .. } => Ok(()),
        }
    }

    /// Returns the record for the checkpoint. The archive must be sealed or unchanged.
    pub fn record(&self, namespace: &str) -> OpenArchive {
        OpenArchive {
            namespace: namespace.to_owned(),
            name: self.name.to_string(),
            bytes: self.written,
            hidden_end: match self.state {
                // The present end mark will be hidden as soon as the checkpoint is on the disk.
                ArchiveState::Committed { bytes } if self.written > bytes => Some(bytes - self.end_bytes()),
                _ => self.hidden_end,
            },
        }
    }

    /// Records that the checkpoint is on the disk.
    pub fn accept(&mut self) {
        self.is_accepted = self.has_news();
    }

    /// True if bytes were written that readers do not see yet.
    pub fn has_news(&self) -> bool {
        match self.state {
            ArchiveState::Draft => true,
            ArchiveState::Committed { bytes } => self.written > bytes,
        }
    }

    /// True if bytes were written that no checkpoint covers.
    pub fn has_uncommitted(&self) -> bool {
        self.has_news() && !self.is_accepted
    }

    /// Shows readers the bytes that the checkpoint covers. May be retried after an error.
    pub fn show(&mut self, dir: &NamespaceDir) -> Result<(), ArchiveError> {
        if !self.is_accepted {
            return Ok(());
        }
        match self.state {
            ArchiveState::Draft => {
                let (draft, name) = (draft_name(self.name), self.name.to_string());
                renameat(dir.at.fd(), draft.as_str(), dir.at.fd(), name.as_str())
                    .map_err(io::Error::from)
                    .map_err(ArchiveError::doing(format!("rename {draft} to {}", self.path)))?;
            }
            ArchiveState::Committed { bytes } => {
                let end = bytes - self.end_bytes();
                self.veil(end, true)?;
                self.hidden_end = Some(end);
            }
        }
        self.state = ArchiveState::Committed { bytes: self.written };
        self.is_accepted = false;
        Ok(())
    }

    /// Removes everything written since the last commit.
    pub fn roll_back(&mut self) -> Result<(), ArchiveError> {
        let bytes = self.committed();
        self.take_back(bytes)?;
        self.written = bytes;
        Ok(())
    }

    /// True if the checkpoint covers bytes that readers do not see yet. Until they do, nothing may be
    /// appended.
    pub fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// True if no checkpoint names this archive.
    pub fn is_draft(&self) -> bool {
        self.state == ArchiveState::Draft && !self.is_accepted
    }

    /// Syncs the last end mark. After that, the checkpoint need not name this archive.
    pub fn close(&self, dir: &NamespaceDir) -> Result<(), ArchiveError> {
        self.file.sync_data().map_err(ArchiveError::doing(format!("sync {}", self.path)))?;
        dir.sync()
    }

    fn take_back(&self, bytes: u64) -> Result<(), ArchiveError> {
        self.file.set_len(bytes).map_err(ArchiveError::doing(format!("shorten {}", self.path)))
    }

    fn veil(&self, end: u64, is_hidden: bool) -> Result<(), ArchiveError> {
        let (at, byte) = veil::veil(self.name.codec(), end, is_hidden);
        self.file.write_all_at(&byte, at).map_err(ArchiveError::doing(format!("write {}", self.path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::codec::{Codec, Packer};
    use crate::archive::header;
    use crate::archive::header::Meta;
    use proptest::prelude::*;
    use std::path::Path;
    use tar::Archive;

    struct Fixture {
        directory: tempfile::TempDir,
        dir: NamespaceDir,
        packer: Packer,
    }

    fn name() -> ArchiveName {
        "2026-11-28T14.tar.gz".parse().unwrap()
    }

    impl Fixture {
        fn new() -> Fixture {
            let directory = tempfile::tempdir().unwrap();
            let dir = NamespaceDir::new(SafeDir::open(&directory.path().canonicalize().unwrap()).unwrap());
            Fixture { directory, dir, packer: Codec::Gzip.packer(6).unwrap() }
        }

        fn path(&self) -> std::path::PathBuf {
            self.directory.path().join(name().to_string())
        }

        fn write(&mut self, archive: &mut HourArchive, entry: &str, content: &[u8]) {
            let mut tar = header::encode(entry.as_bytes(), &Meta::default(), content.len() as u64);
            tar.extend(content);
            tar.resize(tar.len().next_multiple_of(512), 0);
            archive.append(&veil::member(Codec::Gzip, &mut self.packer, &tar, None).unwrap()).unwrap();
        }

        fn commit(&self, archive: &mut HourArchive) {
            archive.accept();
            archive.show(&self.dir).unwrap();
        }

        fn reopen(&self, record: &OpenArchive) -> Option<HourArchive> {
            HourArchive::reopen(&self.dir, name(), record).unwrap()
        }
    }

    fn entries(path: &Path) -> Vec<String> {
        let decoder = flate2::read::MultiGzDecoder::new(File::open(path).unwrap());
        let mut archive = Archive::new(decoder);
        archive
            .entries()
            .unwrap()
            .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
            .collect()
    }

    #[test]
    fn commits_show_what_was_written_and_not_before() {
        let mut room = Fixture::new();
        let mut archive = HourArchive::create(&room.dir, name(), 0o600).unwrap();
        room.write(&mut archive, "a", b"first");
        archive.seal(&room.dir).unwrap();
        assert!(!room.path().exists());
        room.commit(&mut archive);
        assert_eq!(entries(&room.path()), ["a"]);
        room.write(&mut archive, "b", b"second");
        archive.seal(&room.dir).unwrap();
        assert_eq!(entries(&room.path()), ["a"]);
        room.commit(&mut archive);
        assert_eq!(entries(&room.path()), ["a", "b"]);
    }

    #[test]
    fn draft_is_adopted_if_the_checkpoint_names_it() {
        let mut room = Fixture::new();
        let mut archive = HourArchive::create(&room.dir, name(), 0o600).unwrap();
        room.write(&mut archive, "a", b"first");
        archive.seal(&room.dir).unwrap();
        let record = archive.record("shop");
        drop(archive);
        room.reopen(&record).unwrap();
        assert_eq!(entries(&room.path()), ["a"]);
    }

    #[test]
    fn removed_or_replaced_archive_has_lost_its_name() {
        let room = Fixture::new();
        let mut archive = HourArchive::create(&room.dir, name(), 0o600).unwrap();
        assert!(archive.has_its_name(&room.dir).unwrap());
        archive.seal(&room.dir).unwrap();
        room.commit(&mut archive);
        assert!(archive.has_its_name(&room.dir).unwrap());
        std::fs::remove_file(room.path()).unwrap();
        assert!(!archive.has_its_name(&room.dir).unwrap());
        std::fs::write(room.path(), "another").unwrap();
        assert!(!archive.has_its_name(&room.dir).unwrap());
    }

    #[test]
    fn replaced_archive_is_not_continued() {
        let room = Fixture::new();
        std::fs::write(room.path(), vec![7; 5000]).unwrap();
        let record = OpenArchive {
            namespace: "shop".to_owned(),
            name: name().to_string(),
            bytes: 4000,
            hidden_end: None,
        };
        assert!(room.reopen(&record).is_none());
        assert!(room.reopen(&OpenArchive { bytes: 6000, ..record }).is_none());
        assert_eq!(std::fs::read(room.path()).unwrap(), vec![7; 5000]);
    }

    proptest! {
        /// A crash may follow any step of the next commit, with any number of its bytes written.
        #[test]
        fn crash_leaves_one_commit_or_the_next(commits in 1u32..5, entries_each in 1u32..4, checkpointed: bool, shown: bool, torn in any::<prop::sample::Index>()) {
            let mut room = Fixture::new();
            let mut archive = HourArchive::create(&room.dir, name(), 0o600).unwrap();
            let mut written = Vec::new();
            let step = |room: &mut Fixture, archive: &mut HourArchive, written: &mut Vec<String>| {
                for _ in 0..entries_each {
                    written.push(format!("entry-{}", written.len()));
                    room.write(archive, &written[written.len() - 1], &[b'x'; 700]);
                }
                archive.seal(&room.dir).unwrap();
            };
            for _ in 0..commits {
                step(&mut room, &mut archive, &mut written);
                room.commit(&mut archive);
            }
            let (before, record) = (written.clone(), archive.record("shop"));
            step(&mut room, &mut archive, &mut written);
            let (expected, record) = if checkpointed { (&written, archive.record("shop")) } else { (&before, record) };
            if checkpointed && shown {
                room.commit(&mut archive);
            }
            if !checkpointed {
                let news = archive.written() - archive.committed();
                let kept = torn.index(usize::try_from(news).unwrap() + 1) as u64;
                archive.file.set_len(archive.committed() + kept).unwrap();
            }
            drop(archive);
            let mut archive = room.reopen(&record).unwrap();
            prop_assert_eq!(&entries(&room.path()), expected);
            // The archive can be continued.
            let mut expected = expected.clone();
            expected.push("last".to_owned());
            room.write(&mut archive, "last", b"last");
            archive.seal(&room.dir).unwrap();
            room.commit(&mut archive);
            prop_assert_eq!(&entries(&room.path()), &expected);
        }
    }
}
