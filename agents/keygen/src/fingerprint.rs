//! Formats a public key as SSH writes it (RFC 4253, 6.6), and its name: `SHA256:` and the base64 of the key's
//! hash.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};
use sha2::{Digest, Sha256};

/// Returns the fingerprint as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &RsaPublicKey) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(wire(key))))
}

/// Returns the key as a line of `authorized_keys`.
pub fn authorized_key(key: &RsaPublicKey) -> String {
    format!("ssh-rsa {}", STANDARD.encode(wire(key)))
}

fn wire(key: &RsaPublicKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    string(b"ssh-rsa", &mut bytes);
    for number in [key.e(), key.n()] {
        string(&mpint(number), &mut bytes);
    }
    bytes
}

/// Encodes a number in two's complement: one whose first bit is set would be negative without a leading zero
/// byte.
fn mpint(number: &BigUint) -> Vec<u8> {
    let mut bytes = number.to_bytes_be();
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    bytes
}

fn string(content: &[u8], out: &mut Vec<u8>) {
    // No key comes near four gigabytes.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zero_only_before_a_set_bit() {
        assert_eq!(mpint(&BigUint::from(0x7f_u8)), [0x7f]);
        assert_eq!(mpint(&BigUint::from(0x80_u8)), [0, 0x80]);
        assert_eq!(mpint(&BigUint::from(65537_u32)), [1, 0, 1]);
    }
}
