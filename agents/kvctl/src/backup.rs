//! `kvctl backup` and `kvctl restore`: all keys as lines of JSON. The last line proves that the backup is
//! complete.

use crate::api::{Client, Only};
use crate::flags;
use crate::wire::{BackupBegin, BackupEnd, WireKey, WireOperation, WireValue, ttl_left_ms};
use jiff::Timestamp;
use kit::disk::draft::Draft;
use kit::exit::{Exit, Fatal};
use kit::terminal;
use std::fs::File;
use std::io::{BufRead, BufReader, Write, stdin};
use std::path::Path;
use std::time::Duration;

const STDIO: &str = "-";

/// Limit on the wait for the next part of a backup, after which the connection is taken for lost.
const PART_WITHIN: Duration = Duration::from_secs(60);

/// The version of the backup format.
const FORMAT: u64 = 1;

/// Limits on a batch: the number of keys, and the bytes of keys and values as they are sent.
const BATCH_KEYS: usize = 500;
const BATCH_BYTES: usize = 2 << 20;

/// The destination of a backup.
enum BackupTarget {
    Stdout,
    File(Draft),
}

impl BackupTarget {
    fn open(to: &Path) -> Result<BackupTarget, Fatal> {
        if to.as_os_str() == STDIO {
            return Ok(BackupTarget::Stdout);
        }
        Ok(BackupTarget::File(Draft::of(to).map_err(|e| unwritable(to, e))?))
    }

    fn write(&mut self, bytes: &[u8], to: &Path) -> Result<(), Fatal> {
        match self {
            BackupTarget::Stdout => terminal::bytes(bytes),
            BackupTarget::File(draft) => draft.write_all(bytes).map_err(|e| unwritable(to, e)),
        }
    }

    fn finish(self, to: &Path) -> Result<(), Fatal> {
        match self {
            BackupTarget::Stdout => Ok(()),
            BackupTarget::File(draft) => draft.finish().map_err(|e| unwritable(to, e)),
        }
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Fatal {
    Fatal::new(Exit::Failure, format!("cannot write {}", path.display())).because(error)
}

/// Counts the lines of a backup as they arrive, and keeps the last one.
#[derive(Default)]
struct LineCount {
    whole: u64,
    last: Vec<u8>,
    is_open: bool,
}

impl LineCount {
    fn feed(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_open {
                self.last.clear();
            }
            self.last.extend_from_slice(part);
            self.is_open = !part.ends_with(b"\n");
            self.whole += u64::from(!self.is_open);
        }
    }

    /// True if the last line is there, and counts all lines but the first and itself.
    fn is_complete(&self) -> bool {
        let end: Option<BackupEnd> = serde_json::from_slice(&self.last).ok();
        !self.is_open && end.is_some_and(|end| end.keys.checked_add(2) == Some(self.whole))
    }
}

pub(crate) async fn backup(client: &Client, backup: &flags::Backup) -> Result<Exit, Fatal> {
    let what = || format!("cannot back up the keys at {}", client.server());
    let mut stream = client.backup().await.map_err(|error| error.fatal(what()))?;
    let mut target = BackupTarget::open(&backup.to)?;
    let mut lines = LineCount::default();
    while let Some(piece) = stream.next(PART_WITHIN).await.map_err(|error| error.fatal(what()))? {
        target.write(&piece, &backup.to)?;
        lines.feed(&piece);
    }
    if !lines.is_complete() {
        return Err(Fatal::new(Exit::TryAgain, format!("{}: the backup ended early", what())));
    }
    target.finish(&backup.to)?;
    Ok(Exit::Ok)
}

/// Reads and checks the lines of a backup, in order.
struct BackupReader<R> {
    lines: std::io::Lines<R>,
    name: String,
    keys: u64,
    is_over: bool,
}

impl<R: BufRead> BackupReader<R> {
    /// Reads the first line.
    fn new(reader: R, name: String) -> Result<BackupReader<R>, Fatal> {
        let mut this = BackupReader { lines: reader.lines(), name, keys: 0, is_over: false };
        let first = this.line()?.unwrap_or_default();
        match serde_json::from_str::<BackupBegin>(&first) {
            Ok(begin) if begin.kvd_backup == FORMAT => Ok(this),
            Ok(begin) => Err(this.unusable(&format!("it has format {}, not {FORMAT}", begin.kvd_backup))),
            Err(_) => Err(this.unusable("it is no backup of kvd")),
        }
    }

    fn line(&mut self) -> Result<Option<String>, Fatal> {
        self.lines.next().transpose().map_err(|e| self.unusable("it cannot be read").because(e))
    }

    fn unusable(&self, why: &str) -> Fatal {
        Fatal::new(Exit::Failure, format!("cannot restore {}: {why}", self.name))
    }

    /// Returns the next key; `None` at the end, which must be the last line.
    fn next(&mut self) -> Result<Option<WireKey>, Fatal> {
        if self.is_over {
            return Ok(None);
        }
        let line = self.line()?.ok_or_else(|| self.unusable("it is incomplete, its last line is missing"))?;
        if let Ok(end) = serde_json::from_str::<BackupEnd>(&line) {
            if end.keys != self.keys || self.line()?.is_some() {
                return Err(self.unusable("it does not have the number of keys that its last line tells"));
            }
            self.is_over = true;
            return Ok(None);
        }
        self.keys += 1;
        let key = serde_json::from_str(&line);
        key.map(Some).map_err(|e| self.unusable(&format!("line {}", self.keys + 1)).because(e))
    }

