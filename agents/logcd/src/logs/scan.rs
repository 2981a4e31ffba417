//! One look at the log directories: lists the files to archive, and the skipped ones with the reason.

use crate::archive::file_stamp::FileStamp;
use crate::config::{Limits, Select};
use crate::error::ArchiveError;
use crate::logs::directories::{Root, Roots};
use crate::safe_dir::{FileStatus, Kind, SafeDir, status_at};
use nix::dir::{Dir, Entry, Type};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Maximum depth, because strangers may nest directories without end.
const DEPTH_MAX: usize = 32;

/// The reason why a file whose name matches is not archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    Symlink,
    /// A directory, FIFO, socket or device.
    NotAFile,
    /// The file may have names outside of the directories.
    HardLink,
    /// The file claims to be much larger than it is.
    Sparse,
    /// There are more files than `--max-files`.
    TooMany,
    Unreadable,
    /// The file was rewritten during every attempt to read it.
    Unstable,
}

impl Skip {
    pub const ALL: [Skip; 7] = [
        Skip::Symlink,
        Skip::NotAFile,
        Skip::HardLink,
        Skip::Sparse,
        Skip::TooMany,
        Skip::Unreadable,
        Skip::Unstable,
    ];

    pub fn reason(self) -> &'static str {
        match self {
            Skip::Symlink => "symlink",
            Skip::NotAFile => "not_a_file",
            Skip::HardLink => "hard_link",
            Skip::Sparse => "sparse",
            Skip::TooMany => "too_many",
            Skip::Unreadable => "unreadable",
            Skip::Unstable => "unstable",
        }
    }
}

/// A file to archive, named as its entry: relative to its log directory, with that directory's base before
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: Vec<u8>,
    pub stamp: FileStamp,
    /// The number of its names.
    pub links: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Sorted by name.
    pub files: Vec<Found>,
    /// Some of the skipped files by name.
    pub skipped: BTreeMap<Vec<u8>, Skip>,
    /// The number of skipped files by reason.
    pub counts: BTreeMap<Skip, u64>,
    /// Directories in which no name matches.
    pub unmatched: Vec<Unmatched>,
}

/// A directory without files to archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    pub path: PathBuf,
    pub names: Names,
}

/// The names in a directory in which none matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// The directory does not exist yet.
    NoDirectory,
    /// The number of names, and one of them.
    Others {
        count: u64,
        example: Vec<u8>,
    },
    None,
}

impl Names {
    fn add(&mut self, name: &[u8]) {
        match self {
            Names::Others { count, .. } => *count += 1,
            Names::NoDirectory | Names::None => *self = Names::Others { count: 1, example: name.to_vec() },
        }
    }
}

impl Unmatched {
    /// Logs a warning that names the remedy.
    pub fn warn(&self) {
        let dir = self.path.display().to_string();
        let advice = "see --include and --recursive";
        match &self.names {
            Names::NoDirectory => {
                tracing::warn!(dir, "the log directory does not exist yet: nothing of it is archived");
            }
            Names::None => tracing::warn!(dir, "the log directory is empty: nothing of it is archived"),
            Names::Others { count, example } => {
                let example = example.escape_ascii().to_string();
                tracing::warn!(
                    dir,
                    names = count,
                    example,
                    advice,
                    "no name in the log directory matches: nothing of it is archived"
                );
            }
        }
    }
}

/// The number of names that a file has, and the number that were found.
struct Links {
    all: u64,
    met: u64,
}

/// Looks at all files. `is_known` is true for inodes that are archived already: if there are too many files,
/// these are not displaced by files that a stranger plants.
pub fn scan(
    roots: &Roots,
    select: &Select,
    limits: &Limits,
    is_known: &dyn Fn(&FileStamp) -> bool,
) -> Result<Scan, ArchiveError> {
    let mut scan = Scan::default();
    let mut linked: HashMap<(u64, u64), Links> = HashMap::new();
    let mut hole_bytes_left = limits.hole_bytes;
    let mut unmatched = Vec::new();
    for root in &roots.open {
        let (mut others, mut matches) = (Names::None, false);
        walk(root, select.recursive, &mut |directory, name, _| {
            if !select.takes(name.path) {
                if !matches {
                    others.add(name.path);
                }
                return;
            }
            matches = true;
            let entry = || [root.base.as_slice(), name.path].concat();
            let Ok(look) = status_at(directory, name.last) else { return };
            if look.kind == Kind::Directory && select.recursive {
                return;
            }
            let holes = look.stamp.size.saturating_sub(look.allocated);
            match look.kind {
                Kind::Symlink => return scan.skip(&entry(), Skip::Symlink, limits.files),
                Kind::Directory | Kind::Special => return scan.skip(&entry(), Skip::NotAFile, limits.files),
                Kind::Regular if holes > hole_bytes_left => {
                    return scan.skip(&entry(), Skip::Sparse, limits.files);
                }
                Kind::Regular => hole_bytes_left -= holes,
            }
            if look.links > 1 && !select.hard_links {
                let links = linked.entry((look.stamp.dev, look.stamp.ino));
                links.or_insert(Links { all: look.links, met: 0 }).met += 1;
            }
            scan.files.push(Found { name: entry(), stamp: look.stamp, links: look.links });
            if scan.files.len() > limits.files.saturating_mul(2) {
                scan.cut(limits.files, is_known);
            }
        })?;
        if !matches {
            unmatched.push(Unmatched { path: root.at.path().to_owned(), names: others });
        }
    }
    let awaited =
        roots.awaited.iter().map(|path| Unmatched { path: path.clone(), names: Names::NoDirectory });
    scan.unmatched = unmatched.into_iter().chain(awaited).collect();
    if linked.values().any(|links| links.met < links.all) {
        meet_other_names(roots, select, &mut linked)?;
    }
    let outside = |found: &mut Found| {
        linked.get(&(found.stamp.dev, found.stamp.ino)).is_some_and(|links| links.met < links.all)
    };
    let linked: Vec<Found> = scan.files.extract_if(.., outside).collect();
    for found in linked {
        scan.skip(&found.name, Skip::HardLink, limits.files);
    }
    scan.cut(limits.files, is_known);
    scan.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scan)
}

