//! The destination of lines: the delivery to logd, or a file.

/// Takes whole lines, each with its newline. Everything runs on one thread, so `&self` is enough.
pub(crate) trait Sink {
    /// Returns when more may be read. Until then the writer waits.
    async fn room(&self);

    /// Takes a line. Must be called only after `room`, for at most one chunk of lines at a time.
    fn line(&self, line: &[u8]);

    /// Ends a chunk of lines: no more come for now.
    fn lines_came(&self);
}
