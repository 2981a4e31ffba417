//! Whatever stands in the place of an archive: read to its end or refused, without harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logcd::checksum::Sum;
use logcd::deflate::{Packer, epilogue, preamble};
use logcd::verify::verify_stream;

fuzz_target!(|bytes: &[u8]| {
    let _ = verify_stream(bytes, &mut |_| Ok(()));
    // As the tar within a sound gzip, too: the checksum would stop nearly every input before it.
    let (mut packer, mut gzip) = (Packer::new(1), preamble());
    packer.pack(&[], bytes, &mut gzip).unwrap();
    gzip.extend(epilogue(&mut packer, Sum::of(bytes)).unwrap().0);
    let _ = verify_stream(gzip.as_slice(), &mut |_| Ok(()));
});
