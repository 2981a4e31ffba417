//! Checks that any file in the place of the archive's index is read without harm, and that an accepted one
//! survives a round trip.

use logcd::archive::checksum::Checksum;
use logcd::archive::codec::Codec;
use logcd::archive::index::Index;

pub fn index(bytes: &[u8]) {
    // The checksum would stop nearly every input at the start.
    for codec in Codec::ALL {
        let mut sealed = codec.index_magic().to_vec();
        sealed.extend(bytes);
        sealed.extend(Checksum::of(&sealed).crc.to_le_bytes());
        if let Ok(index) = Index::decode(&sealed) {
            let mut again = Vec::new();
            index.encode(&mut again).unwrap();
            assert_eq!(Index::decode(&again), Ok(index));
        }
    }
}
