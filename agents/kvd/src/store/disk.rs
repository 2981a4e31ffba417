//! The engine on a disk: one SQLite database in WAL mode. A group is one commit, which is on the disk before
//! it returns. Any `sqlite3` can open the file, even while the server runs.

use super::contract::{
    KeyPage, KeyRange, KeySnapshot, KeyStore, KeyUsage, ListedValue, MutationGroup, MutationKind,
    PageBuilder, Revision, StoreError, ValueInfo, VersionedValue,
};
use super::key::Key;
use kit::disk::draft::directory_of;
use kit::disk::free_space::Space;
use kit::disk::lock::{Holder, Lock, Refused};
use kit::disk::sync::still_takes_changes;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior, ffi, params};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The database file in the data directory.
pub const DATABASE: &str = "kvd.sqlite";

const LOCK: &str = "lock";

/// Only the owner may read the keys: tokens protect them from other users.
const DIRECTORY_MODE: u32 = 0o700;
const DATABASE_MODE: u32 = 0o600;

/// Identifies the file as a database of kvd: "kvd" and a version of this mark.
const APPLICATION_ID: i64 = 0x6b76_6401;

/// The version of the tables below.
const FORMAT: i64 = 1;

/// Limit on the time for which another program, such as `sqlite3`, may delay a commit.
///
/// The course's client dies if an answer takes more than 5 seconds, and a request may wait for two commits.
const BUSY_WITHIN: Duration = Duration::from_secs(2);

/// The sizes of the page caches in KiB. Most of the database stays in the kernel's cache, which memory limits
/// count less strictly.
const WRITER_CACHE_KIB: i64 = 8 << 10;
const READER_CACHE_KIB: i64 = 1 << 10;

/// The size to which SQLite cuts the write-ahead log after copying it into the database.
const LOG_BYTES_KEPT: i64 = 16 << 20;

/// The growth of the write-ahead log after which a commit waits for readers, so that the log can start again.
/// Otherwise overlapping readers would let it grow forever.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Limit on such a wait. A backup takes longer, and then the log continues to grow.
const CUT_WITHIN: Duration = Duration::from_millis(100);

/// The tables. Without row ids, a key is stored once, next to its value. `meta` has one row with the figures,
/// so that keys need not be counted.
const TABLES: &str = "
    CREATE TABLE entries (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, expires_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX expiring ON entries (expires_ms) WHERE expires_ms IS NOT NULL;
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL, keys INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) STRICT;";

#[derive(Debug, thiserror::Error)]
pub enum DiskOpenError {
    #[error("{dir} is used by another kvd{holder}: stop it, or choose another --data", dir = .0.display(), holder = .1)]
    InUse(PathBuf, Holder),
    #[error("cannot use {dir} (--data): {1}", dir = .0.display())]
    Directory(PathBuf, io::Error),
    #[error("cannot open {path}: {1}", path = .0.display())]
    Database(PathBuf, rusqlite::Error),
    #[error("{path} is no database of this version of kvd (application {1:#x}, format {2})", path = .0.display())]
    Foreign(PathBuf, i64, i64),
}

/// True if a retry may succeed after this error.
pub fn is_temporary(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| is_full(*error) || is_busy(error.code))
}

#[derive(Debug)]
pub struct DiskStore {
    path: PathBuf,
    writer: Mutex<Connection>,
    /// Connections that no read uses now.
    readers: Mutex<Vec<Connection>>,
    figures: Mutex<(KeyUsage, Revision)>,
    log: LogSize,
    /// True if another program had locked the database at the last commit. Then the next one does not wait.
    was_busy: AtomicBool,
    lock: Lock,
}

/// The size of the write-ahead log.
#[derive(Debug)]
struct LogSize {
    path: PathBuf,
    growth_max: u64,
    /// The size after the last attempt to cut the log.
    last: Mutex<u64>,
}

