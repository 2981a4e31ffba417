//! Repairs the end of a file. A crash may leave an unfinished line. A power loss may leave zeros, because the
//! file system knew the file's new length before it had the content.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

const BLOCK_BYTES: usize = 64 * 1024;
/// A longer run of zeros is not the result of a power loss, because less than this is ever on its way to a
/// disk. It is content, and reading all of it may take minutes.
const ZEROS_MAX: u64 = 64 * 1024 * 1024;

/// Removes zeros from the end of a file that is open for appending, and ends its last line. False if there
/// was nothing to do.
pub fn repair_end(mut file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let (end, last) = last_byte(file, length)?;
    if end < length {
        file.set_len(end)?;
    }
    let torn = last != b'\n';
    if torn {
        file.write_all(b"\n")?;
    }
    Ok(torn || end < length)
}

/// Returns where the content ends and its last byte. A file of only zeros counts as ending with a whole line.
fn last_byte(file: &File, length: u64) -> io::Result<(u64, u8)> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut end = length;
    while end > 0 {
        if length - end >= ZEROS_MAX {
            return Ok((length, 0));
        }
        let start = end.saturating_sub(BLOCK_BYTES as u64);
        let block = &mut block[..usize::try_from(end - start).unwrap_or(BLOCK_BYTES)];
        file.read_exact_at(block, start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte != 0) {
            return Ok((start + at as u64 + 1, block[at]));
        }
        end = start;
    }
    Ok((0, b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(content: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, content).unwrap();
        let file = File::options().read(true).append(true).open(&path).unwrap();
        let was_torn = repair_end(&file).unwrap();
        let now = std::fs::read(&path).unwrap();
        assert_eq!(was_torn, now != content);
        assert!(!repair_end(&file).unwrap(), "once is enough");
        now
    }

    #[test]
    fn whole_lines_stay() {
        for whole in [&b""[..], b"\n", b"line\n", b"a\0\n", b"\0\n"] {
            assert_eq!(repaired(whole), whole);
        }
    }

    #[test]
    fn unfinished_line_is_closed() {
        assert_eq!(repaired(b"whole\nhal"), b"whole\nhal\n");
    }

    #[test]
    fn zeros_at_the_end_are_removed() {
        for zeros in [1, 3, BLOCK_BYTES - 6, BLOCK_BYTES, 2 * BLOCK_BYTES + 1] {
            let zeros = vec![0; zeros];
            assert_eq!(repaired(&[b"whole\n", &zeros[..]].concat()), b"whole\n");
            assert_eq!(repaired(&[b"whole\n\0h", &zeros[..]].concat()), b"whole\n\0h\n");
            assert_eq!(repaired(&zeros), b"");
        }
    }

    #[test]
    fn very_many_zeros_stay() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(last_byte(&file, 1 << 40).unwrap(), (1 << 40, 0));
    }
}
