//! The daemon's own log: one event a line on stderr, plain or JSON.

use crate::exit::{Exit, Fatal};
use std::fmt::Debug;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The format of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, message, fields
    Plain,
    /// For machines: one JSON object per line
    Json,
}

static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn filter(level: &str) -> Result<EnvFilter, Fatal> {
    EnvFilter::try_new(level).map_err(|e| {
        Fatal::new(
            Exit::Usage,
            format!("--log-level {level:?} is not a level; examples: info, or info,logd=debug"),
        )
        .because(e)
    })
}

/// Starts the log of the process. A second call only sets the level.
pub fn start(level: &str, format: LogFormat) -> Result<(), Fatal> {
    if LEVEL.get().is_some() {
        return set_level(level);
    }
    let (level, handle) = reload::Layer::new(filter(level)?);
    let colour = crate::terminal::colour::is_wanted(std::io::stderr().is_terminal());
    let plain = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let registry = tracing_subscriber::registry().with(level);
    let started = match format {
        LogFormat::Plain => registry
            .with(plain.with_target(false).fmt_fields(debug_fn(plain_field).delimited(" ")))
            .try_init(),
        LogFormat::Json => {
            registry.with(plain.with_ansi(false).json().flatten_event(true).with_target(false)).try_init()
        }
    };
    started.map_err(|e| Fatal::new(Exit::System, "cannot start logging").because(e))?;
    let _ = LEVEL.set(handle);
    Ok(())
}

/// Writes the message or one field. A value of one word gets no quotes, so that `event=ready` is easy to read
/// and to search for.
fn plain_field(out: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let text = format!("{value:?}");
    if field.name() == "message" {
        return write_escaped(out, &text);
    }
    let (name, equals) = match out.has_ansi_escapes() {
        true => (format!("\x1b[3m{}\x1b[0m", field.name()), "\x1b[2m=\x1b[0m"),
        false => (field.name().to_owned(), "="),
    };
    write!(out, "{name}{equals}")?;
    write_escaped(out, word(&text).unwrap_or(&text))
}

/// Returns a quoted string without its quotes, if it is one word without escapes.
fn word(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let is_word = !inner.is_empty() && !inner.contains(|c: char| c.is_whitespace() || "\"\\=".contains(c));
    is_word.then_some(inner)
}

/// Writes text with its control characters escaped: a peer's text must not move a terminal's cursor or begin
/// a line.
fn write_escaped(out: &mut Writer<'_>, text: &str) -> std::fmt::Result {
    text.chars().try_for_each(|c| match c.is_control() {
        true => write!(out, "{}", c.escape_default()),
        false => out.write_char(c),
    })
}

/// Changes the level of the running process.
pub fn set_level(level: &str) -> Result<(), Fatal> {
    let filter = filter(level)?;
    if let Some(handle) = LEVEL.get() {
        let failed = |e| Fatal::new(Exit::System, "cannot change the log level").because(e);
        handle.reload(filter).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_lose_their_quotes() {
        for (text, expected) in [
            (r#""ready""#, Some("ready")),
            (r#""127.0.0.1:6666""#, Some("127.0.0.1:6666")),
            (r#""two words""#, None),
            (r#""a=b""#, None),
            (r#""\u{1b}[0m""#, None),
            (r#""""#, None),
            ("7", None),
            ("[1, 2]", None),
        ] {
            assert_eq!(word(text), expected, "{text}");
        }
    }
}
