//! The expression of `find`: the words after the paths, as a tree.

use glob::{MatchOptions, Pattern};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{FileType, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

const MINUTE_SECONDS: u64 = 60;
const DAY_SECONDS: u64 = 24 * 60 * MINUTE_SECONDS;

/// The whole expression: the options that apply everywhere, and the tree.
pub struct Expression {
    pub depth_min: usize,
    pub depth_max: usize,
    /// True if the contents of a directory are visited before the directory.
    pub inside_first: bool,
    pub root: Node,
}

pub enum Node {
    All,
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Test(Test),
    Action(Action),
}

pub enum Test {
    Name(Pattern, MatchOptions),
    Path(Pattern),
    Type(u8),
    /// The size in units of this many bytes, rounded up.
    Size(Number, u64),
    Empty,
    /// The age since the last change in units of this many seconds, rounded down.
    Age(Number, u64),
    Newer(SystemTime),
}

pub enum Action {
    Print(u8),
    Delete,
    Prune,
    Exec(Vec<OsString>),
}

/// A number to compare with: `N`, `+N` (more) or `-N` (less).
pub struct Number {
    how: Ordering,
    than: u64,
}

impl Number {
    fn parse(text: &str) -> Option<Number> {
        let (how, digits) = match text.as_bytes().first()? {
            b'+' => (Ordering::Greater, &text[1..]),
            b'-' => (Ordering::Less, &text[1..]),
            _ => (Ordering::Equal, text),
        };
        Some(Number { how, than: digits.parse().ok()? })
    }

    fn holds(&self, number: u64) -> bool {
        number.cmp(&self.than) == self.how
    }
}

impl Test {
    /// True if the path passes the test. `metadata` is that of the path itself; a link is not followed.
    pub fn holds(&self, path: &Path, metadata: &Metadata, now: SystemTime) -> bool {
        match self {
            Test::Name(pattern, options) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                pattern.matches_with(&name.to_string_lossy(), *options)
            }
            Test::Path(pattern) => pattern.matches(&path.to_string_lossy()),
            Test::Type(letter) => letter_of(metadata.file_type()) == *letter,
            Test::Size(number, unit) => number.holds(metadata.size().div_ceil(*unit)),
            Test::Empty if metadata.is_dir() => {
                std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
            }
            Test::Empty => metadata.is_file() && metadata.size() == 0,
            Test::Age(number, unit) => metadata.modified().is_ok_and(|time| {
                let age = now.duration_since(time).unwrap_or_default();
                number.holds(age.as_secs() / unit)
            }),
            Test::Newer(than) => metadata.modified().is_ok_and(|time| time > *than),
        }
    }
}

fn letter_of(kind: FileType) -> u8 {
    let letters = [
        (kind.is_file(), b'f'),
        (kind.is_dir(), b'd'),
        (kind.is_symlink(), b'l'),
        (kind.is_fifo(), b'p'),
        (kind.is_socket(), b's'),
        (kind.is_block_device(), b'b'),
        (kind.is_char_device(), b'c'),
    ];
    letters.iter().find(|(is, _)| *is).map_or(b'?', |(_, letter)| *letter)
}

/// True if the expression begins with this word, after the paths.
pub fn begins_with(word: &OsStr) -> bool {
    let bytes = word.as_bytes();
    (bytes.first() == Some(&b'-') && bytes.len() > 1) || bytes == b"(" || bytes == b"!"
}

impl Expression {
    pub fn parse(words: VecDeque<OsString>) -> Result<Expression, String> {
        let mut parser =
            Parser { words, depth_min: 0, depth_max: usize::MAX, inside_first: false, prints: true };
        let mut root = if parser.words.is_empty() { Node::All } else { parser.either()? };
        if let Some(word) = parser.words.front() {
            return Err(format!("'{}' is not expected here", word.display()));
        }
        if parser.prints {
            root = Node::And(Box::new(root), Box::new(Node::Action(Action::Print(b'\n'))));
        }
        let Parser { depth_min, depth_max, inside_first, .. } = parser;
        Ok(Expression { depth_min, depth_max, inside_first, root })
    }
}

struct Parser {
    words: VecDeque<OsString>,
    depth_min: usize,
    depth_max: usize,
    inside_first: bool,
    /// True until an action replaces the default, which is to print.
    prints: bool,
}

impl Parser {
    fn next_is(&mut self, names: &[&str]) -> bool {
        let is = self.words.front().is_some_and(|word| names.iter().any(|name| word == name));
        if is {
            self.words.pop_front();
        }
        is
    }

    fn either(&mut self) -> Result<Node, String> {
        let mut node = self.both()?;
        while self.next_is(&["-o", "-or"]) {
            node = Node::Or(Box::new(node), Box::new(self.both()?));
        }
        Ok(node)
    }

