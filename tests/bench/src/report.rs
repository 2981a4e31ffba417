//! The results as tables for a terminal, the same as Markdown, and one page with plots, in target/bench.

use anyhow::Context;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

const DIRECTORY: &str = "target/bench";

#[derive(Debug)]
pub enum Cell {
    Number { value: f64, decimals: usize },
    Text(String),
    Empty,
}

impl Cell {
    pub fn number(value: f64, decimals: usize) -> Cell {
        if value.is_finite() { Cell::Number { value, decimals } } else { Cell::Empty }
    }

    fn text(&self) -> String {
        match self {
            Cell::Number { value, decimals } => format!("{value:.decimals$}"),
            Cell::Text(text) => text.clone(),
            Cell::Empty => String::new(),
        }
    }
}

/// One contest with a row for each contender. The first column is plotted.
#[derive(Debug)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Cell>)>,
}

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Table { title: title.to_owned(), columns, rows: Vec::new() }
    }

    pub fn row(&mut self, name: &str, cells: Vec<Cell>) {
        self.rows.push((name.to_owned(), cells));
    }

    fn markdown(&self) -> String {
        let mut text = format!("| {} |", self.title);
        text += &self.columns.iter().map(|column| format!(" {column} |")).collect::<String>();
        text += &format!("\n|---|{}\n", "---:|".repeat(self.columns.len()));
        for (name, cells) in &self.rows {
            let cells: String = cells.iter().map(|cell| format!(" {} |", cell.text())).collect();
            text += &format!("| {name} |{cells}\n");
        }
        text
    }

    fn html(&self) -> String {
        let heads: String = self.columns.iter().map(|column| format!("<th>{}", escaped(column))).collect();
        let mut text = format!("<h3>{}</h3>\n", escaped(&self.title));
        text += &self.plot();
        text += &format!("<table><tr><th>{heads}\n");
        for (name, cells) in &self.rows {
            let cells: String = cells.iter().map(|cell| format!("<td>{}", escaped(&cell.text()))).collect();
            text += &format!("<tr><th>{}{cells}\n", escaped(name));
        }
        text + "</table>\n"
    }

    /// Draws a bar for each contender.
    fn plot(&self) -> String {
        let value = |cells: &[Cell]| match cells.first() {
            Some(Cell::Number { value, .. }) => *value,
            _ => 0.0,
        };
        let most = self.rows.iter().map(|(_, cells)| value(cells)).fold(0.0, f64::max);
        let (Some(column), true) = (self.columns.first(), most > 0.0) else { return String::new() };
        let mut text = String::new();
        let mut y = 0;
        for (name, cells) in &self.rows {
            let width = value(cells) / most * 420.0;
            let _ = writeln!(
                text,
                "<text class=name x=170 y={at}>{name}</text><rect x=180 y={y} width={width:.1} height=16 />\
                 <text x={end:.1} y={at}>{figure}</text>",
                at = y + 13,
                name = escaped(name),
                end = 186.0 + width,
                figure = escaped(&cells.first().map_or_else(String::new, Cell::text)),
            );
            y += 22;
        }
        let label = format!("{}, {column}", self.title);
        format!("<svg viewBox=\"0 0 680 {y}\" role=img aria-label=\"{}\">\n{text}</svg>\n", escaped(&label))
    }
}

/// All contests of an agent.
#[derive(Debug)]
pub struct Report {
    agent: &'static str,
    about: &'static str,
    notes: Vec<String>,
    tables: Vec<Table>,
}

impl Report {
    pub fn new(agent: &'static str, about: &'static str) -> Report {
        Report { agent, about, notes: Vec::new(), tables: Vec::new() }
    }

    pub fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Prints the report and writes it next to those of the other agents.
    pub fn finish(&self) -> anyhow::Result<()> {
        let markdown = self.markdown();
        write!(std::io::stdout(), "\n{markdown}")?;
        let directory = Path::new(DIRECTORY);
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {DIRECTORY}"))?;
        std::fs::write(directory.join(self.agent).with_extension("md"), markdown)?;
        std::fs::write(directory.join(self.agent).with_extension("part.html"), self.html())?;
        let page = directory.join("index.html");
        std::fs::write(&page, format!("{HEAD}{}", all("part.html")?))?;
        std::fs::write(directory.join("summary.md"), all("md")?)?;
        writeln!(
            std::io::stderr(),
            "{} has this with plots, {DIRECTORY}/summary.md as text",
            page.display()
        )?;
        Ok(())
    }

    fn markdown(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("- {note}\n")).collect();
        let tables: Vec<String> = self.tables.iter().map(Table::markdown).collect();
        format!("## {}: {}\n\n{notes}\n{}\n", self.agent, self.about, tables.join("\n"))
    }

    fn html(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("<li>{}\n", escaped(note))).collect();
        let tables: String = self.tables.iter().map(Table::html).collect();
        format!("<h2>{}: {}</h2>\n<ul>{notes}</ul>\n{tables}", self.agent, escaped(self.about))
    }
}

/// Joins the files of every agent's last run.
fn all(kind: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    for agent in ["logd", "logcd", "logcd-pods", "logcd-day", "queued"] {
        let path = Path::new(DIRECTORY).join(agent).with_extension(kind);
        if path.exists() {
            text += &std::fs::read_to_string(path)?;
        }
    }
    Ok(text)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

const HEAD: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<title>nodecrew, side by side</title>
<style>
  :root { color-scheme: light dark; --bar: #2a6db0; }
  @media (prefers-color-scheme: dark) { :root { --bar: #6fb0ee; } }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  table { border-collapse: collapse; display: block; overflow-x: auto; margin-bottom: 2rem; }
  th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; font-weight: normal; }
  th:first-child { text-align: left; }
  svg { max-width: 44rem; width: 100%; font-size: 13px; fill: currentColor; }
  rect { fill: var(--bar); }
  .name { text-anchor: end; }
</style>
<h1>nodecrew, side by side</h1>
<p>The same work in the same run, contenders in turns, the median round. Figures of different machines do not compare; ratios do.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("a <b>", &["CPU", "pace"]);
        table.row("one & only", vec![Cell::number(1.5, 2), Cell::Text("<fast>".to_owned())]);
        table.row("other", vec![Cell::number(3.0, 2), Cell::number(f64::NAN, 1)]);
        table
    }

    #[test]
    fn table_is_the_same_in_both_forms() {
        assert_eq!(
            table().markdown(),
            "| a <b> | CPU | pace |\n|---|---:|---:|\n| one & only | 1.50 | <fast> |\n| other | 3.00 |  |\n"
        );
        let html = table().html();
        assert!(
            html.contains("<tr><th>one &amp; only<td>1.50<td>&lt;fast>\n<tr><th>other<td>3.00<td>\n"),
            "{html}"
        );
    }

    #[test]
    fn bar_length_is_relative_to_the_largest() {
        let plot = table().plot();
        assert!(plot.contains("width=210.0 ") && plot.contains("width=420.0 "), "{plot}");
        assert!(plot.contains(">1.50</text>") && plot.contains("aria-label=\"a &lt;b>, CPU\""), "{plot}");
    }
}