impl LogSize {
    /// Copies the log into the database and cuts it, if it has grown too much since the last attempt.
    fn keep_short(&self, writer: &Connection) {
        let now = || std::fs::metadata(&self.path).map_or(0, |log| log.len());
        let (size, mut last) = (now(), locked(&self.last));
        *last = size.min(*last);
        if size - *last < self.growth_max {
            return;
        }
        // If this fails, the commits are still in the log. The next attempt or commit reports the
        // error.
        let _ = writer.busy_timeout(CUT_WITHIN);
        let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let _ = writer.busy_timeout(BUSY_WITHIN);
        *last = now();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DiskStore {
    /// Opens the database in a directory, and creates both if they are missing. A new store starts at
    /// revision `first`.
    pub fn open(dir: &Path, first: Revision) -> Result<DiskStore, DiskOpenError> {
        let unusable = |error| DiskOpenError::Directory(dir.to_owned(), error);
        make_directory(dir).map_err(unusable)?;
        let lock = Lock::at(&dir.join(LOCK), 0o644).map_err(|refused| match refused {
            Refused::Held(holder) => DiskOpenError::InUse(dir.to_owned(), holder),
            Refused::Io(error) => unusable(error),
        })?;
        let path = dir.join(DATABASE);
        let failed = |error| DiskOpenError::Database(path.clone(), error);
        // SQLite gives its other files the mode of the database.
        let options = OpenOptions::new().append(true).create(true).mode(DATABASE_MODE).open(&path);
        drop(options.map_err(unusable)?);
        let mut writer = connect(&path).map_err(failed)?;
        let is_new = is_new(&writer).map_err(failed)?;
        if !is_new {
            let number = |pragma: &str| writer.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
            let application = number("application_id").map_err(failed)?;
            let format = number("user_version").map_err(failed)?;
            if (application, format) != (APPLICATION_ID, FORMAT) {
                return Err(DiskOpenError::Foreign(path, application, format));
            }
        }
        configure(&writer, WRITER_CACHE_KIB).map_err(failed)?;
        if is_new {
            create(&mut writer, first).map_err(failed)?;
        }
        let figures = figures(&writer).map_err(failed)?;
        // SQLite syncs the directory after creating its log, but not after creating the database.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        let (writer, readers, was_busy) = (Mutex::new(writer), Mutex::default(), AtomicBool::default());
        let log = dir.join(format!("{DATABASE}-wal"));
        let log = LogSize { path: log, growth_max: LOG_BYTES_MAX, last: Mutex::default() };
        Ok(DiskStore { path, writer, readers, figures: Mutex::new(figures), log, was_busy, lock })
    }

    /// Reads with a connection that nothing else uses, so that reads wait neither for commits nor for each
    /// other.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = locked(&self.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.reader()?,
        };
        let result = read(&connection).map_err(StoreError::from);
        locked(&self.readers).push(connection);
        result
    }

    /// Removes rows whose keys are not valid, because another program wrote them. They are not in the figures.
    fn remove_foreign(&self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let writer = locked(&self.writer);
        for key in keys {
            writer.execute("DELETE FROM entries WHERE key = CAST(?1 AS TEXT)", [key])?;
            let key = key.escape_ascii();
            tracing::warn!(event = "foreign_key_expired", %key, "removed an expired key that is not kvd's");
        }
        Ok(())
    }

    fn reader(&self) -> rusqlite::Result<Connection> {
        let connection = connect(&self.path)?;
        configure(&connection, READER_CACHE_KIB)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}

/// Creates a directory and those above it, and syncs their names.
fn make_directory(dir: &Path) -> io::Result<()> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir)?;
    missing.into_iter().try_for_each(|made| File::open(directory_of(made))?.sync_all())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WITHIN)?;
    Ok(connection)
}

fn configure(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let error = ffi::Error::new(ffi::SQLITE_CANTOPEN);
        let message = format!("its file system allows only the journal mode {mode}: use a local disk");
        return Err(rusqlite::Error::SqliteFailure(error, Some(message)));
    }
    connection.pragma_update(None, "synchronous", "full")?;
    // A negative number means KiB instead of pages.
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))?;
    connection.pragma_update(None, "temp_store", "memory")
}

fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn create(writer: &mut Connection, first: Revision) -> rusqlite::Result<()> {
    let creation = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    creation.execute_batch(TABLES)?;
    creation.execute("INSERT INTO meta VALUES (1, ?1, 0, 0)", [number(first)])?;
    creation.pragma_update(None, "application_id", APPLICATION_ID)?;
    creation.pragma_update(None, "user_version", FORMAT)?;
    creation.commit()
}

