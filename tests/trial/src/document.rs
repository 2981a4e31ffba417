//! Commands from a Markdown document, so that a test runs what people read.

/// Returns the indented lines below a third-level heading as one script.
#[track_caller]
pub fn commands_under(heading: &str, document: &str) -> String {
    let sections = document.split("\n### ").skip(1);
    let mut named = sections.filter_map(|section| section.strip_prefix(heading)?.strip_prefix('\n'));
    let section = named.next().unwrap_or_else(|| panic!("no section {heading:?}"));
    // The section ends at the next heading of any level.
    let section = section.split("\n#").next().unwrap_or(section);
    let lines: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(!lines.is_empty(), "{heading:?} has no commands");
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::commands_under;

    #[test]
    fn commands_end_with_their_section() {
        let document = "# Title\n\n### One\n\ntext\n\n    first\n    second\n\n## Part\n\n    not this\n\n### One and more\n\n    other\n";
        assert_eq!(commands_under("One", document), "first\nsecond");
        assert_eq!(commands_under("One and more", document), "other");
    }
}
