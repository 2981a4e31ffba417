//! Where pushed items come from: arguments, files, or the lines of a file or stdin.

use crate::flags::Push;
use kit::exit::{Exit, Fatal};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// One that is longer is not read any further; the server's own bound is usually lower.
const ITEM_BYTES_MAX: u64 = 256 << 20;

/// What is cut into items, and its name.
pub(crate) struct Lines {
    input: Box<dyn AsyncBufRead + Unpin>,
    name: String,
    delimiter: u8,
}

/// One item after the other.
pub(crate) enum Items {
    Given(std::vec::IntoIter<Vec<u8>>),
    Files(std::vec::IntoIter<PathBuf>),
    Lines(Lines),
}

impl Items {
    pub(crate) async fn of(push: &Push) -> Result<Items, Fatal> {
        Ok(if !push.file.is_empty() {
            Items::Files(push.file.clone().into_iter())
        } else if !push.items.is_empty() {
            let items: Vec<_> = push.items.iter().map(|item| item.as_bytes().to_vec()).collect();
            Items::Given(items.into_iter())
        } else {
            let (name, input): (_, Box<dyn AsyncRead + Unpin>) = match &push.lines {
                None => ("stdin".to_owned(), Box::new(tokio::io::stdin())),
                Some(path) => {
                    let file =
                        tokio::fs::File::open(path).await.map_err(|e| unreadable(path.display(), e))?;
                    (path.display().to_string(), Box::new(file))
                }
            };
            let input = Box::new(BufReader::with_capacity(256 << 10, input));
            Items::Lines(Lines { input, name, delimiter: if push.null { 0 } else { b'\n' } })
        })
    }

    /// How many, where that is known beforehand.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Items::Given(items) => Some(items.len()),
            Items::Files(paths) => Some(paths.len()),
            Items::Lines(_) => None,
        }
    }

    /// Empty lines are no items, as for the server; empty arguments and files are.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Fatal> {
        match self {
            Items::Given(items) => Ok(items.next()),
            Items::Files(paths) => match paths.next() {
                None => Ok(None),
                Some(path) => {
                    tokio::fs::read(&path).await.map(Some).map_err(|e| unreadable(path.display(), e))
                }
            },
            Items::Lines(lines) => lines.next().await,
        }
    }
}

fn unreadable(what: impl Display, error: std::io::Error) -> Fatal {
    Fatal::new(Exit::Failure, format!("cannot read {what}")).because(error)
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Fatal> {
        let Lines { input, name, delimiter } = self;
        loop {
            let mut piece = Vec::new();
            let read = input.take(ITEM_BYTES_MAX).read_until(*delimiter, &mut piece).await;
            let length = read.map_err(|e| unreadable(&*name, e))?;
            if length == 0 {
                return Ok(None);
            }
            if piece.last() == Some(delimiter) {
                piece.pop();
            } else if u64::try_from(length) == Ok(ITEM_BYTES_MAX) {
                return Err(Fatal::new(
                    Exit::Failure,
                    format!("an item in {name} is longer than {ITEM_BYTES_MAX} bytes"),
                ));
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(input: &'static [u8], delimiter: u8) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut lines = Lines { input: Box::new(input), name: "test".to_owned(), delimiter };
        while let Some(piece) = lines.next().await.unwrap() {
            pieces.push(piece);
        }
        pieces
    }

    #[tokio::test]
    async fn lines_are_items_and_empty_ones_and_the_end_of_the_last_do_not_matter() {
        assert_eq!(pieces(b"a\n\nb c\r\n\xff", b'\n').await, [&b"a"[..], b"b c\r", b"\xff"]);
        assert_eq!(pieces(b"a\nb\0c\0", 0).await, [&b"a\nb"[..], b"c"]);
        assert!(pieces(b"", b'\n').await.is_empty() && pieces(b"\n\n", b'\n').await.is_empty());
    }
}