/// Converts to SQLite's signed numbers. All of kvd's numbers are far below the largest.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn figures(connection: &Connection) -> rusqlite::Result<(KeyUsage, Revision)> {
    let mut statement = connection.prepare_cached("SELECT keys, bytes, revision FROM meta")?;
    statement.query_row([], |row| {
        let usage = KeyUsage { keys: unsigned(row.get(0)?), bytes: unsigned(row.get(1)?) };
        Ok((usage, unsigned(row.get(2)?)))
    })
}

/// Reads the columns value, revision and expires_ms, which start at column `first`.
fn value_of(row: &Row<'_>, first: usize) -> rusqlite::Result<VersionedValue> {
    let ValueInfo { revision, expires_ms, .. } = info_of(row, first, 0)?;
    Ok(VersionedValue { bytes: row.get_ref(first)?.as_blob()?.into(), revision, expires_ms })
}

/// Reads revision and expires_ms, which follow the column `first`, of a value of this size.
fn info_of(row: &Row<'_>, first: usize, bytes: u64) -> rusqlite::Result<ValueInfo> {
    let expires: Option<i64> = row.get(first + 2)?;
    Ok(ValueInfo {
        bytes,
        revision: unsigned(row.get(first + 1)?),
        expires_ms: expires.and_then(|expires| NonZeroU64::new(unsigned(expires))),
    })
}

/// Reads the columns length(value), revision and expires_ms, which start at column `first`. SQLite knows the
/// length without reading the value.
fn measured(row: &Row<'_>, first: usize) -> rusqlite::Result<ValueInfo> {
    info_of(row, first, unsigned(row.get(first)?))
}

/// Reads a key. Another program may have written one that is not valid: then returns its bytes.
fn key_of(row: &Row<'_>) -> rusqlite::Result<Result<Key, Vec<u8>>> {
    let bytes = row.get_ref(0)?.as_bytes()?;
    Ok(Key::from_bytes(bytes).map_err(|_| bytes.to_owned()))
}

/// Reads keys until the page is full.
fn fill(connection: &Connection, range: &KeyRange, mut page: PageBuilder) -> rusqlite::Result<PageBuilder> {
    let value = if range.keys_only { "length(value)" } else { "value" };
    let after = range.after.as_deref().filter(|after| *after >= &*range.prefix);
    let from = after.unwrap_or(&range.prefix);
    let compare = if after.is_some() { ">" } else { ">=" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT key, {value}, revision, expires_ms FROM entries WHERE key {compare} ?1 ORDER BY key"
    ))?;
    let mut rows = statement.query([from])?;
    while let Some(row) = rows.next()? {
        let Ok(key) = key_of(row)? else {
            tracing::debug!(event = "foreign_key_skipped", "skipped a key that is not kvd's");
            continue;
        };
        if !key.starts_with(&*range.prefix) {
            break;
        }
        let value = match range.keys_only {
            true => ListedValue { info: measured(row, 1)?, bytes: None },
            false => value_of(row, 1)?.into(),
        };
        if !page.add(key, value) {
            break;
        }
    }
    Ok(page)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        let text = error.to_string();
        match error.sqlite_error() {
            Some(error) if is_full(*error) => StoreError::NoSpace(text),
            Some(error) if is_busy(error.code) => StoreError::Busy(text),
            _ => StoreError::Broken(text),
        }
    }
}

/// True if the disk is full, or if a write hit a quota or a limit on file sizes, or if the log's index cannot
/// grow. Such a commit failed before its sync, so it is rolled back. After a failed sync, the state is
/// unknown.
fn is_full(error: ffi::Error) -> bool {
    error.code == ErrorCode::DiskFull
        || matches!(error.extended_code, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE)
}

/// True if another program has locked the database.
fn is_busy(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
}

impl KeyStore for DiskStore {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn reads_block(&self) -> bool {
        true
    }

    fn revision(&self) -> Revision {
        locked(&self.figures).1
    }

    fn usage(&self) -> KeyUsage {
        locked(&self.figures).0
    }

