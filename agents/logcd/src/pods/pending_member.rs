//! Entries that are not compressed yet. They become one member of an archive, so all are of one namespace.

use crate::archive::header::{self, Meta, TAR_BLOCK};
use crate::pods::place::{ContainerDir, LogName};
use crate::pods::veil::Span;

/// The size of a member before compression. Members of this size take 2 % more space than a single large one,
/// but a reader unpacks only the members that it needs.
const MEMBER_BYTES: usize = 256 * 1024;

#[derive(Default)]
pub struct PendingMember {
    pub tar: Vec<u8>,
    pub span: Span,
    /// The container of the last entry. `None` if there is no entry.
    last: Option<ContainerDir>,
    /// The container whose lines end the previous member.
    previous: Option<ContainerDir>,
    /// True if this member begins with the container that ended the previous one. Then this member holds only
    /// that container. Lines of the next one may be hours older, and their reader would have to read these,
    /// too.
    is_continued: bool,
}

impl PendingMember {
    /// Returns the namespace of the entries; `None` if there is no entry.
    pub fn namespace(&self) -> Option<&str> {
        self.last.as_ref().map(|last| last.pod.namespace.as_str())
    }

    /// True if this many bytes of lines may follow in the same member.
    pub fn takes(&self, dir: &ContainerDir, bytes: usize) -> bool {
        let Some(last) = &self.last else { return true };
        let is_other_namespace = last.pod.namespace != dir.pod.namespace;
        let is_at_an_end = self.is_continued && last != dir;
        let is_full = self.tar.len() + bytes > MEMBER_BYTES;
        !is_other_namespace && !is_at_an_end && !is_full
    }

    /// Adds an entry with this number.
    pub fn add(
        &mut self,
        dir: &ContainerDir,
        log: &LogName,
        number: u64,
        meta: &Meta,
        span: Span,
        lines: &[u8],
    ) {
        if self.last.is_none() {
            self.is_continued = self.previous.as_ref() == Some(dir);
        }
        if self.last.as_ref() != Some(dir) {
            self.last = Some(dir.clone());
        }
        // The number keeps the entries of a container in order of time, even across restarts.
        let name = format!("{dir}/{number:010}.{}.log", log.restart);
        self.tar.extend(header::encode(name.as_bytes(), meta, lines.len() as u64));
        self.tar.extend(lines);
        self.tar.resize(self.tar.len().next_multiple_of(TAR_BLOCK), 0);
        self.span = match (self.span, span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }

    /// Empties the member after it was written.
    pub fn written(&mut self) {
        self.previous = self.last.take();
        self.clear();
    }

    /// Drops the entries.
    pub fn clear(&mut self) {
        self.tar.clear();
        self.span = None;
        self.last = None;
    }
}
