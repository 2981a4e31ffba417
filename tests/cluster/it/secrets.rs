//! Certificates and tokens from Secrets, and their renewal while the pods run.

use crate::manifest::{of_this_registry, rendered};
use crate::namespace::Namespace;
use crate::work_queue::of_the_queue;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::Path;

/// A certificate for `queue`, and the authority that signed it.
struct Signed {
    ca: String,
    cert: String,
    key: String,
}

impl Signed {
    fn new() -> Signed {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, format!("authority {:x}", fastrand::u64(..)));
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["queue".to_owned()]).unwrap();
        let cert = names.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        Signed { ca: ca_cert.pem(), cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// Creates or changes a Secret from files.
#[track_caller]
fn secret(namespace: &Namespace, name: &str, files: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let mut words = vec!["create".to_owned(), "secret".into(), "generic".into(), name.into()];
    for (file, content) in files {
        let path: &Path = &directory.path().join(file);
        std::fs::write(path, content).unwrap();
        words.push(format!("--from-file={}", path.display()));
    }
    words.extend(["--dry-run=client".into(), "-o".into(), "yaml".into()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    namespace.apply(&namespace.says(&words));
}

const CLIENT: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {name: client}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 65532, fsGroup: 65532}
  containers:
    - name: client
      image: ghcr.io/nodecrew/queuectl:0.1.0
      command: [tail, -f, /etc/passwd]
      volumeMounts: [{name: ca, mountPath: /ca}, {name: token, mountPath: /token}]
  volumes:
    - {name: ca, secret: {secretName: ca}}
    - {name: token, secret: {secretName: token}}
";

#[test]
fn renewed_secrets_are_used_without_restart() {
    let namespace = Namespace::new("secrets");
    let (first, second) = (Signed::new(), Signed::new());
    let certificate = |signed: &Signed| {
        secret(&namespace, "queued-tls", &[("tls.crt", &signed.cert), ("tls.key", &signed.key)]);
    };
    certificate(&first);
    secret(&namespace, "queued-tokens", &[("tokens", "first-token push,work,admin\n")]);
    secret(&namespace, "ca", &[("first.crt", &first.ca), ("second.crt", &second.ca)]);
    secret(&namespace, "token", &[("first", "first-token"), ("second", "second-token")]);
    namespace.apply(&of_the_queue(&rendered("prod")));
    namespace.apply(&of_this_registry(CLIENT.to_owned()));
    let queued = namespace.ready("name=queued", 1).remove(0);
    namespace.ready("name=client", 1);
    let push = |ca: &str, token: &str| {
        let (ca, token) = (format!("/ca/{ca}.crt"), format!("/token/{token}"));
        let words = ["queuectl", "--server", "https://queue:8080", "--give-up", "0s", "--ca", &ca];
        namespace.try_exec(
            "client",
            &[&words, &["--token-file", &token, "push", "-q", "q", "an item"][..]].concat(),
        )
    };
    namespace.until("a push with the first certificate and token", || push("first", "first"));
    assert!(push("second", "first").is_none() && push("first", "second").is_none());

    certificate(&second);
    secret(&namespace, "queued-tokens", &[("tokens", "second-token push\n")]);
    namespace.until("a push with the second certificate and token", || push("second", "second"));
    assert!(push("first", "second").is_none() && push("second", "first").is_none());
    let after = namespace.ready("name=queued", 1).remove(0);
    assert!(after.uid == queued.uid && after.restarts == queued.restarts, "{after:?}");
}
