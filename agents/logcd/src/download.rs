//! Serves one log of an archive as a download, unpacked block by block. Log content is for this host only.

use crate::archive::member;
use crate::archive::reader::ArchiveReader;
use crate::archive_dir::ArchiveDir;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::day::{archive_name, day_of};
use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kit::page::access::Access;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::{ReaderStream, SyncIoBridge};

/// Limit on the downloads at once, because each holds a thread and an index in memory.
const DOWNLOADS_MAX: usize = 2;
const BUFFER_BYTES: usize = 256 << 10;
const NAME_CHARACTERS_MAX: usize = 100;

#[derive(Debug, Deserialize)]
struct DownloadQuery {
    archive: String,
    /// Position among the archive's entries, as the page lists them.
    entry: usize,
}

/// The archive and its index, and the number of an entry in it.
struct Download {
    reader: ArchiveReader,
    entry: usize,
}

/// Returns the route for downloads. Only this host may use it; with `--page-token` it must know the token,
/// too.
pub fn routes(out: Arc<Path>, access: &Access) -> Router {
    let downloads = Arc::new(Semaphore::new(DOWNLOADS_MAX));
    let download = async move |Query(wanted): Query<DownloadQuery>| -> Response {
        let Ok(permit) = downloads.clone().try_acquire_owned() else {
            let message = format!("{DOWNLOADS_MAX} downloads are under way already; try again later\n");
            return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
        };
        let out = out.clone();
        match tokio::task::spawn_blocking(move || find(&out, &wanted)).await {
            Ok(Some(found)) => send(found, permit),
            _ => (StatusCode::NOT_FOUND, "there is no such log in a readable archive\n").into_response(),
        }
    };
    let here = Access::default().guard(Router::new().route("/page/log", get(download)));
    access.clone().guard(here)
}

fn find(out: &Path, wanted: &DownloadQuery) -> Option<Download> {
    let (day, codec) = day_of(&wanted.archive)?;
    let dir = ArchiveDir::at(out).ok()?;
    let mut archive = IndexedArchive::load_while_published(&dir, day, codec).ok()??;
    let file = archive.open(&dir).ok()??;
    archive.entries().get(wanted.entry)?;
    let path = out.join(archive_name(day, codec));
    Some(Download { reader: ArchiveReader { file, path, index: Some(archive.index) }, entry: wanted.entry })
}

/// Sends the log. Announces its length, so that an interrupted download is not mistaken for a complete one.
fn send(Download { reader, entry }: Download, permit: OwnedSemaphorePermit) -> Response {
    let Some(index) = &reader.index else { return StatusCode::NOT_FOUND.into_response() };
    let Some(wanted) = index.entries.get(entry).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_LENGTH, wanted.size().to_string()),
        (header::CONTENT_DISPOSITION, disposition(&member::path(&index.prefix, &wanted.name))),
    ];
    let (sending, receiving) = tokio::io::duplex(BUFFER_BYTES);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        if let Err(error) = reader.copy_entry(&wanted, &mut SyncIoBridge::new(sending)) {
            tracing::debug!(
                event = "download_interrupted",
                archive = %reader.path.display(),
                %error,
                "the download was interrupted"
            );
        }
    });
    (headers, Body::from_stream(ReaderStream::with_capacity(receiving, BUFFER_BYTES))).into_response()
}

/// Builds a file name of harmless characters from the last part of the log's path.
fn disposition(path: &[u8]) -> String {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let plain = |byte: &u8| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(byte) { char::from(*byte) } else { '_' }
    };
    let name: String = last.iter().take(NAME_CHARACTERS_MAX).map(plain).collect();
    format!("attachment; filename=\"{}\"", name.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_has_harmless_characters_only() {
        assert_eq!(disposition(b"var/log/api.log"), "attachment; filename=\"api.log\"");
        assert_eq!(disposition(b"var/log/..\"; x\r\n.log"), "attachment; filename=\"___x__.log\"");
    }
}
