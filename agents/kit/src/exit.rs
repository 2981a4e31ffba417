//! Exit codes, which supervisors, scripts and a Job's podFailurePolicy rely on.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// The reason why the process ended. The numbers are those of sysexits(3) where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; also `--help`, `--version`, and a reader that closed its pipe early.
    Ok,
    /// A failure that a retry will meet again.
    Failure,
    /// A flag that does not exist or whose value is invalid.
    Usage,
    /// The work is over, but some of its items failed.
    Data,
    /// The system refused: a socket, a thread, a signal handler.
    System,
    /// Not now: held by another process, or stopped before everything was handed over.
    TryAgain,
    /// A configuration file, environment variable, certificate or key that cannot be used.
    Config,
    /// The exit code of a command that was run on the caller's behalf.
    Command(u8),
}

impl Exit {
    /// The number that the parent process sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 64,
            Exit::Data => 65,
            Exit::System => 71,
            Exit::TryAgain => 75,
            Exit::Config => 78,
            Exit::Command(code) => code,
        }
    }
}

impl From<()> for Exit {
    fn from((): ()) -> Exit {
        Exit::Ok
    }
}

/// An error that ends the process: the failed action and its cause. The cause is kept apart and printed once.
#[derive(Debug)]
pub struct Fatal {
    exit: Exit,
    message: String,
    /// True if the message is a page of help, printed as it is.
    page: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fatal {
    pub fn new(exit: Exit, message: impl Into<String>) -> Fatal {
        Fatal { exit, message: message.into(), page: false, source: None }
    }

    /// A page of help instead of a message, if a command line cannot be understood without it.
    pub fn page(exit: Exit, text: impl Into<String>) -> Fatal {
        Fatal { page: true, ..Fatal::new(exit, text) }
    }

    /// Adds the cause, printed after the message.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Fatal {
        self.source = Some(source.into());
        self
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Message and causes on one line.
    pub fn one_line(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        if self.exit == Exit::Ok { line } else { line.replace('\n', " ") }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fatal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// Turns the result into the exit code, as the last line of every `main`. An error is one line on stderr;
/// help and version go to stdout.
pub fn report(program: &str, result: Result<impl Into<Exit>, Fatal>) -> ExitCode {
    let exit = match result {
        Ok(done) => done.into(),
        Err(fatal) if fatal.exit == Exit::Ok => {
            // A reader that closed the pipe (`logd --help | head -1`) is not a failure.
            let _ = std::io::stdout().lock().write_all(fatal.one_line().as_bytes());
            Exit::Ok
        }
        Err(fatal) if fatal.page => {
            let _ = std::io::stderr().lock().write_all(fatal.message.as_bytes());
            fatal.exit
        }
        Err(fatal) => {
            let _ = writeln!(std::io::stderr().lock(), "{program}: {}", fatal.one_line());
            fatal.exit
        }
    };
    ExitCode::from(exit.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes =
            [Exit::Ok, Exit::Failure, Exit::Usage, Exit::Data, Exit::System, Exit::TryAgain, Exit::Config];
        assert_eq!(codes.map(Exit::code), [0, 1, 64, 65, 71, 75, 78]);
        assert_eq!(Exit::Command(7).code(), 7);
    }

    #[test]
    fn causes_are_printed_once() {
        let cause = std::io::Error::other("first\nsecond");
        let fatal = Fatal::new(Exit::Config, "/etc/logd.toml cannot be read").because(cause);
        assert_eq!(fatal.one_line(), "/etc/logd.toml cannot be read: first second");
    }
}