    fn both(&mut self) -> Result<Node, String> {
        let mut node = self.one()?;
        loop {
            let said = self.next_is(&["-a", "-and"]);
            let next = self.words.front().is_some_and(|word| word != ")" && word != "-o" && word != "-or");
            if !said && !next {
                return Ok(node);
            }
            node = Node::And(Box::new(node), Box::new(self.one()?));
        }
    }

    fn one(&mut self) -> Result<Node, String> {
        let word = self.words.pop_front().ok_or("something is missing at the end")?;
        let word = word.to_string_lossy().into_owned();
        Ok(match word.as_str() {
            "!" | "-not" => Node::Not(Box::new(self.one()?)),
            "(" => {
                let node = self.either()?;
                if !self.next_is(&[")"]) {
                    return Err("a ) is missing".to_owned());
                }
                node
            }
            "-name" => Node::Test(Test::Name(self.pattern(&word)?, MatchOptions::new())),
            "-iname" => {
                let options = MatchOptions { case_sensitive: false, ..MatchOptions::new() };
                Node::Test(Test::Name(self.pattern(&word)?, options))
            }
            "-path" => Node::Test(Test::Path(self.pattern(&word)?)),
            "-type" => match self.value(&word)?.as_bytes() {
                [letter] if b"fdlpsbc".contains(letter) => Node::Test(Test::Type(*letter)),
                _ => return Err("-type takes one of f d l p s b c".to_owned()),
            },
            "-size" => {
                let text = self.value(&word)?;
                let (digits, unit) = match text.char_indices().last() {
                    Some((at, letter)) if !letter.is_ascii_digit() => (&text[..at], unit_bytes(letter)),
                    _ => (text.as_str(), Some(512)),
                };
                let number = Number::parse(digits).zip(unit);
                let (number, unit) = number.ok_or_else(|| format!("-size {text}: expected [+-]N[cwbkMG]"))?;
                Node::Test(Test::Size(number, unit))
            }
            "-empty" => Node::Test(Test::Empty),
            "-mmin" => Node::Test(Test::Age(self.number(&word)?, MINUTE_SECONDS)),
            "-mtime" => Node::Test(Test::Age(self.number(&word)?, DAY_SECONDS)),
            "-newer" => {
                let path = self.value(&word)?;
                let time = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
                Node::Test(Test::Newer(time.map_err(|e| format!("{path}: {e}"))?))
            }
            "-maxdepth" => {
                self.depth_max = self.depth(&word)?;
                Node::All
            }
            "-mindepth" => {
                self.depth_min = self.depth(&word)?;
                Node::All
            }
            "-depth" => {
                self.inside_first = true;
                Node::All
            }
            "-print" => self.action(Action::Print(b'\n')),
            "-print0" => self.action(Action::Print(0)),
            "-prune" => Node::Action(Action::Prune),
            "-delete" => {
                self.inside_first = true;
                self.action(Action::Delete)
            }
            "-exec" => {
                let end = self.words.iter().position(|word| word == ";").ok_or("-exec ends with a ;")?;
                let command: Vec<OsString> = self.words.drain(..end).collect();
                self.words.pop_front();
                if command.is_empty() {
                    return Err("-exec takes a command".to_owned());
                }
                self.action(Action::Exec(command))
            }
            other => return Err(format!("{other} is not known (see --help)")),
        })
    }

    fn action(&mut self, action: Action) -> Node {
        self.prints = false;
        Node::Action(action)
    }

    fn value(&mut self, of: &str) -> Result<String, String> {
        let word = self.words.pop_front().ok_or_else(|| format!("{of} takes a value"))?;
        word.into_string().map_err(|word| format!("{of} {}: not UTF-8", word.display()))
    }

    fn number(&mut self, of: &str) -> Result<Number, String> {
        let text = self.value(of)?;
        Number::parse(&text).ok_or_else(|| format!("{of} {text}: expected [+-]N"))
    }

    fn depth(&mut self, of: &str) -> Result<usize, String> {
        let text = self.value(of)?;
        text.parse().map_err(|_| format!("{of} {text}: expected a number"))
    }

    fn pattern(&mut self, of: &str) -> Result<Pattern, String> {
        let mut text = self.value(of)?;
        // The crate glob gives two stars another meaning, where it accepts them at all.
        while text.contains("**") {
            text = text.replace("**", "*");
        }
        Pattern::new(&text).map_err(|e| format!("{of} {text}: {e}"))
    }
}

fn unit_bytes(letter: char) -> Option<u64> {
    Some(match letter {
        'c' => 1,
        'w' => 2,
        'b' => 512,
        'k' => 1 << 10,
        'M' => 1 << 20,
        'G' => 1 << 30,
        _ => return None,
    })
}
