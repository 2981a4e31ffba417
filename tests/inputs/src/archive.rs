//! Checks that any file in the place of logcd's archive is read to its end or refused, without harm.

use logcd::archive::checksum::Checksum;
use logcd::archive::codec::Codec;
use logcd::archive::verify::verify_stream;
use tar::Header;

pub fn archive(bytes: &[u8]) {
    let _ = verify_stream(bytes, &mut |_| Ok(()));
    // The input also serves as the tar within a sound archive.
    let tar = with_sound_headers(bytes);
    for codec in Codec::ALL {
        let (mut packer, mut archive) = (codec.packer(1).unwrap(), codec.preamble());
        packer.pack(&[], &tar, &mut archive).unwrap();
        archive.extend(codec.epilogue(&mut packer, Checksum::of(&tar)).unwrap().0);
        let _ = verify_stream(archive.as_slice(), &mut |_| Ok(()));
    }
}

/// Sets correct header checksums, which would otherwise stop nearly every input.
fn with_sound_headers(bytes: &[u8]) -> Vec<u8> {
    let (mut tar, mut at) = (bytes.to_vec(), 0_usize);
    while let Some(block) = at.checked_add(512).and_then(|end| tar.get_mut(at..end)) {
        if block == [0; 512] {
            break;
        }
        let mut header = Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let content = header.entry_size().ok().and_then(|size| size.checked_next_multiple_of(512));
        at = at.saturating_add(512).saturating_add(content.map_or(0, |size| usize::try_from(size).unwrap()));
    }
    tar
}
