//! `/v1/backup`: a snapshot of all keys, as lines of JSON.

use super::tokens::KeyRight;
use super::value_text::KeyObject;
use super::{Doors, store_error};
use crate::keyspace::LiveSnapshot;
use crate::store::contract::StoreError;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kit::http::error_answer::ErrorAnswer;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Limit on concurrent backups: each keeps old pages of the store on the disk, or old values in memory.
pub const BACKUPS_MAX: usize = 2;

/// Limit on the duration of a backup. While it is read, the log on the disk or old values in memory grow.
const BACKUP_WITHIN: Duration = Duration::from_secs(3600);

/// Bytes of keys and values that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Sends a backup. The first line describes it, and each further line is a key. The last line has the number
/// of keys: a backup without it is incomplete.
pub async fn backup(State(doors): State<Doors>, headers: HeaderMap) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, KeyRight::Admin)?;
    let permit = doors.backups.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{BACKUPS_MAX} backups are being read already; try again later");
        ErrorAnswer::new(StatusCode::TOO_MANY_REQUESTS, "too_many_backups", message)
    })?;
    let snapshot = doors.keyspace.snapshot().await.map_err(|error| store_error(&error))?;
    let ends = Instant::now() + BACKUP_WITHIN;
    let progress = BackupProgress { part: BackupPart::Begin, snapshot, keys: 0, ends, _permit: permit };
    let lines = Body::from_stream(stream::unfold(progress, |mut progress| async move {
        let piece = progress.next().await.transpose()?;
        Some((piece, progress))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

#[derive(Clone, Copy)]
enum BackupPart {
    Begin,
    Keys,
    End,
}

struct BackupProgress {
    part: BackupPart,
    snapshot: LiveSnapshot,
    keys: u64,
    ends: Instant,
    _permit: OwnedSemaphorePermit,
}

impl BackupProgress {
    /// Returns the next lines. An error breaks the connection, so that the client sees an incomplete backup.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if Instant::now() > self.ends {
            return Err(StoreError::Busy(format!("a backup takes at most {BACKUP_WITHIN:?}")));
        }
        match self.part {
            BackupPart::Begin => {
                self.part = BackupPart::Keys;
                let begin = json!({ "kvd_backup": 1, "revision": self.snapshot.revision() });
                Ok(Some(format!("{begin}\n").into()))
            }
            BackupPart::Keys => {
                let Some(keys) = self.snapshot.next(PIECE_BYTES).await? else {
                    self.part = BackupPart::End;
                    return Ok(Some(format!("{}\n", json!({ "keys": self.keys })).into()));
                };
                let mut lines = Vec::with_capacity(2 * PIECE_BYTES);
                for (key, value) in &keys {
                    serde_json::to_writer(&mut lines, &KeyObject::new(key, value))
                        .map_err(|e| StoreError::Broken(e.to_string()))?;
                    lines.push(b'\n');
                    self.keys += 1;
                }
                Ok(Some(lines.into()))
            }
            BackupPart::End => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Keyspace;
    use crate::store::memory::MemoryStore;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn backup_that_takes_too_long_is_broken_off() {
        let store = Arc::new(MemoryStore::starting_at(0));
        let (keyspace, _end) = Keyspace::start_for_test(store);
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (snapshot, ends) = (keyspace.snapshot().await.unwrap(), Instant::now() + BACKUP_WITHIN);
        let mut progress =
            BackupProgress { part: BackupPart::Begin, snapshot, keys: 0, ends, _permit: permit };
        assert!(progress.next().await.unwrap().is_some());
        progress.ends = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
        assert!(matches!(progress.next().await, Err(StoreError::Busy(_))));
    }
}
