//! Walks through the directories and evaluates the expression for each path.

use super::complain;
use super::expression::{Action, Expression, Node};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

pub struct Walk<'a, W: Write> {
    expression: &'a Expression,
    out: W,
    now: SystemTime,
    failed: bool,
    /// Set by `-prune` for the present directory.
    pruned: bool,
}

impl<'a, W: Write> Walk<'a, W> {
    pub fn new(expression: &'a Expression, out: W) -> Walk<'a, W> {
        Walk { expression, out, now: SystemTime::now(), failed: false, pruned: false }
    }

    /// True if everything could be read and written.
    pub fn succeeded(mut self) -> bool {
        self.out.flush().is_ok() && !self.failed
    }

    fn fail(&mut self, path: &Path, why: impl std::fmt::Display) {
        complain(&format!("'{}': {why}", path.display()));
        self.failed = true;
    }

    pub fn visit(&mut self, path: &Path, depth: usize) {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return self.fail(path, error),
        };
        let expression = self.expression;
        let looked_at = depth >= expression.depth_min;
        self.pruned = false;
        if looked_at && !expression.inside_first {
            self.holds(&expression.root, path, &metadata);
        }
        if metadata.is_dir() && depth < expression.depth_max && !self.pruned {
            match fs::read_dir(path) {
                Ok(entries) => {
                    for entry in entries {
                        match entry {
                            Ok(entry) => self.visit(&entry.path(), depth + 1),
                            Err(error) => self.fail(path, error),
                        }
                    }
                }
                Err(error) => self.fail(path, error),
            }
        }
        if looked_at && expression.inside_first {
            self.holds(&expression.root, path, &metadata);
        }
    }

    fn holds(&mut self, node: &Node, path: &Path, metadata: &Metadata) -> bool {
        match node {
            Node::All => true,
            Node::Not(node) => !self.holds(node, path, metadata),
            Node::And(a, b) => self.holds(a, path, metadata) && self.holds(b, path, metadata),
            Node::Or(a, b) => self.holds(a, path, metadata) || self.holds(b, path, metadata),
            Node::Test(test) => test.holds(path, metadata, self.now),
            Node::Action(action) => self.act(action, path, metadata),
        }
    }

    fn act(&mut self, action: &Action, path: &Path, metadata: &Metadata) -> bool {
        match action {
            Action::Print(end) => {
                let line = [path.as_os_str().as_bytes(), &[*end]].concat();
                self.failed |= self.out.write_all(&line).is_err();
                true
            }
            Action::Prune => {
                self.pruned = true;
                true
            }
            Action::Delete => {
                let gone = if metadata.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
                gone.map_err(|error| self.fail(path, error)).is_ok()
            }
            Action::Exec(command) => {
                // Flush, so that earlier output comes before the output of the command.
                let _ = self.out.flush();
                let mut words = command.iter().map(|word| with_path(word, path));
                let Some(program) = words.next() else { return false };
                let ended = Command::new(&program).args(words).status();
                ended
                    .map_err(|error| self.fail(Path::new(&program), error))
                    .is_ok_and(|status| status.success())
            }
        }
    }
}

/// Replaces each `{}` in the word by the path.
fn with_path(word: &OsStr, path: &Path) -> OsString {
    let (mut made, mut rest) = (Vec::new(), word.as_bytes());
    while let Some(at) = rest.windows(2).position(|pair| pair == b"{}") {
        made.extend_from_slice(&rest[..at]);
        made.extend_from_slice(path.as_os_str().as_bytes());
        rest = &rest[at + 2..];
    }
    made.extend_from_slice(rest);
    OsString::from_vec(made)
}
