//! Where lines go to: the delivery to logd, or a file.

/// Takes whole lines, each with its newline. Everything runs on one thread, so `&self` is enough.
pub(crate) trait Sink {
    /// Returns when more may be read; until then the writer is held up.
    async fn room(&self);

    /// Takes a line; called only after `room`, a chunk's worth at a time.
    fn line(&self, line: &[u8]);

    /// Some lines were taken and no more come at this moment.
    fn lines_came(&self);
}