impl Scan {
    /// Counts a skipped file, and remembers up to `names_max` names: strangers may plant any number.
    fn skip(&mut self, name: &[u8], skip: Skip, names_max: usize) {
        *self.counts.entry(skip).or_default() += 1;
        if self.skipped.len() < names_max {
            self.skipped.insert(name.to_vec(), skip);
        }
    }

    fn cut(&mut self, files_max: usize, is_known: &dyn Fn(&FileStamp) -> bool) {
        if self.files.len() <= files_max {
            return;
        }
        self.files.sort_by_cached_key(|found| (!is_known(&found.stamp), found.name.clone()));
        for found in self.files.split_off(files_max) {
            self.skip(&found.name, Skip::TooMany, files_max);
        }
    }
}

/// Counts names that do not match, such as `x.log.1` next to `x.log`. A file whose names were all counted has
/// none outside.
fn meet_other_names(
    roots: &Roots,
    select: &Select,
    linked: &mut HashMap<(u64, u64), Links>,
) -> Result<(), ArchiveError> {
    let inodes = linked.keys().map(|(_, ino)| *ino).collect();
    other_names(roots, select, &inodes, &mut |_, look| {
        if let Some(links) = linked.get_mut(&(look.stamp.dev, look.stamp.ino)) {
            links.met += 1;
        }
    })
}

/// Finds archived files that were renamed to names that do not match, such as `x.log.1`.
pub fn moved(
    roots: &Roots,
    select: &Select,
    wanted: &HashSet<(u64, u64)>,
) -> Result<HashMap<(u64, u64), Found>, ArchiveError> {
    let mut moved = HashMap::new();
    if wanted.is_empty() {
        return Ok(moved);
    }
    let inodes = wanted.iter().map(|(_, ino)| *ino).collect();
    other_names(roots, select, &inodes, &mut |entry, look| {
        let id = (look.stamp.dev, look.stamp.ino);
        if look.kind == Kind::Regular && wanted.contains(&id) {
            moved.insert(id, Found { name: entry, stamp: look.stamp, links: look.links });
        }
    })?;
    Ok(moved)
}

/// Visits the files of these inodes whose names do not match.
fn other_names(
    roots: &Roots,
    select: &Select,
    inodes: &HashSet<u64>,
    visit: &mut dyn FnMut(Vec<u8>, &FileStatus),
) -> Result<(), ArchiveError> {
    for root in &roots.open {
        walk(root, select.recursive, &mut |directory, name, ino| {
            if inodes.contains(&ino)
                && !select.takes(name.path)
                && let Ok(look) = status_at(directory, name.last)
            {
                visit([root.base.as_slice(), name.path].concat(), &look);
            }
        })?;
    }
    Ok(())
}

/// Visits every name with its directory.
pub fn each_name(
    roots: &Roots,
    recursive: bool,
    visit: &mut dyn FnMut(&OwnedFd, &OsStr),
) -> Result<(), ArchiveError> {
    roots
        .open
        .iter()
        .try_for_each(|root| walk(root, recursive, &mut |directory, name, _| visit(directory, name.last)))
}

/// A name below the log directory, and its last component.
struct Name<'a> {
    path: &'a [u8],
    last: &'a OsStr,
}

type Visit<'a> = dyn FnMut(&OwnedFd, &Name<'_>, u64) + 'a;

/// Visits every name, in subdirectories too if `recursive`.
fn walk(root: &Root, recursive: bool, visit: &mut Visit<'_>) -> Result<(), ArchiveError> {
    let root: &SafeDir = &root.at;
    let mut above = vec![(Vec::new(), 0)];
    while let Some((path, depth)) = above.pop() {
        let shown = root.path().join(OsStr::from_bytes(&path));
        // Names are read one by one, never all into memory.
        let opened = root.directory(&path).and_then(|fd| Ok((Dir::from_fd(fd.try_clone()?)?, fd)));
        let (mut names, directory) = match opened {
            Ok(opened) => opened,
            Err(error) if depth == 0 => {
                return Err(ArchiveError::on("open the log directory", &shown)(error));
            }
            // Deleted or replaced since its name was read.
            Err(_) => continue,
        };
        for entry in names.iter().filter_map(Result::ok) {
            let last = OsStr::from_bytes(entry.file_name().to_bytes());
            if [".", ".."].map(OsStr::new).contains(&last) || depth == 0 && is_ours(last.as_bytes()) {
                continue;
            }
            let below = match path.as_slice() {
                [] => last.as_bytes().to_vec(),
                path => [path, b"/", last.as_bytes()].concat(),
            };
            visit(&directory, &Name { path: &below, last }, entry.ino());
            if recursive && depth < DEPTH_MAX && is_directory(&directory, &entry) {
                above.push((below, depth + 1));
            }
        }
    }
    Ok(())
}

fn is_directory(parent: &OwnedFd, entry: &Entry) -> bool {
    match entry.file_type() {
        Some(kind) => kind == Type::Directory,
        // Some file systems do not report the type.
        None => {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            status_at(parent, name).is_ok_and(|look| look.kind == Kind::Directory)
        }
    }
}

/// True for files that logcd writes itself, which are never archived.
pub fn is_ours(name: &[u8]) -> bool {
    [&b".all-logs-"[..], b"all-logs-", b".logcd."].iter().any(|ours| name.starts_with(ours))
}
