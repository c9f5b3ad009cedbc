//! The site's certificate authority and its image signing key.
//!
//! Made at first start and kept in the data folder with mode 0600. The root lives long, since agents and
//! command lines pin it; leaves are made anew at each start and live [`SERVER_DAYS`], those of agents
//! [`AGENT_HOURS`].

mod boot;
pub(crate) mod chain;
mod files;

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use farrier_engine::WallTime;
use farrier_image::key::{SigningKey, VerifyingKey};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::hex::hex;
use files::{open_image_key, open_key, open_root};

pub use boot::{BootTls, read_certificate};

/// Signs for the site.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    root_pem: String,
    image_key: SigningKey,
    folder: PathBuf,
}

/// The keys could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("{path} cannot be read or written: check the data folder's owner and free space")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not what Farrier wrote there: restore it from a backup, or remove the folder to start a new site"
    )]
    Damaged { path: PathBuf, cause: String },
    #[error("a key or certificate could not be made: {0}")]
    Make(String),
}

/// A request for an agent's certificate cannot be granted.
#[derive(Debug, thiserror::Error)]
#[error("the certificate request cannot be used: {0}")]
pub struct BadRequest(String);

/// An agent's certificate and the fingerprint of its key.
#[derive(Clone, Debug)]
pub struct AgentCertificate {
    /// Leaf and root, PEM.
    pub chain: String,
    /// SHA-256 of the public key (SPKI, DER).
    pub key: [u8; 32],
    pub serial: String,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Ca {
    /// Reads the keys in `folder`, or makes them.
    pub fn open(folder: &Path) -> Result<Self, CaError> {
        fs::create_dir_all(folder).map_err(|source| CaError::File {
            path: folder.to_owned(),
            source,
        })?;
        let key = open_key(&folder.join("root.key"), KeyPair::generate)?;
        let (root, root_pem) = open_root(&folder.join("root.pem"), &key, "Farrier site")?;
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(make)?;
        Ok(Self {
            issuer,
            root,
            root_pem,
            image_key: open_image_key(folder)?,
            folder: folder.to_owned(),
        })
    }

    /// SHA-256 of the root certificate: what agents and command lines pin.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(digest::digest(&digest::SHA256, &self.root).as_ref())
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The last moment at which the root certificate is good.
    #[must_use]
    pub fn root_ends(&self) -> WallTime {
        let parsed = x509_parser::parse_x509_certificate(&self.root).ok();
        let seconds = parsed.map_or(0, |(_, root)| root.validity().not_after.timestamp());
        WallTime(seconds.saturating_mul(1000))
    }

    #[must_use]
    pub fn image_key(&self) -> &SigningKey {
        &self.image_key
    }

    #[must_use]
    pub fn image_verifying_key(&self) -> VerifyingKey {
        self.image_key.verifying_key()
    }

    /// TLS 1.3 for agents. A client certificate is not asked of everybody, since a machine enrols without
    /// one; if one comes it must be ours.
    pub fn agent_tls(&self, names: &[SanType]) -> Result<Arc<ServerConfig>, CaError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).map_err(make)?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .map_err(make)?;
        let (chain, key) = self.server_leaf(names)?;
        let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(make)?;
        Ok(Arc::new(with_http(config)))
    }

    /// TLS for people and programs.
    pub fn admin_tls(&self, names: &[SanType]) -> Result<Arc<ServerConfig>, CaError> {
        let (chain, key) = self.server_leaf(names)?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(make)?;
        Ok(Arc::new(with_http(config)))
    }

    /// Grants an agent's request for `machine`. Only the key is taken from the request.
    pub fn sign_agent(&self, csr_pem: &str, machine: Uuid) -> Result<AgentCertificate, BadRequest> {
        if csr_pem.len() > MAX_CSR {
            return Err(BadRequest("it is too long".to_owned()));
        }
        let bad = |e: rcgen::Error| BadRequest(e.to_string());
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(bad)?;
        let mut params = leaf_params(Duration::hours(AGENT_HOURS));
        params
            .distinguished_name
            .push(DnType::CommonName, machine.hyphenated().to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = random_serial().map_err(|e| BadRequest(e.to_string()))?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        csr.params = params;
        let certificate = csr.signed_by(&self.issuer).map_err(bad)?;
        let key = key_fingerprint(certificate.der())
            .ok_or_else(|| BadRequest("its key cannot be read".to_owned()))?;
        Ok(AgentCertificate {
            chain: certificate.pem() + &self.root_pem,
            key,
            serial: hex(&serial),
        })
    }

    fn server_leaf(
        &self,
        names: &[SanType],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
        let key = KeyPair::generate().map_err(make)?;
        let mut params = leaf_params(Duration::days(SERVER_DAYS));
        params
            .distinguished_name
            .push(DnType::CommonName, "Farrier");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names.to_vec();
        let leaf = params.signed_by(&key, &self.issuer).map_err(make)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // The root goes along: an agent knows only its fingerprint.
        Ok((vec![leaf.der().clone(), self.root.clone()], key))
    }
}

