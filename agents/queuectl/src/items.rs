//! Where pushed items come from: arguments, files, or the lines of stdin.

use crate::flags::Push;
use kit::exit::{Exit, Fatal};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};

/// One that is longer is not read any further; the server's own bound is usually lower.
const ITEM_BYTES_MAX: u64 = 256 << 20;

/// One item after the other.
pub(crate) enum Items {
    Given(std::vec::IntoIter<Vec<u8>>),
    Files(std::vec::IntoIter<PathBuf>),
    Stdin { input: Box<dyn AsyncBufRead + Unpin>, delimiter: u8 },
}

impl Items {
    pub(crate) fn of(push: &Push) -> Items {
        if !push.file.is_empty() {
            Items::Files(push.file.clone().into_iter())
        } else if !push.items.is_empty() {
            let items: Vec<_> = push.items.iter().map(|item| item.as_bytes().to_vec()).collect();
            Items::Given(items.into_iter())
        } else {
            let input = Box::new(BufReader::with_capacity(256 << 10, tokio::io::stdin()));
            Items::Stdin { input, delimiter: if push.null { 0 } else { b'\n' } }
        }
    }

    /// How many, where that is known beforehand.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Items::Given(items) => Some(items.len()),
            Items::Files(paths) => Some(paths.len()),
            Items::Stdin { .. } => None,
        }
    }

    /// Empty lines are no items, as for the server; empty arguments and files are.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Fatal> {
        match self {
            Items::Given(items) => Ok(items.next()),
            Items::Files(paths) => match paths.next() {
                None => Ok(None),
                Some(path) => tokio::fs::read(&path).await.map(Some).map_err(|e| {
                    Fatal::new(Exit::Failure, format!("cannot read {}", path.display())).because(e)
                }),
            },
            Items::Stdin { input, delimiter } => piece(input, *delimiter).await,
        }
    }
}

async fn piece(input: &mut (impl AsyncBufRead + Unpin), delimiter: u8) -> Result<Option<Vec<u8>>, Fatal> {
    loop {
        let mut piece = Vec::new();
        let read = input.take(ITEM_BYTES_MAX).read_until(delimiter, &mut piece).await;
        let length = read.map_err(|e| Fatal::new(Exit::Failure, "cannot read stdin").because(e))?;
        if length == 0 {
            return Ok(None);
        }
        if piece.last() == Some(&delimiter) {
            piece.pop();
        } else if u64::try_from(length) == Ok(ITEM_BYTES_MAX) {
            return Err(Fatal::new(
                Exit::Failure,
                format!("an item on stdin is longer than {ITEM_BYTES_MAX} bytes"),
            ));
        }
        if !piece.is_empty() {
            return Ok(Some(piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(mut input: &[u8], delimiter: u8) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while let Some(piece) = piece(&mut input, delimiter).await.unwrap() {
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
