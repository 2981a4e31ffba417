//! The events that the sources log are those of ARCHITECTURE.md, with their levels and fields.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const HEADINGS: [(&str, &str); 9] = [
    ("Every program", "kit"),
    ("logd", "logd"),
    ("logsend", "logsend"),
    ("logcd", "logcd"),
    ("queued", "queued"),
    ("queuectl", "queuectl"),
    ("kvd", "kvd"),
    ("kvctl", "kvctl"),
    ("rng", "rng"),
];

#[derive(Debug, Default, PartialEq)]
struct Event {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
}

type Events = BTreeMap<String, Event>;

#[test]
fn logged_events_are_the_documented_ones() {
    let agents = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let document = std::fs::read_to_string(agents.parent().unwrap().join("ARCHITECTURE.md")).unwrap();
    let list = section(&document, "## ", "Log events");
    let mut different = Vec::new();
    for (heading, package) in HEADINGS {
        let documented = rows(&section(&list, "### ", heading));
        let logged = logged(&agents.join(package).join("src"));
        assert!(!logged.is_empty(), "{package} logs nothing");
        for name in logged.keys().chain(documented.keys()).collect::<BTreeSet<_>>() {
            let (source, document) = (logged.get(name), documented.get(name));
            if source != document {
                different
                    .push(format!("{package}: {name}: {source:?} in the sources, {document:?} documented"));
            }
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn calls_are_taken_apart_at_their_commas() {
    let call = r#"event = "made", %path, took_ms = f(a, "b)"), ?why, "it took {a}, {b}", a, b)"#;
    let event = "made".to_owned();
    let fields = ["path", "took_ms", "why"].map(str::to_owned).into();
    assert_eq!(arguments(call)[2], r#"took_ms = f(a, "b)")"#);
    assert_eq!(parse(call), (event, fields));
}

/// Returns the text below a heading, up to the next one of its level.
fn section(document: &str, level: &str, heading: &str) -> String {
    let start = format!("\n{level}");
    let mut sections = document.split(&start).skip(1);
    let found = sections.find_map(|text| text.strip_prefix(heading)?.strip_prefix('\n'));
    found.unwrap_or_default().to_owned()
}

/// Reads a table of event, levels, fields and meaning.
fn rows(section: &str) -> Events {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let fields = cells[2].split(", ").map(|field| field.trim_matches('`').to_owned());
        let event = Event {
            levels: cells[1].split(", ").map(str::to_owned).collect(),
            fields: fields.filter(|field| !field.is_empty()).collect(),
        };
        (cells[0].trim_matches('`').to_owned(), event)
    })
    .collect()
}

/// Finds the events in the sources. A name that is logged in several places has all their levels and fields.
fn logged(sources: &Path) -> Events {
    let mut events = Events::new();
    for file in files(sources) {
        let text = std::fs::read_to_string(file).unwrap();
        for call in text.split("tracing::").skip(1) {
            let Some((level, call)) = call.split_once("!(") else { continue };
            if ["error", "warn", "info", "debug", "trace"].contains(&level) {
                let (name, fields) = parse(call);
                let event = events.entry(name).or_default();
                event.levels.insert(level.to_owned());
                event.fields.extend(fields);
            }
        }
    }
    events
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// Returns the name and the fields of a call of a logging macro.
fn parse(call: &str) -> (String, BTreeSet<String>) {
    let arguments = arguments(call);
    let name = arguments[0].strip_prefix("event = \"").and_then(|name| name.strip_suffix('"'));
    let name = name.unwrap_or_else(|| panic!("the first field is not `event`: {arguments:?}"));
    let is_regular = |c: char| c.is_ascii_lowercase() || c == '_';
    assert!(!name.is_empty() && name.chars().all(is_regular), "{name:?} is not in snake_case");
    // The fields end where the message begins.
    let fields = arguments[1..].iter().take_while(|argument| !argument.starts_with('"'));
    let field = |argument: &String| {
        let field = argument.trim_start_matches(['%', '?']);
        field.split(['.', ' ']).next().unwrap().to_owned()
    };
    (name.to_owned(), fields.map(field).collect())
}

/// Splits the arguments of a call at the commas between them; the text begins after the opening parenthesis.
fn arguments(call: &str) -> Vec<String> {
    let (mut arguments, mut depth, mut in_string, mut escaped) = (vec![String::new()], 1, false, false);
    for c in call.chars() {
        match c {
            '"' if !escaped => in_string = !in_string,
            '(' | '[' | '{' if !in_string => depth += 1,
            ')' | ']' | '}' if !in_string => depth -= 1,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
        match (depth, c) {
            (0, _) => break,
            (1, ',') if !in_string => arguments.push(String::new()),
            _ => arguments.last_mut().unwrap().push(c),
        }
    }
    arguments.iter().map(|argument| argument.trim().to_owned()).collect()
}
