//! The command line of `tar`, in its new and its old style.

use super::Failure;
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Make, list and unpack tar archives, plain and compressed with gzip.
#[derive(Debug, Parser)]
#[command(name = "tar", version, args_override_self = false)]
pub struct Arguments {
    /// Make an archive of the members
    #[arg(short = 'c', long, group = "mode")]
    create: bool,

    /// List what an archive holds
    #[arg(short = 't', long, group = "mode")]
    list: bool,

    /// Unpack an archive
    #[arg(short = 'x', long, alias = "get", group = "mode")]
    extract: bool,

    /// The archive; `-` is stdin or stdout
    #[arg(short = 'f', long, value_name = "ARCHIVE", default_value = "-")]
    pub file: PathBuf,

    /// Take members from this directory, or unpack them there
    #[arg(short = 'C', long, value_name = "DIR")]
    pub directory: Option<PathBuf>,

    /// Compress with gzip; when reading, gzip is noticed without it
    #[arg(short = 'z', long, alias = "gunzip")]
    pub gzip: bool,

    /// Unpack to stdout
    #[arg(short = 'O', long)]
    pub to_stdout: bool,

    /// Print each member's name; when listing, print its details
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Give unpacked files the present time
    #[arg(short = 'm', long)]
    pub touch: bool,

    /// Unpacked files get exactly the permissions of the archive
    #[arg(short = 'p', long, visible_alias = "same-permissions", overrides_with = "no_same_permissions")]
    pub preserve_permissions: bool,

    /// Unpacked files get the archive's permissions as far as the umask lets them (the default)
    #[arg(long, overrides_with = "preserve_permissions")]
    pub no_same_permissions: bool,

    /// Unpacked files belong to whoever unpacks them (the default, and nothing else is possible)
    #[arg(short = 'o', long)]
    pub no_same_owner: bool,

    /// Files and directories; when reading, only these members and what is beneath them
    #[arg(value_name = "MEMBER")]
    pub members: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Create,
    List,
    Extract,
}

impl Arguments {
    pub fn mode(&self) -> Result<Mode, Failure> {
        match (self.create, self.list, self.extract) {
            (true, _, _) if self.members.is_empty() => Err(Failure::new("an archive of nothing is not made")),
            (true, _, _) => Ok(Mode::Create),
            (_, true, _) => Ok(Mode::List),
            (_, _, true) => Ok(Mode::Extract),
            _ => Err(Failure::new("one of -c, -t and -x is needed (see --help)")),
        }
    }
}

/// Converts the old style, `tar xmf - -C DIR`, to the new one. The letters of the first word are flags; those
/// that take a value find theirs, in order, in the words after it.
pub fn with_dash(argv: &[OsString]) -> Vec<OsString> {
    let mut words = argv.iter().cloned();
    let mut new: Vec<OsString> = words.next().into_iter().collect();
    let Some(bundle) = words.next() else { return new };
    if bundle.as_bytes().starts_with(b"-") {
        new.push(bundle);
    } else {
        for letter in bundle.as_bytes() {
            new.push(OsStr::from_bytes(&[b'-', *letter]).to_owned());
            if matches!(letter, b'f' | b'C') {
                new.extend(words.next());
            }
        }
    }
    new.extend(words);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_old_style_is_the_new_one_without_a_dash() {
        assert_eq!(with_dash(&words("tar cf - /var")), words("tar -c -f - /var"));
        assert_eq!(with_dash(&words("tar xmf - -C /tmp")), words("tar -x -m -f - -C /tmp"));
        assert_eq!(with_dash(&words("tar xCf /tmp a.tar b")), words("tar -x -C /tmp -f a.tar b"));
        assert_eq!(with_dash(&words("tar -xzOf a.tar b")), words("tar -xzOf a.tar b"));
        assert_eq!(with_dash(&words("tar")), words("tar"));
    }

    #[test]
    fn what_kubectl_cp_says_is_understood() {
        let parse = |line| Arguments::try_parse_from(with_dash(&words(line))).unwrap();
        let from = parse("tar cf - /var/node_log");
        assert_eq!(from.mode().unwrap(), Mode::Create);
        assert_eq!(from.members, [PathBuf::from("/var/node_log")]);
        let to = parse("tar --no-same-permissions --no-same-owner -xmf - -C /tmp");
        assert!(to.touch && to.mode().unwrap() == Mode::Extract && to.file.as_os_str() == "-");
        assert_eq!(to.directory.unwrap(), PathBuf::from("/tmp"));
    }
}
