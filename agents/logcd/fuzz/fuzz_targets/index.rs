//! Whatever stands beside an archive: read without harm, and what is accepted survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logcd::codec::Codec;
use logcd::index::Index;

fuzz_target!(|bytes: &[u8]| {
    // The checksum would stop nearly every input at the door.
    for codec in Codec::ALL {
        let mut sealed = codec.index_magic().to_vec();
        sealed.extend(bytes);
        sealed.extend(crc32(&sealed));
        if let Ok(index) = Index::decode(&sealed) {
            let mut again = Vec::new();
            index.encode(&mut again).unwrap();
            assert_eq!(Index::decode(&again), Ok(index));
        }
    }
});

fn crc32(bytes: &[u8]) -> [u8; 4] {
    logcd::checksum::Sum::of(bytes).crc.to_le_bytes()
}
