//! Certificates for TLS.

use rcgen::{CertificateParams, KeyPair};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Makes a self-signed certificate for `host` in `FILE.crt`, and its key in `FILE.key`. The certificate is
/// its own authority.
pub fn self_signed(directory: &Path, file: &str, host: &str, expires: SystemTime) -> [PathBuf; 2] {
    let mut parameters = CertificateParams::new([host.to_owned()]).unwrap();
    parameters.not_after = expires.into();
    let key = KeyPair::generate().unwrap();
    let paths = ["crt", "key"].map(|extension| directory.join(format!("{file}.{extension}")));
    std::fs::write(&paths[0], parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&paths[1], key.serialize_pem()).unwrap();
    paths
}