    fn get(&self, key: &Key) -> Result<Option<VersionedValue>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT value, revision, expires_ms FROM entries WHERE key = ?1")?;
            let mut rows = statement.query([&**key])?;
            rows.next()?.map(|row| value_of(row, 0)).transpose()
        })
    }

    fn info(&self, key: &Key) -> Result<Option<ValueInfo>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT length(value), revision, expires_ms FROM entries WHERE key = ?1")?;
            let mut rows = statement.query([&**key])?;
            rows.next()?.map(|row| measured(row, 0)).transpose()
        })
    }

    fn page(&self, range: &KeyRange) -> Result<KeyPage, StoreError> {
        self.read(|connection| {
            // The transaction reads keys and revision at the same moment.
            let moment = connection.unchecked_transaction()?;
            let (_, revision) = figures(&moment)?;
            Ok(fill(&moment, range, PageBuilder::new(range, revision))?.finish())
        })
    }

    fn expired(&self, now_ms: u64, keys_max: usize) -> Result<Vec<Key>, StoreError> {
        let found: Vec<Result<Key, Vec<u8>>> = self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key FROM entries WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2",
            )?;
            let keys_max = i64::try_from(keys_max).unwrap_or(i64::MAX);
            statement.query_map([number(now_ms), keys_max], key_of)?.collect()
        })?;
        let (mut keys, mut foreign) = (Vec::with_capacity(found.len()), Vec::new());
        for key in found {
            match key {
                Ok(key) => keys.push(key),
                Err(bytes) => foreign.push(bytes),
            }
        }
        self.remove_foreign(&foreign)?;
        Ok(keys)
    }

    fn next_expiry(&self) -> Result<Option<u64>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT min(expires_ms) FROM entries WHERE expires_ms IS NOT NULL")?;
            Ok(statement.query_row([], |row| row.get::<_, Option<i64>>(0))?.map(unsigned))
        })
    }

    fn write(&self, group: MutationGroup<'_>) -> Result<(), StoreError> {
        let mut writer = locked(&self.writer);
        let waits = !self.was_busy.load(Ordering::Relaxed);
        writer.busy_timeout(if waits { BUSY_WITHIN } else { Duration::ZERO })?;
        let written = write(&mut writer, group).map_err(StoreError::from);
        self.was_busy.store(matches!(written, Err(StoreError::Busy(_))), Ordering::Relaxed);
        written?;
        // The database is synced, but a failed disk may have lost the write nevertheless.
        still_takes_changes(self.lock.file()).map_err(|error| {
            StoreError::Broken(format!("the file system of {}: {error}", self.path.display()))
        })?;
        *locked(&self.figures) = (group.usage, group.revision);
        Ok(())
    }

    fn space(&self) -> Option<Space> {
        Space::of(self.lock.file()).ok()
    }

    fn tidy(&self) {
        self.log.keep_short(&locked(&self.writer));
    }

    fn snapshot(&self) -> Result<Box<dyn KeySnapshot>, StoreError> {
        let begin = || {
            let connection = self.reader()?;
            // The first read fixes the moment of the snapshot.
            connection.execute_batch("BEGIN")?;
            let (_, revision) = figures(&connection)?;
            Ok::<_, rusqlite::Error>(DiskSnapshot { connection, revision, read_to: None })
        };
        Ok(Box::new(begin()?))
    }
}

fn write(writer: &mut Connection, group: MutationGroup<'_>) -> rusqlite::Result<()> {
    let commit = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut put = commit.prepare_cached(
            "INSERT INTO entries VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE
             SET value = excluded.value, revision = excluded.revision, expires_ms = excluded.expires_ms",
        )?;
        let mut delete = commit.prepare_cached("DELETE FROM entries WHERE key = ?1")?;
        for mutation in group.mutations {
            match &mutation.kind {
                MutationKind::Put { bytes, expires_ms } => {
                    let expires = expires_ms.map(|expires| number(expires.get()));
                    put.execute(params![&*mutation.key, &**bytes, number(mutation.revision), expires])?;
                }
                MutationKind::Delete | MutationKind::Expire => {
                    delete.execute([&*mutation.key])?;
                }
            }
        }
        let KeyUsage { keys, bytes } = group.usage;
        commit.prepare_cached("UPDATE meta SET revision = ?1, keys = ?2, bytes = ?3")?.execute([
            number(group.revision),
            number(keys),
            number(bytes),
        ])?;
    }
    commit.commit()
}

/// A snapshot in a read transaction. The log keeps everything that it can see until it ends.
struct DiskSnapshot {
    connection: Connection,
    revision: Revision,
    read_to: Option<Key>,
}