    /// Returns the next key as an operation. Skips keys that have expired.
    fn next_put(&mut self, now: Timestamp) -> Result<Option<WireOperation>, Fatal> {
        while let Some(WireKey { key, expires, value, .. }) = self.next()? {
            let bad = |what: &str| self.unusable(&format!("line {}: {what}", self.keys + 1));
            let value = value.ok_or_else(|| bad("it has no value"))?;
            let bytes = value.bytes().ok_or_else(|| bad("its value is no base64"))?;
            let ttl = match expires {
                None => None,
                Some(expires) => match ttl_left_ms(&expires, now).map_err(|e| bad("expires").because(e))? {
                    over if over <= 0 => continue,
                    left_ms => Some(format!("{left_ms}ms")),
                },
            };
            let put = WireOperation::put(&key, WireValue::new(bytes), Only::Always);
            return Ok(Some(WireOperation { ttl, ..put }));
        }
        Ok(None)
    }
}

pub(crate) async fn restore(client: &Client, restore: &flags::Restore) -> Result<Exit, Fatal> {
    let present = client.stats().await.map_err(|error| failed(client, error))?;
    if present.keys > 0 && !restore.merge {
        let message = format!(
            "{} has {} keys already: --merge sets those of the backup too",
            client.server(),
            present.keys
        );
        return Err(Fatal::new(Exit::Failure, message));
    }
    if restore.file.as_os_str() == STDIO {
        // A stream cannot be checked in advance. If it is incomplete, the error comes after its keys are set.
        let reader = BackupReader::new(stdin().lock(), "stdin".to_owned())?;
        return put_all(client, reader).await;
    }
    let name = restore.file.display().to_string();
    let open = || {
        let file = File::open(&restore.file);
        let file = file.map_err(|e| Fatal::new(Exit::Failure, format!("cannot read {name}")).because(e))?;
        BackupReader::new(BufReader::new(file), name.clone())
    };
    let mut check = open()?;
    while check.next()?.is_some() {}
    put_all(client, open()?).await
}

fn failed(client: &Client, error: kit::caller::CallError) -> Fatal {
    error.fatal(format!("cannot restore the keys at {}", client.server()))
}

async fn put_all(client: &Client, mut reader: BackupReader<impl BufRead>) -> Result<Exit, Fatal> {
    let now = Timestamp::now();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let put = reader.next_put(now)?;
        let is_over = put.is_none();
        if let Some(put) = put {
            bytes += put.len();
            batch.push(put);
        }
        let is_full = batch.len() >= BATCH_KEYS || bytes >= BATCH_BYTES;
        if (is_over || is_full) && !batch.is_empty() {
            // The operations have no conditions that could fail.
            let operations: Vec<_> = batch.iter().collect();
            client.batch(&operations).await.map_err(|error| failed(client, error))?;
            batch.clear();
            bytes = 0;
        }
        if is_over {
            return Ok(Exit::Ok);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str =
        "{\"kvd_backup\":1,\"revision\":7}\n{\"key\":\"a\",\"revision\":7,\"value\":\"x\"}\n{\"keys\":1}\n";

    #[test]
    fn every_shortened_backup_is_incomplete() {
        let is_complete = |bytes: &[u8]| {
            let mut lines = LineCount::default();
            bytes.chunks(3).for_each(|piece| lines.feed(piece));
            lines.is_complete()
        };
        assert!(is_complete(WHOLE.as_bytes()));
        assert!((0..WHOLE.len()).all(|end| !is_complete(&WHOLE.as_bytes()[..end])));
    }

    #[test]
    fn damaged_backups_are_refused_with_the_reason() {
        let read = |text: &str| {
            let mut reader = BackupReader::new(text.as_bytes(), "FILE".to_owned())?;
            let mut keys = Vec::new();
            while let Some(put) = reader.next_put(Timestamp::UNIX_EPOCH)? {
                keys.push(put.key);
            }
            Ok::<_, Fatal>(keys)
        };
        assert_eq!(read(WHOLE).unwrap(), ["a"]);
        let begin = WHOLE.lines().next().unwrap();
        for (text, reason) in [
            (String::new(), "no backup of kvd"),
            ("{\"keys\":0}\n".to_owned(), "no backup of kvd"),
            ("{\"kvd_backup\":2,\"revision\":7}\n".to_owned(), "format 2"),
            (format!("{begin}\n"), "incomplete"),
            (format!("{begin}\n{{\"keys\":1}}\n"), "number of keys"),
            (format!("{WHOLE}{WHOLE}"), "number of keys"),
            (format!("{begin}\nnonsense\n"), "line 2"),
            (format!("{begin}\n{{\"key\":\"a\",\"revision\":7}}\n"), "line 2: it has no value"),
        ] {
            let error = read(&text).unwrap_err().one_line();
            assert!(error.starts_with("cannot restore FILE: ") && error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn expired_keys_are_not_restored() {
        let line = |key: &str, expires: &str| {
            format!("{{\"key\":\"{key}\",\"revision\":1,\"expires\":\"{expires}\",\"value\":\"\"}}\n")
        };
        let text = format!(
            "{{\"kvd_backup\":1,\"revision\":7}}\n{}{}{{\"keys\":2}}\n",
            line("old", "1970-01-01T00:00:01.000Z"),
            line("new", "1970-01-01T00:00:03.500Z")
        );
        let mut reader = BackupReader::new(text.as_bytes(), "FILE".to_owned()).unwrap();
        let put = reader.next_put(Timestamp::from_second(1).unwrap()).unwrap().unwrap();
        assert_eq!((put.key.as_str(), put.ttl.as_deref()), ("new", Some("2500ms")));
        assert!(reader.next_put(Timestamp::UNIX_EPOCH).unwrap().is_none());
    }
}
