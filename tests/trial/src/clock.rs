//! A wall clock that the test sets with libfaketime; monotonic clocks are left alone.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Creates the clock in `directory`, which must outlive the agent, and sets it to an offset such as
    /// `+4y`.
    pub fn new(directory: &Path, offset: &str) -> Clock {
        let clock = Clock { file: directory.join("clock") };
        clock.set(offset);
        clock
    }

    /// Makes the process use this clock.
    pub fn give_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1")
            .env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.envs(
            ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"].map(|name| (name, "1")),
        );
    }

    pub fn set(&self, offset: &str) {
        // Replaced by a rename and not rewritten, because the agent reads it all the time.
        let new = self.file.with_extension("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}
