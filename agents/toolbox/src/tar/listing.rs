//! `tar -t`: lists names, and with `-v` the details that `ls -l` would show.

use super::arguments::Arguments;
use super::unpack::Wanted;
use super::{Failure, of};
use std::io::{self, Read, Write};
use tar::{Archive, EntryType, Header};

/// The least width of owner, group and size together, by which GNU tar aligns sizes.
const OWNER_AND_SIZE_COLUMNS: usize = 19;

pub fn list(source: Box<dyn Read>, arguments: &Arguments) -> Result<bool, Failure> {
    let failed = || of(arguments.file.display());
    let mut archive = Archive::new(source);
    let mut wanted = Wanted::new(&arguments.members);
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut columns = OWNER_AND_SIZE_COLUMNS;
    for entry in archive.entries().map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.path_bytes();
        if !wanted.wants(&name) {
            continue;
        }
        let mut line = Vec::new();
        if arguments.verbose > 0 {
            line.extend(details(entry.header(), entry.size(), &mut columns).map_err(failed())?.bytes());
        }
        line.extend_from_slice(&name);
        if arguments.verbose > 0
            && let Some(target) = entry.link_name_bytes()
        {
            let symbolic = entry.header().entry_type() == EntryType::Symlink;
            line.extend_from_slice(if symbolic { b" -> " } else { b" link to " });
            line.extend_from_slice(&target);
        }
        line.push(b'\n');
        stdout.write_all(&line).map_err(of("stdout"))?;
    }
    stdout.flush().map_err(of("stdout"))?;
    Ok(wanted.all_found())
}

fn details(header: &Header, size: u64, columns: &mut usize) -> io::Result<String> {
    let named = |name: Option<&[u8]>, number: u64| match name {
        Some(name) if !name.is_empty() => String::from_utf8_lossy(name).into_owned(),
        _ => number.to_string(),
    };
    let user = named(header.username_bytes(), header.uid()?);
    let group = named(header.groupname_bytes(), header.gid()?);
    let size = size.to_string();
    *columns = (*columns).max(user.len() + group.len() + size.len() + 2);
    let size_columns = *columns - user.len() - group.len() - 1;
    let time = jiff::Timestamp::from_second(i64::try_from(header.mtime()?).unwrap_or(i64::MAX));
    let time = time.map_err(io::Error::other)?.to_zoned(jiff::tz::TimeZone::system());
    let time = time.strftime("%Y-%m-%d %H:%M");
    let mode = permissions(header.entry_type(), header.mode()?);
    Ok(format!("{mode} {user}/{group}{size:>size_columns$} {time} "))
}

fn permissions(kind: EntryType, mode: u32) -> String {
    let kind = match kind {
        EntryType::Directory => 'd',
        EntryType::Symlink => 'l',
        EntryType::Link => 'h',
        EntryType::Fifo => 'p',
        EntryType::Char => 'c',
        EntryType::Block => 'b',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letters) in
        [(6, 0o4000, ('s', 'S')), (3, 0o2000, ('s', 'S')), (0, 0o1000, ('t', 'T'))]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => letters.0,
            (false, true) => letters.1,
        });
    }
    text
}
