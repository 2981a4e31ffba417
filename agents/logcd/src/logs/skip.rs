//! The reasons why a file is not archived although its name matches.

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
