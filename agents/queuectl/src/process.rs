//! Runs one item's command, and decides the item's result from the command's end.

use crate::children::{Child, Children, CommandEnd};
use crate::flags::Run;
use crate::invocation;
use crate::last_line::{LastLine, shortened};
use crate::output::{Echo, pass};
use crate::wire::Item;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const REASON_BYTES_MAX: usize = 1024;
/// The variable that names the queue of this process, unless `-q` does.
const QUEUE_VARIABLE: &str = "QUEUECTL_QUEUE";
/// The time for reading output that is still in the pipes after the signal to stop.
const LAST_OUTPUT_WITHIN: Duration = Duration::from_secs(1);
/// Pause before the next start when the system is short of processes or memory.
const PAUSE_AFTER_SHORTAGE: Duration = Duration::from_secs(1);

/// The result that the server gets for an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Conclusion {
    Ack,
    Nack(String),
    /// Releases the item at once without counting the attempt: it was not the item's fault.
    Release,
    /// No result is sent: the lease expired, and another worker may have the item.
    Lost,
}

/// The reason why the wait for a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Itself,
    Timeout(Duration),
    Stopped,
    Lost,
}

/// Everything that is needed to run a command.
pub(crate) struct Workshop {
    pub(crate) children: Children,
    pub(crate) echo: [Echo; 2],
    pub(crate) stop: Stop,
    /// The time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
}

impl Workshop {
    /// Runs the command for one item. Fails only if every other item would fail in the same way.
    pub(crate) async fn process(
        &self,
        run: &Run,
        item: &Item,
        lost: &CancellationToken,
    ) -> Result<Conclusion, Fatal> {
        let mut command = match command(run, item) {
            Ok(command) => command,
            Err(why) => return Ok(Conclusion::Nack(format!("cannot be an argument of the command: {why}"))),
        };
        let (child, process) = match self.children.spawn(&mut command) {
            Ok(started) => started,
            Err(error) => return self.not_started(run, error).await,
        };
        let last_line = Arc::new(Mutex::new(LastLine::default()));
        let (cause, ended) = self.supervise(run, item, child, process, lost, &last_line).await?;
        let line = last_line.lock().unwrap_or_else(PoisonError::into_inner).line();
        tracing::debug!(
            event = "command_ended",
            item = item.id,
            attempt = item.attempt,
            ?cause,
            ?ended,
            "the command ended"
        );
        Ok(concluded(cause, ended, line))
    }

    async fn not_started(&self, run: &Run, error: io::Error) -> Result<Conclusion, Fatal> {
        let code = match error.kind() {
            io::ErrorKind::NotFound => 127,
            io::ErrorKind::ArgumentListTooLong => {
                return Ok(Conclusion::Nack(format!("the command cannot be run with this item: {error}")));
            }
            _ if [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE]
                .iter()
                .any(|short| error.raw_os_error() == Some(*short as i32)) =>
            {
                tracing::error!(
                    event = "command_start_failed",
                    %error,
                    "cannot start the command now: released the item"
                );
                self.stop.drain.run_until_cancelled(sleep(PAUSE_AFTER_SHORTAGE)).await;
                return Ok(Conclusion::Release);
            }
            _ => 126,
        };
        let program = run.command.first().map(|program| program.display().to_string()).unwrap_or_default();
        Err(Fatal::new(Exit::Command(code), format!("cannot run {program}")).because(error))
    }

    async fn supervise(
        &self,
        run: &Run,
        item: &Item,
        mut child: Child,
        mut process: std::process::Child,
        lost: &CancellationToken,
        last_line: &Arc<Mutex<LastLine>>,
    ) -> Result<(Cause, CommandEnd), Fatal> {
        let system = |e| Fatal::new(Exit::System, "cannot use a command's pipes").because(e);
        let over = CancellationToken::new();
        let stdin = process.stdin.take().map(OwnedFd::from);
        let [out, err] = [process.stdout.take().map(OwnedFd::from), process.stderr.take().map(OwnedFd::from)];
        let pass = |pipe: Option<OwnedFd>, stream: usize| {
            let (echo, last_line, over) = (self.echo[stream].clone(), last_line.clone(), over.clone());
            async move {
                match pipe {
                    Some(pipe) => pass(pipe, stream, echo, last_line, over).await,
                    None => Ok(()),
                }
            }
        };
        let mut passing = std::pin::pin!(async { tokio::try_join!(pass(out, 0), pass(err, 1)) });
        let mut passed = None;
        let mut feeding = std::pin::pin!(async {
            give(stdin, item.body.bytes()).await;
            std::future::pending::<()>().await;
        });
        let end = {
            let mut end = std::pin::pin!(self.await_end(run.timeout, &mut child, lost));
            loop {
                tokio::select! {
                    biased;
                    end = &mut end => break end,
                    result = &mut passing, if passed.is_none() => passed = Some(result),
                    () = &mut feeding => {}
                }
            }
        };
        over.cancel();
        let passed = match passed {
            Some(result) => result,
            None => tokio::select! {
                result = passing => result,
                () = async { self.stop.drain.cancelled().await; sleep(LAST_OUTPUT_WITHIN).await } => Ok(((), ())),
            },
        };
        passed.map(|_| end).map_err(system)
    }