/// Which machine an agent's verified certificate names, and the fingerprint of its key.
#[must_use]
pub fn agent_identity(certificate: &CertificateDer<'_>) -> Option<(Uuid, [u8; 32])> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some((name.parse().ok()?, key_fingerprint(certificate)?))
}

/// The names a listener's certificate needs.
#[must_use]
pub fn names(addresses: impl IntoIterator<Item = IpAddr>, hosts: &[String]) -> Vec<SanType> {
    let hosts = hosts.iter().filter_map(|host| match host.parse() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) => host.as_str().try_into().ok().map(SanType::DnsName),
    });
    addresses
        .into_iter()
        .map(SanType::IpAddress)
        .chain(hosts)
        .collect()
}

fn key_fingerprint(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    digest::digest(&digest::SHA256, parsed.public_key().raw)
        .as_ref()
        .try_into()
        .ok()
}

fn with_http(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Dated back by a day: machines with a dead clock battery are often some hours off (`R10`).
fn leaf_params(life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + life;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn random_serial() -> Result<[u8; 16], CaError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| CaError::Make("no random numbers".to_owned()))?;
    // Positive and without leading zeros (RFC 5280 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn make(error: impl fmt::Display) -> CaError {
    CaError::Make(error.to_string())
}

/// Made anew at each start; a server that runs longer must be restarted once in two years.
const SERVER_DAYS: i64 = 730;
/// The same, for whoever watches it.
pub const SERVER_LIFE: std::time::Duration = std::time::Duration::from_secs(730 * 86_400);
/// Longer than any deployment takes, shorter than the next school day.
const AGENT_HOURS: i64 = 24;
const MAX_CSR: usize = 4096;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use uuid::Uuid;

    use super::{Ca, agent_identity};

    #[test]
    fn keys_are_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ca::open(folder.path()).unwrap();
        let again = Ca::open(folder.path()).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.image_verifying_key(), again.image_verifying_key());
    }

    #[test]
    fn t3_an_agent_gets_the_name_we_choose_and_keeps_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::new(vec!["another-machine".to_owned()]).unwrap();
        let csr = request.serialize_request(&key).unwrap().pem().unwrap();
        let machine = Uuid::from_u128(7);
        let signed = ca.sign_agent(&csr, machine).unwrap();
        let leaf = CertificateDer::from_pem_slice(signed.chain.as_bytes()).unwrap();
        assert_eq!(agent_identity(&leaf), Some((machine, signed.key)));
    }

    #[test]
    fn a_damaged_key_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        Ca::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("root.key"), "gone").unwrap();
        let error = Ca::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("root.key") && error.contains("backup"),
            "{error}"
        );
    }

    #[test]
    fn hostile_requests_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::open(folder.path()).unwrap();
        for csr in [
            "",
            "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
            &"a".repeat(1 << 16),
        ] {
            assert!(ca.sign_agent(csr, Uuid::nil()).is_err());
        }
    }
}
