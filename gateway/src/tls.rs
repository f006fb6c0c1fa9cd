//! Certificates: read, checked against their key, swapped while connections run.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use thiserror::Error;
use tidegate_config::Tls;

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{file}: {why}; give a PEM file that the gate may read")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system or the parser said.
        why: String,
    },
    /// There is no certificate in it.
    #[error("{0}: holds no certificate; expected a PEM block `BEGIN CERTIFICATE`")]
    NoCertificate(PathBuf),
    /// There is no key in it, or one of a kind that is not supported.
    #[error("{file}: no usable private key ({why}); expected PKCS#8, PKCS#1 or SEC1 in PEM, RSA, ECDSA or Ed25519")]
    NoKey {
        /// The file.
        file: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// They do not belong together.
    #[error("{key} is not the key of {certificate}; use the key that the certificate was issued for")]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
}

/// The certificate of one listener. Handshakes take whatever is current.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<[Option<SystemTime>; 2]>,
}

impl Certificate {
    /// Reads and checks.
    pub fn load(files: &Tls) -> Result<Arc<Self>, TlsError> {
        let seen = stamps(files);
        let key = load(files)?;
        Ok(Arc::new(Certificate { files: files.clone(), current: ArcSwap::from(key), seen: Mutex::new(seen) }))
    }

    /// Reads the files again when they have changed. `Ok(true)`: new handshakes get the new certificate.
    /// On an error the old one stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let now = stamps(&self.files);
        let mut seen = self.seen.lock();
        if *seen == now {
            return Ok(false);
        }
        let key = load(&self.files)?;
        *seen = now;
        self.current.store(key);
        Ok(true)
    }

    /// The files, for messages.
    pub fn files(&self) -> &Tls {
        &self.files
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// TLS 1.2 and 1.3 with ring, h2 and http/1.1, no early data.
pub fn server_config(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What `check` and `serve` both ask: certificate and key can be read and belong together.
pub fn check(files: &Tls) -> Result<(), TlsError> {
    load(files).map(drop)
}

/// The bundles of the usual systems; `SSL_CERT_FILE` comes before them.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities this machine trusts; empty when it has no bundle, and then no certificate of a shop is accepted.
/// Read once, and by ourselves: Pingora's loader panics on a machine without a bundle, also when nothing speaks TLS.
pub fn system_authorities() -> Arc<[WrappedX509]> {
    static ONCE: OnceLock<Arc<[WrappedX509]>> = OnceLock::new();
    let read = || {
        let usable = system_bundles().map(|all| wrap(all, |_| Ok(())).unwrap_or_default());
        usable.into_iter().find(|all| !all.is_empty()).unwrap_or_default().into()
    };
    ONCE.get_or_init(read).clone()
}

/// What can be read of the bundles, in their order.
fn system_bundles() -> impl Iterator<Item = Vec<CertificateDer<'static>>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundles = named.into_iter().chain(SYSTEM_BUNDLES.iter().map(PathBuf::from));
    bundles.filter_map(|file| read_certificates(&file).ok())
}

/// For connections of the gate's own: who speaks for a host by the authorities of a file, or those this machine trusts.
pub fn client_config(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = |all: Vec<_>| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(all);
        roots
    };
    let roots = match authorities {
        Some(file) => roots(read_certificates(file).map_err(|e| e.to_string())?),
        None => system_bundles().map(roots).find(|r| !r.is_empty()).unwrap_or_else(RootCertStore::empty),
    };
    if roots.is_empty() {
        return Err("no certificate authority is trusted: install ca-certificates, or name a file of `authorities`".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

/// Certificate authorities for connections to the shop.
pub fn read_authorities(file: &Path) -> Result<Arc<[WrappedX509]>, TlsError> {
    let refused = |e: rustls::Error| Err(TlsError::Unreadable { file: file.into(), why: e.to_string() });
    wrap(read_certificates(file)?, refused).map(Into::into)
}

/// Pingora's parser panics on what is no certificate: only those that webpki takes get to it.
fn wrap(
    certificates: Vec<CertificateDer<'static>>,
    refused: impl Fn(rustls::Error) -> Result<(), TlsError>,
) -> Result<Vec<WrappedX509>, TlsError> {
    let mut usable = RootCertStore::empty();
    let mut authorities = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        match usable.add(certificate.clone()) {
            Ok(()) => authorities.push(WrappedX509::new(certificate.to_vec(), parse_x509)),
            Err(e) => refused(e)?,
        }
    }
    Ok(authorities)
}

fn load(files: &Tls) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    let no_key = |why: String| TlsError::NoKey { file: files.key.clone(), why };
    let pem = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| no_key(e.to_string()))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| no_key(e.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() })
        }
        Err(e) => Err(TlsError::Unreadable { file: files.certificate.clone(), why: e.to_string() }),
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|e| TlsError::Unreadable { file: file.into(), why: e.to_string() })?;
    if chain.is_empty() { Err(TlsError::NoCertificate(file.into())) } else { Ok(chain) }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|e| TlsError::Unreadable { file: file.into(), why: e.to_string() })
}

/// When the files were last written: cheap to look at, and enough to notice a renewal.
fn stamps(files: &Tls) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|f| std::fs::metadata(f).and_then(|m| m.modified()).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn write(dir: &Path, name: &str) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
        let files = Tls { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (write(dir.path(), "a"), write(dir.path(), "b"));
        assert!(check(&a).is_ok());
        let mixed = Tls { certificate: a.certificate.clone(), key: b.key.clone() };
        assert!(matches!(check(&mixed), Err(TlsError::Mismatch { .. })));
        let swapped = Tls { certificate: a.key.clone(), key: a.certificate.clone() };
        assert!(matches!(check(&swapped), Err(TlsError::NoCertificate(_))));
        let no_key = Tls { certificate: a.certificate.clone(), key: a.certificate.clone() };
        assert!(matches!(check(&no_key), Err(TlsError::NoKey { .. })));
        let gone = Tls { certificate: dir.path().join("none"), key: a.key };
        assert!(check(&gone).unwrap_err().to_string().contains("none"));
        std::fs::write(&b.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(check(&b), Err(TlsError::Unreadable { .. })));
        assert!(read_authorities(&b.certificate).is_err(), "and does not panic");
        assert_eq!(read_authorities(&a.certificate).unwrap().len(), 1);
    }

    #[test]
    fn a_reload_swaps_or_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "a");
        let cert = Certificate::load(&files).unwrap();
        let first = cert.current.load_full();
        assert!(!cert.reload().unwrap(), "nothing changed");
        let other = write(dir.path(), "b");
        let touch = |f: &Path, s: u64| {
            let file = std::fs::File::options().write(true).open(f).unwrap();
            let at = file.metadata().unwrap().modified().unwrap() + std::time::Duration::from_secs(s);
            file.set_modified(at).unwrap();
        };
        std::fs::copy(&other.certificate, &files.certificate).unwrap();
        touch(&files.certificate, 5);
        assert!(matches!(cert.reload(), Err(TlsError::Mismatch { .. })), "the key has not arrived yet");
        assert!(Arc::ptr_eq(&first, &cert.current.load_full()), "the old one stays");
        std::fs::copy(&other.key, &files.key).unwrap();
        touch(&files.key, 5);
        assert!(cert.reload().unwrap());
        assert!(!Arc::ptr_eq(&first, &cert.current.load_full()));
    }
}