impl KeySnapshot for DiskSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn next(&mut self, bytes_max: usize) -> Result<Vec<(Key, ListedValue)>, StoreError> {
        let after = self.read_to.clone();
        let range = KeyRange { after, keys_max: usize::MAX, bytes_max, ..KeyRange::default() };
        let page = PageBuilder::new(&range, self.revision);
        let page = fill(&self.connection, &range, page)?.finish();
        if let Some((last, _)) = page.keys.last() {
            self.read_to = Some(last.clone());
        }
        Ok(page.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::Mutation;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn second_server_on_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DiskStore::open(dir.path(), 0).unwrap();
        let refused = DiskStore::open(dir.path(), 0).unwrap_err().to_string();
        assert!(refused.contains("used by another kvd (process "), "{refused}");
    }

    #[test]
    fn keys_are_readable_to_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new/data");
        let _store = DiskStore::open(&data, 0).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join(DATABASE))), (0o700, 0o600));
        assert_eq!(mode(&data.join(format!("{DATABASE}-wal"))), 0o600);
    }

    #[test]
    fn commits_wait_for_a_locked_database_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path(), 0).unwrap();
        let other = Connection::open(dir.path().join(DATABASE)).unwrap();
        let write = || store.write(MutationGroup { mutations: &[], usage: KeyUsage::default(), revision: 1 });
        let waits_ms = || -> i64 {
            locked(&store.writer).pragma_query_value(None, "busy_timeout", |row| row.get(0)).unwrap()
        };
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(write(), Err(StoreError::Busy(_))));
        assert!(matches!(write(), Err(StoreError::Busy(_))));
        assert_eq!(waits_ms(), 0);
        other.execute_batch("COMMIT").unwrap();
        write().unwrap();
        write().unwrap();
        assert_eq!(waits_ms(), 2000);
    }

    #[test]
    fn databases_of_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DATABASE);
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
        let refused = DiskStore::open(dir.path(), 0).unwrap_err().to_string();
        assert!(refused.contains("no database of this version of kvd"), "{refused}");
        assert!(!dir.path().join(format!("{DATABASE}-wal")).exists(), "its journal mode is not changed");
        std::fs::write(&path, "not a database at all, but a text that is long enough").unwrap();
        assert!(matches!(DiskStore::open(dir.path(), 0).unwrap_err(), DiskOpenError::Database(..)));
    }

    #[test]
    fn log_is_cut_while_readers_come_and_go() {
        const GROWTH_MAX: u64 = 2 << 20;
        let dir = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(dir.path(), 0).unwrap();
        store.log.growth_max = GROWTH_MAX;
        let key = Key::new("big").unwrap();
        let is_over = AtomicBool::new(false);
        let longest = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        store.get(&key).unwrap();
                    }
                });
            }
            let put = |revision| {
                let kind = MutationKind::Put { bytes: vec![7; 200_000].into(), expires_ms: None };
                let mutation = Mutation { key: key.clone(), revision, kind };
                let usage = KeyUsage { keys: 1, bytes: 200_003 };
                store.write(MutationGroup { mutations: &[mutation], usage, revision }).unwrap();
                std::fs::metadata(&store.log.path).map_or(0, |log| log.len())
            };
            let longest = (1..=100).map(put).max();
            is_over.store(true, Ordering::Relaxed);
            longest.unwrap()
        });
        assert!(longest < 3 * GROWTH_MAX, "{longest} bytes of log after 20 MB of writes");
    }

    #[test]
    fn full_database_is_no_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path(), 0).unwrap();
        let pages: i64 =
            locked(&store.writer).pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let set_limit = |pages: i64| {
            locked(&store.writer).pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        };
        let put = |revision| {
            let kind = MutationKind::Put { bytes: vec![7; 100_000].into(), expires_ms: None };
            let mutation = Mutation { key: Key::new("big").unwrap(), revision, kind };
            let usage = KeyUsage { keys: 1, bytes: 100_003 };
            store.write(MutationGroup { mutations: &[mutation], usage, revision })
        };
        set_limit(pages + 3);
        assert!(matches!(put(1), Err(StoreError::NoSpace(_))));
        assert_eq!((store.revision(), store.usage()), (0, KeyUsage::default()));
        assert_eq!(store.get(&Key::new("big").unwrap()).unwrap(), None);
        set_limit(pages + 100);
        put(1).unwrap();
        assert_eq!(store.get(&Key::new("big").unwrap()).unwrap().unwrap().bytes.len(), 100_000);
    }
}
