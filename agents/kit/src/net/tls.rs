//! TLS from mounted files: a certificate and key, optionally a CA for client certificates, renewed live.

use crate::exit::{Exit, Fatal};
use crate::lifecycle::stop::Stop;
use crate::telemetry::metrics::Metrics;
use prometheus_client::metrics::gauge::Gauge;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The time before expiry at which a log line asks for a new certificate. Renewal tools act long before.
const ASKS_BEFORE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The time within which a client must finish its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// The configuration for each new connection, `None` for no TLS.
pub type Tls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// The files of a server; part of every agent's flags that can speak TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct ServerFiles {
    /// Serve TLS with this certificate chain (PEM); a renewed file is loaded without a restart
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,

    /// Accept only clients with a certificate that this CA signed (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    pub tls_client_ca: Option<PathBuf>,
}

/// The files of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct ClientFiles {
    /// Use TLS; the server's certificate must be signed by this CA (PEM)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_ca: Option<PathBuf>,

    /// Present this client certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"], help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,

    /// The client certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,

    /// Expect this name in the server's certificate, if it differs from the host
    #[arg(long, value_name = "NAME", requires = "tls_ca", help_heading = "TLS")]
    pub tls_name: Option<String>,
}

impl ServerFiles {
    /// The files to watch for renewal.
    pub fn paths(&self) -> Vec<PathBuf> {
        [&self.tls_cert, &self.tls_key, &self.tls_client_ca].into_iter().flatten().cloned().collect()
    }

    /// Reads and checks the files; `None` when TLS is off.
    pub fn load(&self) -> Result<Option<Arc<ServerConfig>>, Fatal> {
        Ok(self.read()?.map(|loaded| loaded.config))
    }

    fn read(&self) -> Result<Option<Loaded>, Fatal> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let chain = certificates(cert)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Fatal::new(Exit::System, "TLS is not available").because(e))?;
        let builder = match &self.tls_client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider());
                let unusable = |e| unusable(ca, "certificate authority").because(e);
                builder.with_client_cert_verifier(verifier.build().map_err(unusable)?)
            }
        };
        let expires = chain.iter().filter_map(expires).min();
        let config = builder.with_single_cert(chain, private_key(key)?).map_err(|e| {
            let (cert, key) = (cert.display(), key.display());
            Fatal::new(Exit::Config, format!("the certificate {cert} and the key {key} do not match"))
                .because(e)
        })?;
        Ok(Some(Loaded { config: Arc::new(config), expires }))
    }

    /// The configuration to use for each new connection; it follows the files.
    pub fn follow(&self, stop: &Stop, metrics: &Metrics) -> Result<Tls, Fatal> {
        if self.tls_cert.is_none() {
            return Ok(watch::channel(None).1);
        }
        let expires = ExpiryGauge::default();
        metrics.register(|registry| {
            let help = "Time when the first certificate of the TLS chain expires";
            registry.register("certificate_expires_timestamp_seconds", help, expires.clone());
        });
        let this = self.clone();
        crate::settings::watch::follow("TLS files", self.paths(), stop.drain.clone(), move || {
            Ok(this.read()?.map(|loaded| {
                loaded.tell_expiry(&expires);
                loaded.config
            }))
        })
    }
}

/// Does the server's side of the handshake; if it fails, the log says why.
pub async fn accept<S>(config: Arc<ServerConfig>, stream: S, peer: SocketAddr) -> Option<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(
            event = "tls_handshake_failed",
            %peer,
            %error,
            "the TLS handshake failed"
        ),
        Err(_) => tracing::debug!(event = "tls_handshake_failed", %peer, "the TLS handshake took too long"),
    }
    None
}

type ExpiryGauge = Gauge<f64, AtomicU64>;

/// A server's TLS configuration, and when its certificate expires.
struct Loaded {
    config: Arc<ServerConfig>,
    expires: Option<SystemTime>,
}

