//! Encodes tar headers in the form that every tar reads: GNU's, with base-256 numbers and `L` names, without
//! PAX.

use tar::{EntryType, Header};

pub const TAR_BLOCK: usize = 512;
/// The name that busybox and GNU tar give to an entry that carries a long name.
const LONG_NAME: &[u8] = b"././@LongLink";
const NAME_BYTES_MAX: usize = 100;

/// The header fields other than name and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_s: u64,
}

/// Returns the header of one member, preceded by a long-name entry if the name needs one.
pub fn encode(name: &[u8], meta: &Meta, size: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TAR_BLOCK);
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(meta.mode);
    header.set_uid(u64::from(meta.uid));
    header.set_gid(u64::from(meta.gid));
    header.set_mtime(meta.mtime_s);
    header.set_size(size);
    if name.len() > NAME_BYTES_MAX {
        let mut long = Header::new_gnu();
        long.set_entry_type(EntryType::GNULongName);
        long.set_mode(0o644);
        long.set_uid(0);
        long.set_gid(0);
        long.set_mtime(0);
        long.set_size(name.len() as u64 + 1);
        put_name(&mut long, LONG_NAME);
        bytes.extend(long.as_bytes());
        bytes.extend(name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(TAR_BLOCK), 0);
    }
    put_name(&mut header, &name[..name.len().min(NAME_BYTES_MAX)]);
    bytes.extend(header.as_bytes());
    bytes
}

/// Returns a whole entry: its header, its content, and zeros up to the next block.
pub fn entry(name: &[u8], meta: &Meta, content: &[u8]) -> Vec<u8> {
    let mut bytes = encode(name, meta, content.len() as u64);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(TAR_BLOCK), 0);
    bytes
}

/// Sets the name as raw bytes: it need not be UTF-8.
fn put_name(header: &mut Header, name: &[u8]) {
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.name[..name.len()].copy_from_slice(name);
    }
    header.set_cksum();
}

/// Returns the number of zeros after `size` bytes of content.
pub fn padding_len(size: u64) -> u64 {
    size.next_multiple_of(TAR_BLOCK as u64) - size
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta() -> Meta {
        Meta { mode: 0o640, uid: 0, gid: 4, mtime_s: 1_700_000_000 }
    }

    #[test]
    fn sizes_above_eight_gibibytes_are_base_256() {
        let bytes = encode(b"var/log/big.log", &meta(), 9 << 30);
        assert_eq!(bytes[124], 0x80);
        assert_eq!(Header::from_byte_slice(&bytes).entry_size().unwrap(), 9 << 30);
    }

    proptest! {
        #[test]
        fn a_reader_gets_back_any_name_and_size(
            name in prop::collection::vec(1u8..=255, 1..400),
            size in prop_oneof![0u64..5000, 0..u64::MAX / 2],
            uid: u32, mtime_s in 0u64..1 << 40,
        ) {
            let meta = Meta { uid, mtime_s, ..meta() };
            let bytes = encode(&name, &meta, size);
            prop_assert_eq!(bytes.len() % 512, 0);
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut entries = archive.entries().unwrap();
            let entry = entries.next().unwrap().unwrap();
            prop_assert_eq!(&entry.path_bytes()[..], &name[..]);
            prop_assert_eq!(entry.header().entry_size().unwrap(), size);
            prop_assert_eq!(entry.header().uid().unwrap(), u64::from(uid));
            prop_assert_eq!(entry.header().mtime().unwrap(), mtime_s);
        }
    }
}
