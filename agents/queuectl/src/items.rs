//! Reads the items to push: arguments, files, or the lines of a file or stdin.

use crate::flags::Push;
use kit::exit::{Exit, Fatal};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Reading stops at a longer item; the server's own bound is usually lower.
const ITEM_BYTES_MAX: u64 = 256 << 20;

/// An item and its origin, by which messages name it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InputItem {
    pub(crate) body: Vec<u8>,
    pub(crate) origin: ItemOrigin,
}

/// The origin of an item. Arguments and lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemOrigin {
    Argument(u64),
    File(PathBuf),
    Line { number: u64, of: Arc<str> },
}

impl fmt::Display for ItemOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemOrigin::Argument(number) => write!(f, "argument {number}"),
            ItemOrigin::File(path) => write!(f, "{}", path.display()),
            ItemOrigin::Line { number, of } => write!(f, "line {number} of {of}"),
        }
    }
}

/// A stream that is split into items at each delimiter.
pub(crate) struct LineReader {
    input: Box<dyn AsyncBufRead + Unpin>,
    name: Arc<str>,
    delimiter: u8,
    number: u64,
}

/// Reads the items of one push.
pub(crate) enum ItemReader {
    Arguments { words: std::vec::IntoIter<Vec<u8>>, number: u64 },
    Files(std::vec::IntoIter<PathBuf>),
    Lines(LineReader),
}

impl ItemReader {
    pub(crate) async fn of(push: &Push) -> Result<ItemReader, Fatal> {
        if !push.file.is_empty() {
            return Ok(ItemReader::Files(push.file.clone().into_iter()));
        }
        if !push.items.is_empty() {
            let words: Vec<_> = push.items.iter().map(|item| item.as_bytes().to_vec()).collect();
            return Ok(ItemReader::Arguments { words: words.into_iter(), number: 0 });
        }
        let (name, input): (_, Box<dyn AsyncRead + Unpin>) = match &push.lines {
            None => ("stdin".to_owned(), Box::new(tokio::io::stdin())),
            Some(path) => {
                let file = tokio::fs::File::open(path).await.map_err(|e| unreadable(path.display(), e))?;
                (path.display().to_string(), Box::new(file))
            }
        };
        let input = Box::new(BufReader::with_capacity(256 << 10, input));
        let delimiter = if push.null { 0 } else { b'\n' };
        Ok(ItemReader::Lines(LineReader { input, name: name.into(), delimiter, number: 0 }))
    }

    /// The number of items, if it is known beforehand.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            ItemReader::Arguments { words, .. } => Some(words.len()),
            ItemReader::Files(paths) => Some(paths.len()),
            ItemReader::Lines(_) => None,
        }
    }

    /// Returns the next item. Empty lines are skipped, as the server does; empty arguments and files are
    /// items.
    pub(crate) async fn next(&mut self) -> Result<Option<InputItem>, Fatal> {
        match self {
            ItemReader::Arguments { words, number } => {
                *number += 1;
                Ok(words.next().map(|body| InputItem { body, origin: ItemOrigin::Argument(*number) }))
            }
            ItemReader::Files(paths) => {
                let Some(path) = paths.next() else { return Ok(None) };
                let body = tokio::fs::read(&path).await.map_err(|e| unreadable(path.display(), e))?;
                Ok(Some(InputItem { body, origin: ItemOrigin::File(path) }))
            }
            ItemReader::Lines(lines) => lines.next().await,
        }
    }
}

fn unreadable(name: impl fmt::Display, error: std::io::Error) -> Fatal {
    Fatal::new(Exit::Failure, format!("cannot read {name}")).because(error)
}

impl LineReader {
    async fn next(&mut self) -> Result<Option<InputItem>, Fatal> {
        let LineReader { input, name, delimiter, number } = self;
        loop {
            *number += 1;
            let mut body = Vec::new();
            let read = input.take(ITEM_BYTES_MAX).read_until(*delimiter, &mut body).await;
            let length = read.map_err(|e| unreadable(&*name, e))?;
            if length == 0 {
                return Ok(None);
            }
            let origin = ItemOrigin::Line { number: *number, of: name.clone() };
            if body.last() == Some(delimiter) {
                body.pop();
            } else if u64::try_from(length) == Ok(ITEM_BYTES_MAX) {
                let message = format!("{origin} is longer than {ITEM_BYTES_MAX} bytes");
                return Err(Fatal::new(Exit::Failure, message));
            }
            if !body.is_empty() {
                return Ok(Some(InputItem { body, origin }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &'static [u8], delimiter: u8) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut lines = LineReader { input: Box::new(input), name: "test".into(), delimiter, number: 0 };
        while let Some(InputItem { body, origin: ItemOrigin::Line { number, .. } }) =
            lines.next().await.unwrap()
        {
            found.push((number, body));
        }
        found
    }

    #[tokio::test]
    async fn empty_lines_are_counted_and_skipped() {
        let expected = [(1, b"a".to_vec()), (3, b"b c\r".to_vec()), (4, b"\xff".to_vec())];
        assert_eq!(lines(b"a\n\nb c\r\n\xff", b'\n').await, expected);
        assert_eq!(lines(b"a\nb\0c\0", 0).await, [(1, b"a\nb".to_vec()), (2, b"c".to_vec())]);
        assert!(lines(b"", b'\n').await.is_empty() && lines(b"\n\n", b'\n').await.is_empty());
    }
}
