//! The programs that `kubectl exec` and `kubectl cp` need, in one binary. A link named after one of them runs
//! that program.

mod date;
mod find;
mod tar;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// A program and its name, which is the first word of its command line.
struct Applet {
    name: &'static str,
    run: fn(Vec<OsString>) -> i32,
}

const APPLETS: [Applet; 10] = [
    Applet { name: "cat", run: |argv| uu_cat::uumain(argv.into_iter()) },
    Applet { name: "date", run: date::main },
    Applet { name: "expr", run: |argv| uu_expr::uumain(argv.into_iter()) },
    Applet { name: "find", run: find::main },
    Applet { name: "head", run: |argv| uu_head::uumain(argv.into_iter()) },
    Applet { name: "ls", run: |argv| uu_ls::uumain(argv.into_iter()) },
    Applet { name: "tail", run: |argv| uu_tail::uumain(argv.into_iter()) },
    Applet { name: "tar", run: |argv| tar::main(&argv) },
    Applet { name: "test", run: |argv| uu_test::uumain(argv.into_iter()) },
    Applet { name: "wc", run: |argv| uu_wc::uumain(argv.into_iter()) },
];

const USAGE_ERROR: u8 = 64;

fn main() -> ExitCode {
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    let applet = argv.first().and_then(|name| named(name)).or_else(|| {
        argv = argv.split_off(1.min(argv.len()));
        argv.first().and_then(|name| named(name))
    });
    match (applet, argv.first().and_then(|word| word.to_str())) {
        (Some(applet), _) => run(applet, argv),
        (None, Some("--version")) => say(concat!("toolbox ", env!("CARGO_PKG_VERSION"), "\n")),
        (None, Some("--help")) => say(&usage()),
        (None, _) => {
            let _ = std::io::stderr().write_all(usage().as_bytes());
            ExitCode::from(USAGE_ERROR)
        }
    }
}

fn named(word: &OsStr) -> Option<&'static Applet> {
    let name = Path::new(word).file_name()?;
    APPLETS.iter().find(|applet| name == applet.name)
}

fn run(applet: &Applet, argv: Vec<OsString>) -> ExitCode {
    // Load the messages of the uu_ crates, which would otherwise print the messages' names.
    if let Err(error) = uucore::locale::setup_localization(applet.name) {
        let _ = writeln!(std::io::stderr(), "{}: {error}", applet.name);
    }
    // A reader that closes the pipe ends a filter, as everywhere.
    let _ = uucore::signals::enable_pipe_errors();
    let code = (applet.run)(argv);
    let flushed = std::io::stdout().flush().is_ok();
    match u8::try_from(code) {
        Ok(0) if !flushed => ExitCode::FAILURE,
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn usage() -> String {
    let names = APPLETS.map(|applet| applet.name).join(", ");
    format!("Usage: toolbox PROGRAM [ARGUMENT]…, or a link to it named PROGRAM.\nPrograms: {names}\n")
}
