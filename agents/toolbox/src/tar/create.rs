//! `tar -c`: archives files and directories while other programs still write to them.

use super::arguments::Arguments;
use super::{Failure, complain, of};
use std::ffi::OsString;
use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use tar::{Builder, EntryType, Header};
use uucore::entries;

/// An archive that is being made. `whole` is false once something was skipped.
struct Creation<'a, W: Write> {
    builder: Builder<W>,
    arguments: &'a Arguments,
    own: Option<(u64, u64)>,
    whole: bool,
}

pub fn create<W: Write>(sink: W, arguments: &Arguments) -> Result<bool, Failure> {
    let from = arguments.directory.clone().unwrap_or_default();
    // An archive inside a directory that it archives does not contain itself.
    let own = (arguments.file != Path::new("-"))
        .then(|| fs::metadata(&arguments.file).ok())
        .flatten()
        .map(|metadata| (metadata.dev(), metadata.ino()));
    let mut creation = Creation { builder: Builder::new(sink), arguments, own, whole: true };
    for member in &arguments.members {
        creation.add(&from.join(member), &inside(member))?;
    }
    creation.builder.finish().map_err(of("cannot write the archive"))?;
    Ok(creation.whole)
}

/// Returns the name within the archive, without parts that would leave the directory where it is unpacked.
fn inside(member: &Path) -> PathBuf {
    let mut kept = PathBuf::new();
    for component in member.components() {
        match component {
            Component::ParentDir => kept = PathBuf::new(),
            Component::Normal(_) | Component::CurDir => kept.push(component),
            Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if kept.as_os_str().is_empty() { PathBuf::from(".") } else { kept }
}

impl<W: Write> Creation<'_, W> {
    fn pass_over(&mut self, path: &Path, why: impl std::fmt::Display) {
        complain(&format!("{}: {why}", path.display()));
        self.whole = false;
    }

    fn add(&mut self, path: &Path, name: &Path) -> Result<(), Failure> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.pass_over(path, error);
                return Ok(());
            }
        };
        if self.own == Some((metadata.dev(), metadata.ino())) {
            complain(&format!("{}: file is the archive; not dumped", path.display()));
            return Ok(());
        }
        let kind = metadata.file_type();
        if kind.is_socket() {
            complain(&format!("{}: socket ignored", path.display()));
            return Ok(());
        }
        let name = if kind.is_dir() { name.join("") } else { name.to_owned() };
        if self.arguments.verbose > 0 {
            complain(&name.display().to_string());
        }
        let header = header_of(&metadata);
        if kind.is_file() {
            self.file(path, &name, header)
        } else if kind.is_dir() {
            self.directory(path, &name, header)
        } else {
            self.special(path, &name, header, kind)
        }
    }

    /// Writes exactly as many bytes as the header says, even if the file changes meanwhile.
    fn file(&mut self, path: &Path, name: &Path, mut header: Header) -> Result<(), Failure> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) => {
                self.pass_over(path, error);
                return Ok(());
            }
        };
        // Take the size after the open: a rotation may have put another file under the name.
        let size = file.metadata().map_err(of(path.display()))?.len();
        header.set_size(size);
        let mut content = Exactly { file, left: size, shrunk: false };
        self.builder.append_data(&mut header, name, &mut content).map_err(of(path.display()))?;
        if content.shrunk {
            self.pass_over(path, "file shrank while it was read; padded with zeros");
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, name: &Path, mut header: Header) -> Result<(), Failure> {
        header.set_size(0);
        self.builder.append_data(&mut header, name, io::empty()).map_err(of(path.display()))?;
        let names: io::Result<Vec<OsString>> =
            fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        match names {
            Ok(mut names) => {
                names.sort();
                names.into_iter().try_for_each(|file| self.add(&path.join(&file), &name.join(&file)))
            }
            Err(error) => {
                self.pass_over(path, error);
                Ok(())
            }
        }
    }

    fn special(
        &mut self,
        path: &Path,
        name: &Path,
        mut header: Header,
        kind: FileType,
    ) -> Result<(), Failure> {
        header.set_size(0);
        let failed = of(path.display());
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(of(path.display()))?;
            header.set_entry_type(EntryType::Symlink);
            return self.builder.append_link(&mut header, name, target).map_err(failed);
        }
        self.builder.append_data(&mut header, name, io::empty()).map_err(failed)
    }
}

fn header_of(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    // Names are for people; a user without a name stays a number.
    if let Ok(name) = entries::uid2usr(metadata.uid()) {
        let _ = header.set_username(&name);
    }
    if let Ok(name) = entries::gid2grp(metadata.gid()) {
        let _ = header.set_groupname(&name);
    }
    header
}

/// The first `left` bytes of a file, filled up with zeros where the file is shorter.
struct Exactly {
    file: File,
    left: u64,
    shrunk: bool,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..room];
        let mut read = if self.shrunk { 0 } else { self.file.read(buffer)? };
        if read == 0 && room > 0 {
            self.shrunk = true;
            buffer.fill(0);
            read = room;
        }
        self.left -= u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_archive_never_leads_out_of_it() {
        for (member, name) in [
            ("/var/log", "var/log"),
            ("a/b", "a/b"),
            ("../a", "a"),
            ("a/../../b", "b"),
            ("/", "."),
            (".", "."),
        ] {
            assert_eq!(inside(Path::new(member)), Path::new(name), "{member}");
        }
    }

    #[test]
    fn an_entry_is_as_long_as_its_header_says_when_the_file_grows_and_when_it_shrinks() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        for (size, expected, short) in [(4, &b"0123"[..], false), (12, b"0123456789\0\0", true)] {
            let mut again = file.try_clone().unwrap();
            io::Seek::rewind(&mut again).unwrap();
            let mut content = Exactly { file: again, left: size, shrunk: false };
            let mut read = Vec::new();
            content.read_to_end(&mut read).unwrap();
            assert_eq!((read.as_slice(), content.shrunk), (expected, short));
        }
    }
}
