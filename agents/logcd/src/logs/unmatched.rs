//! Log directories in which no name matches, and the warning about them.

use std::path::PathBuf;

/// A directory without files to archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    pub path: PathBuf,
    pub names: OtherNames,
}

/// The contents of a directory in which no name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherNames {
    /// The directory does not exist yet.
    NoDirectory,
    /// The number of names, and one of them.
    Others {
        count: u64,
        example: Vec<u8>,
    },
    None,
}

impl OtherNames {
    pub(super) fn add(&mut self, name: &[u8]) {
        match self {
            OtherNames::Others { count, .. } => *count += 1,
            OtherNames::NoDirectory | OtherNames::None => {
                *self = OtherNames::Others { count: 1, example: name.to_vec() }
            }
        }
    }
}

impl Unmatched {
    /// Logs a warning that names the remedy.
    pub fn warn(&self) {
        let dir = self.path.display().to_string();
        let advice = "see --include and --recursive";
        match &self.names {
            OtherNames::NoDirectory => {
                tracing::warn!(
                    event = "directory_missing",
                    dir,
                    "the log directory does not exist yet: nothing in it is archived"
                );
            }
            OtherNames::None => tracing::warn!(
                event = "directory_empty",
                dir,
                "the log directory is empty: nothing in it is archived"
            ),
            OtherNames::Others { count, example } => {
                let example = example.escape_ascii().to_string();
                tracing::warn!(
                    event = "directory_unmatched",
                    dir,
                    names = count,
                    example,
                    advice,
                    "no name in the log directory matches: nothing in it is archived"
                );
            }
        }
    }
}
