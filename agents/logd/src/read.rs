//! `logd read`: the log as one text, rotated files first, in the order in which it was written.

use kit::exit::Fatal;
use std::path::PathBuf;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The file that logd appends to
    #[arg(long, value_name = "PATH", default_value = "node_log")]
    pub file: PathBuf,
}

pub fn read(_options: &Options) -> Result<(), Fatal> {
    Ok(())
}