impl Loaded {
    fn tell_expiry(&self, gauge: &ExpiryGauge) {
        let Some(expires) = self.expires else {
            // NaN, since no time is known: zero would look expired, and the old value belongs to the previous
            // certificate.
            gauge.set(f64::NAN);
            tracing::warn!(
                event = "certificate_expiry_unknown",
                "cannot read when the TLS certificate expires"
            );
            return;
        };
        gauge.set(expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let when = humantime::format_rfc3339_seconds(expires);
        match expires.duration_since(SystemTime::now()) {
            Err(_) => {
                tracing::error!(
                    event = "certificate_expired",
                    expired = %when,
                    "the TLS certificate has expired: clients will reject it"
                );
            }
            Ok(left) if left < ASKS_BEFORE => {
                tracing::warn!(
                    event = "certificate_expires_soon",
                    expires = %when,
                    "the TLS certificate expires soon"
                );
            }
            Ok(_) => tracing::info!(
                event = "certificate_valid",
                expires = %when,
                "the TLS certificate is valid"
            ),
        }
    }
}

/// Returns `None` for a certificate that cannot be parsed here: rustls is less strict and may accept it.
fn expires(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    UNIX_EPOCH.checked_add(certificate.tbs_certificate.validity.not_after.to_unix_duration())
}

impl ClientFiles {
    /// Reads and checks the files; `None` when TLS is off.
    pub fn load(&self) -> Result<Option<Arc<ClientConfig>>, Fatal> {
        let Some(ca) = &self.tls_ca else { return Ok(None) };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Fatal::new(Exit::System, "TLS is not available").because(e))?
            .with_root_certificates(roots(ca)?);
        let config = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(|e| {
                    let (cert, key) = (cert.display(), key.display());
                    Fatal::new(Exit::Config, format!("the certificate {cert} and the key {key} do not match"))
                        .because(e)
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(Arc::new(config)))
    }
}

fn provider() -> Arc<crypto::CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

fn unusable(path: &Path, what: &str) -> Fatal {
    Fatal::new(Exit::Config, format!("{} holds no usable {what} (PEM)", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fatal> {
    let failed = |e| unusable(path, "certificate").because(e);
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if chain.is_empty() { Err(unusable(path, "certificate")) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fatal> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| unusable(path, "private key").because(e))
}

fn roots(path: &Path) -> Result<RootCertStore, Fatal> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| unusable(path, "certificate authority").because(e))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, text: &str) -> Option<PathBuf> {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    }

    #[test]
    fn certificate_with_another_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (pair(), pair());
        let cert = write(directory.path(), "tls.crt", &one.cert.pem());
        let key = write(directory.path(), "tls.key", &one.signing_key.serialize_pem());
        let good = ServerFiles { tls_cert: cert.clone(), tls_key: key, tls_client_ca: None };
        assert!(good.load().unwrap().is_some());

        let key = write(directory.path(), "other.key", &other.signing_key.serialize_pem());
        let bad = ServerFiles { tls_cert: cert, tls_key: key, tls_client_ca: None };
        let fatal = bad.load().unwrap_err();
        assert_eq!(fatal.exit(), Exit::Config);
        assert!(fatal.one_line().contains("tls.crt") && fatal.one_line().contains("other.key"), "{fatal}");
    }

    #[test]
    fn certificate_without_a_readable_expiry_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        // Longer than the 20 bytes that RFC 5280 allows.
        parameters.serial_number = Some(vec![1; 24].into());
        let key = rcgen::KeyPair::generate().unwrap();
        let tls_cert = write(directory.path(), "tls.crt", &parameters.self_signed(&key).unwrap().pem());
        let tls_key = write(directory.path(), "tls.key", &key.serialize_pem());
        let loaded = ServerFiles { tls_cert, tls_key, tls_client_ca: None }.read().unwrap().unwrap();
        let gauge = ExpiryGauge::default();
        loaded.tell_expiry(&gauge);
        assert!(gauge.get().is_nan(), "{:?}", loaded.expires);
    }

    #[test]
    fn file_without_a_certificate_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let empty = write(directory.path(), "tls.crt", "");
        let files = ServerFiles { tls_cert: empty.clone(), tls_key: empty, tls_client_ca: None };
        assert!(files.load().unwrap_err().one_line().contains("tls.crt holds no usable certificate"));
    }
}
