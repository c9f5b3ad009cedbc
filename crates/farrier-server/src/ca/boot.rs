//! The certificate for HTTPS of the boot plane.
//!
//! Much firmware checks RSA signatures only, so that a leaf for an RSA key below the site's authority, which is of
//! elliptic curves, would not do: with RSA the whole chain is, below an authority of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use farrier_engine::tls::KeyKind;
use rcgen::{
    DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use time::Duration;
use x509_parser::public_key::PublicKey;

use super::files::{open_key, open_root};
use super::{Ca, CaError, SERVER_DAYS, leaf_params, make};

/// What HTTPS of the boot plane runs with.
#[derive(Clone, Debug)]
pub struct BootTls {
    pub config: Arc<ServerConfig>,
    held: Arc<Held>,
}

/// The certificate in use. Somebody's own may be renewed while connections come in.
#[derive(Debug)]
struct Held {
    certified: ArcSwap<CertifiedKey>,
    refused: Mutex<Option<String>>,
}

impl ResolvesServerCert for Held {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified.load_full())
    }
}

impl Ca {
    /// With a certificate of ours, whose authority is kept beside the site's.
    pub fn boot_tls(&self, key: KeyKind, names: &[SanType]) -> Result<BootTls, CaError> {
        let (chain, private) = match key {
            KeyKind::Rsa => rsa_leaf(&self.folder, names)?,
            KeyKind::P256 | KeyKind::Other => self.server_leaf(names)?,
        };
        Ok(BootTls::with(certified(chain, private).map_err(make)?))
    }
}

impl BootTls {
    /// TLS 1.2 and 1.3: no firmware of today needs less, and what does gets plain HTTP.
    #[must_use]
    pub fn with(certified: CertifiedKey) -> Self {
        let held = Arc::new(Held {
            certified: ArcSwap::from_pointee(certified),
            refused: Mutex::default(),
        });
        let versions = [&version::TLS13, &version::TLS12];
        let mut config = ServerConfig::builder_with_protocol_versions(&versions)
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&held) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
            held,
        }
    }

    /// Of the server's certificate.
    #[must_use]
    pub fn key(&self) -> KeyKind {
        self.chain().first().map_or(KeyKind::Other, key_kind)
    }

    /// What clients are shown, the server's own first.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.held.certified.load().cert.clone()
    }

    /// Every connection from now on gets this one.
    pub fn renew(&self, certified: CertifiedKey) {
        self.held.certified.store(Arc::new(certified));
        self.set_refused(None);
    }

    /// Why a newer certificate is not in use, as [`Self::set_refused`] had it.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        let refused = self.held.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_refused(&self, why: Option<String>) {
        let refused = self.held.refused.lock();
        *refused.unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Somebody's own certificate; the error is a clause for people.
pub fn read_certificate(chain: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let file = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| file(chain, &e))?;
    if certificates.is_empty() {
        return Err(file(chain, &"it holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, &e))?;
    certified(certificates, private)
        .map_err(|e| format!("{} and {}: {e}", chain.display(), key.display()))
}

/// Refuses a key that is not the certificate's.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
}

/// The keys stay, since to make one takes a second; the leaf is made anew at each start.
fn rsa_leaf(
    folder: &Path,
    names: &[SanType],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
    let rsa = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072);
    let root_key = open_key(&folder.join("boot-rsa.key"), rsa)?;
    let (root, _) = open_root(&folder.join("boot-rsa.pem"), &root_key, "Farrier boot")?;
    let issuer = Issuer::from_ca_cert_der(&root, root_key).map_err(make)?;
    let key = open_key(&folder.join("boot-rsa-server.key"), rsa)?;
    let mut params = leaf_params(Duration::days(SERVER_DAYS));
    params
        .distinguished_name
        .push(DnType::CommonName, "Farrier boot");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = names.to_vec();
    let leaf = params.signed_by(&key, &issuer).map_err(make)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // The root goes along: an iPXE built with TRUST= knows only its fingerprint.
    Ok((vec![leaf.der().clone(), root], private))
}

fn key_kind(leaf: &CertificateDer<'_>) -> KeyKind {
    let parsed = x509_parser::parse_x509_certificate(leaf).ok();
    let key = parsed
        .as_ref()
        .and_then(|(_, parsed)| parsed.public_key().parsed().ok());
    match key {
        Some(PublicKey::RSA(_)) => KeyKind::Rsa,
        Some(PublicKey::EC(point)) if point.key_size() == 256 => KeyKind::P256,
        _ => KeyKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use farrier_engine::tls;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;
    use crate::ca::names;

    fn authority(folder: &Path, name: &str) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(folder.join(name)).unwrap();
        roots.add(root).unwrap();
        roots
    }

    /// Whether a client that trusts these gets a connection to `name`, and by which version.
    fn connects(
        tls: &BootTls,
        roots: RootCertStore,
        name: &str,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<(), rustls::Error> {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&tls.config)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn both_kinds_of_chains_are_good_by_address_and_name() {
        crate::run::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let san = names(
            ["10.0.0.1".parse().unwrap()],
            &["boot.example.org".to_owned()],
        );
        for (kind, file) in [(KeyKind::Rsa, "boot-rsa.pem"), (KeyKind::P256, "root.pem")] {
            let tls = ca.boot_tls(kind, &san).unwrap();
            let trust = || authority(folder.path(), file);
            for version in [&version::TLS12, &version::TLS13] {
                connects(&tls, trust(), "10.0.0.1", version).unwrap();
                connects(&tls, trust(), "boot.example.org", version).unwrap();
                connects(&tls, trust(), "10.0.0.2", version).unwrap_err();
            }
        }
        let both = [
            authority(folder.path(), "root.pem"),
            authority(folder.path(), "boot-rsa.pem"),
        ];
        let [site, _] = both;
        let rsa = ca.boot_tls(KeyKind::Rsa, &san).unwrap();
        connects(&rsa, site, "10.0.0.1", &version::TLS13).unwrap_err();
    }

    /// What is enrolled in firmware must be good after a restart.
    #[test]
    fn the_authority_for_firmware_stays() {
        crate::run::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        Ca::open(folder.path())
            .unwrap()
            .boot_tls(KeyKind::Rsa, &[])
            .unwrap();
        let first = read("boot-rsa.pem");
        Ca::open(folder.path())
            .unwrap()
            .boot_tls(KeyKind::Rsa, &[])
            .unwrap();
        assert_eq!(read("boot-rsa.pem"), first);
        let text = String::from_utf8(first).unwrap();
        let der = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(
            matches!(root.public_key().parsed(), Ok(PublicKey::RSA(key)) if key.key_size() == 3072)
        );
    }

    /// The engine tells people what is wanted; it has to want what the TLS library takes.
    #[test]
    fn what_is_wanted_of_boot_programs_is_what_we_take() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let ours: Vec<u16> = provider
            .cipher_suites
            .iter()
            .map(|suite| suite.suite().into())
            .collect();
        let wanted = [tls::TLS_1_3_SUITES, tls::RSA_SUITES, tls::ECDSA_SUITES].concat();
        assert_eq!(sorted(ours), sorted(wanted));
        let ours = provider.kx_groups.iter().map(|group| group.name().into());
        assert_eq!(sorted(ours.collect()), sorted(tls::GROUPS.to_vec()));
    }

    fn sorted(mut codes: Vec<u16>) -> Vec<u16> {
        codes.sort_unstable();
        codes
    }
}
