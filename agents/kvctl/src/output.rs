//! Values in lines of output.

/// Escapes a value to one line. Text stays readable, and no byte can control a terminal.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    let mut line = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => line.push_str("\\\\"),
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        for byte in chunk.invalid() {
            line.push_str(&format!("\\x{byte:02x}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_one_harmless_line() {
        assert_eq!(one_line("один \"two\" 3".as_bytes()), "один \"two\" 3");
        assert_eq!(one_line(b"a\nb\t\\ \x1b[1m\xff\xfe\0"), "a\\nb\\t\\\\ \\u{1b}[1m\\xff\\xfe\\u{0}");
    }
}
