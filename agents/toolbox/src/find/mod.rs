//! `find`, as far as searching for files in a container needs it. The crate findutils is not used: its two
//! engines for regular expressions are a third of the whole binary.

mod expression;
mod walk;

use expression::Expression;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

const HELP: &str = "\
Usage: find [PATH]… [EXPRESSION]
Tests:   -name PATTERN  -iname PATTERN  -path PATTERN  -type f|d|l|p|s|b|c  -size [+-]N[cwbkMG]  -empty
         -mmin [+-]N  -mtime [+-]N  -newer FILE
Actions: -print  -print0  -delete  -prune  -exec COMMAND… ;
Joined:  ( … )  ! -not  -a -and  -o -or    Everywhere: -maxdepth N  -mindepth N
";

pub fn main(argv: Vec<OsString>) -> i32 {
    let mut words = argv.into_iter().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--help") {
        return i32::from(io::stdout().write_all(HELP.as_bytes()).is_err());
    }
    let mut starts = Vec::new();
    while let Some(word) = words.next_if(|word| !expression::begins_with(word)) {
        starts.push(PathBuf::from(word));
    }
    if starts.is_empty() {
        starts.push(PathBuf::from("."));
    }
    match Expression::parse(words.collect()) {
        Ok(expression) => {
            let mut walk = walk::Walk::new(&expression, BufWriter::new(io::stdout().lock()));
            for start in &starts {
                walk.visit(start, 0);
            }
            i32::from(!walk.succeeded())
        }
        Err(why) => {
            complain(&why);
            1
        }
    }
}

/// Prints a line on stderr.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "find: {what}");
}
