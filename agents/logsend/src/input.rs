//! Reads lines from one of three inputs: stdin, a command, a clock.

use crate::command::RunningCommand;
use crate::flags::Flags;
use crate::greeting;
use crate::sink::Sink;
use crate::stream::LineStream;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::identity::Identity;
use kit::lifecycle::stop::Stop;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(crate) enum Input {
    Stdin(LineStream),
    Command(RunningCommand),
    Greetings { every: Duration, name: String },
}

impl Input {
    /// Opens the input that the flags ask for. A command is started here.
    pub(crate) fn open(flags: &Flags) -> Result<Input, Fatal> {
        if let Some(every) = flags.greet {
            return Ok(Input::Greetings { every, name: Identity::of_this_process().name });
        }
        if !flags.command.is_empty() {
            return RunningCommand::start(&flags.command, flags.max_line, flags.tee).map(Input::Command);
        }
        let echo = flags.tee.then(|| Box::new(io::stdout()) as Box<dyn io::Write>);
        let stream = io::stdin().as_fd().try_clone_to_owned();
        let stream = stream.and_then(|stdin| LineStream::new(stdin, flags.max_line, echo));
        stream.map(Input::Stdin).map_err(|e| Fatal::new(Exit::System, "cannot read stdin").because(e))
    }

    /// Feeds `sink` until the input ends or a stop is requested. A command gets the signal and ends by
    /// itself.
    pub(crate) async fn feed(&mut self, sink: &impl Sink, stop: &Stop) {
        match self {
            Input::Stdin(stream) => stream.pump(sink, &stop.drain).await,
            Input::Command(command) => command.feed(sink, stop).await,
            Input::Greetings { every, name } => greet(*every, name, sink, &stop.drain).await,
        }
    }

    /// Ends the input immediately. Bytes that were read reach the sink; a command that still runs is killed.
    /// Returns the command's exit code.
    pub(crate) fn close(&mut self, sink: &impl Sink) -> Exit {
        match self {
            Input::Stdin(stream) => stream.close(sink),
            Input::Command(command) => return command.close(sink),
            Input::Greetings { .. } => {}
        }
        Exit::Ok
    }
}

async fn greet(every: Duration, name: &str, sink: &impl Sink, quit: &CancellationToken) {
    let mut clock = tokio::time::interval(every);
    // After a time without room, send one greeting, not all that were missed.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let next = async |clock: &mut tokio::time::Interval| {
        clock.tick().await;
        sink.room().await;
    };
    while quit.run_until_cancelled(next(&mut clock)).await.is_some() {
        sink.line(greeting::greeting(&greeting::now(), name).as_bytes());
        sink.lines_came();
    }
}