    /// Waits for the command's end, and stops it on a timeout, a lost lease or a signal.
    async fn await_end(
        &self,
        time: Option<Duration>,
        child: &mut Child,
        lost: &CancellationToken,
    ) -> (Cause, CommandEnd) {
        let time_over = async {
            match time {
                Some(time) => {
                    sleep(time).await;
                    time
                }
                None => std::future::pending().await,
            }
        };
        let cause = tokio::select! {
            biased;
            ended = child.ended() => {
                // Stopped by the signal that ends this process, even if the rest of the process has not
                // noticed it yet.
                let cause = if child.was_told_to_stop() { Cause::Stopped } else { Cause::Itself };
                return (cause, ended);
            }
            () = lost.cancelled() => Cause::Lost,
            () = self.stop.drain.cancelled() => Cause::Stopped,
            time = time_over => Cause::Timeout(time),
        };
        child.ask_to_stop();
        let ended = match timeout(self.grace, child.ended()).await {
            Ok(ended) => {
                // The signal also reached the processes that the command left running.
                child.kill();
                ended
            }
            Err(_) => {
                child.kill();
                child.ended().await
            }
        };
        (cause, ended)
    }
}

fn command(run: &Run, item: &Item) -> Result<Command, invocation::NotAWord> {
    let [program, arguments @ ..] = run.command.as_slice() else { return Ok(Command::new("")) };
    let bytes = item.body.bytes();
    let mut command = Command::new(program);
    command.args(invocation::arguments(arguments, &run.replace, bytes)?);
    // A queuectl in the command must name its queue: its pushes would feed the queue that it works on.
    command.env_remove(QUEUE_VARIABLE);
    command.env("ITEM_ID", &item.id).env("ITEM_ATTEMPT", item.attempt.to_string());
    match invocation::word(bytes) {
        Ok(word) => command.env("ITEM", word),
        Err(why) => {
            tracing::warn!(
                event = "item_only_on_stdin",
                item = item.id,
                %why,
                "the item is only on stdin, $ITEM cannot hold it"
            );
            command.env_remove("ITEM")
        }
    };
    match &item.key {
        Some(key) if !key.contains('\0') => command.env("ITEM_KEY", key),
        _ => command.env_remove("ITEM_KEY"),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Writes the item to the command's stdin. A command need not read it.
async fn give(stdin: Option<OwnedFd>, item: &[u8]) {
    let Some(stdin) = stdin else { return };
    match pipe::Sender::from_file(File::from(stdin)) {
        Ok(mut pipe) => match pipe.write_all(item).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                tracing::warn!(
                    event = "stdin_write_failed",
                    %error,
                    "cannot write the item to the command's stdin"
                );
            }
            _ => {}
        },
        Err(error) => tracing::warn!(
            event = "stdin_write_failed",
            %error,
            "cannot write the item to the command's stdin"
        ),
    }
}

fn concluded(cause: Cause, ended: CommandEnd, line: Option<String>) -> Conclusion {
    match (cause, ended) {
        (Cause::Lost, _) => Conclusion::Lost,
        // Release the item whatever the exit code: many commands exit with 0 on SIGTERM, with their work half
        // done.
        (Cause::Stopped, _) => Conclusion::Release,
        (Cause::Itself, CommandEnd::Code(0)) => Conclusion::Ack,
        (Cause::Itself, CommandEnd::Code(code)) => {
            Conclusion::Nack(line.unwrap_or(format!("exit code {code}")))
        }
        (Cause::Itself, CommandEnd::Signal(signal)) => {
            Conclusion::Nack(line.unwrap_or(format!("killed by {signal}")))
        }
        (Cause::Timeout(time), _) => {
            let said = line.map(|line| format!(": {line}")).unwrap_or_default();
            let reason = format!("stopped after {}{said}", humantime::format_duration(time));
            Conclusion::Nack(shortened(reason, REASON_BYTES_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;

    #[test]
    fn only_a_command_that_ended_by_itself_with_0_is_done() {
        let of = |cause, ended, line: Option<&str>| concluded(cause, ended, line.map(str::to_owned));
        let nack = |reason: &str| Conclusion::Nack(reason.to_owned());
        let (good, bad, killed) =
            (CommandEnd::Code(0), CommandEnd::Code(3), CommandEnd::Signal(Signal::SIGKILL));
        assert_eq!(of(Cause::Itself, good, Some("x")), Conclusion::Ack);
        assert_eq!(of(Cause::Itself, bad, Some("no such file")), nack("no such file"));
        assert_eq!(of(Cause::Itself, bad, None), nack("exit code 3"));
        assert_eq!(of(Cause::Itself, killed, None), nack("killed by SIGKILL"));
        for ended in [good, bad, killed] {
            assert_eq!(of(Cause::Stopped, ended, None), Conclusion::Release);
            assert_eq!(of(Cause::Lost, ended, None), Conclusion::Lost);
            let timeout = Cause::Timeout(Duration::from_secs(90));
            assert_eq!(of(timeout, ended, Some("half")), nack("stopped after 1m 30s: half"));
        }
    }
}
