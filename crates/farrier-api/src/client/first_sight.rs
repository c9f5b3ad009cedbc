//! What a server shows of itself before anybody trusts it.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::admin::{AdminAddress, AdminClientError, http, prepare, transport};
use super::pin::CaPin;

/// The authority that `server` claims. The connection is cut during the handshake, so nothing is said to
/// a server that nobody has vouched for; a person compares the fingerprint, and from then on it is pinned.
pub async fn authority_of(server: &AdminAddress) -> Result<CaPin, AdminClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let look = Arc::new(Look {
        seen: Mutex::new(None),
        provider: Arc::clone(&provider),
    });
    let tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(prepare)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&look) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let sent = http(tls)?.get(server.to_string()).send().await;
    let seen = look
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match (seen, sent) {
        (Some(pin), _) => Ok(pin),
        (None, Err(error)) => Err(transport(server, &error)),
        (None, Ok(_)) => Err(AdminClientError::Nonsense {
            cause: "it showed no certificate".to_owned(),
        }),
    }
}

/// Remembers the last certificate of the chain and refuses all of them.
#[derive(Debug)]
struct Look {
    seen: Mutex<Option<CaPin>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = intermediates.last().unwrap_or(end_entity);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(CaPin::of(root));
        Err(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer,
        ))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(
            "this connection is only a look".to_owned(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(
            "this connection is only a look".to_owned(),
        ))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
