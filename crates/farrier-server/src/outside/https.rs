//! The HTTPS port as firmware sees it: the certificate that comes out of it, and whether firmware would take it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use farrier_api::admin::{Check, Served, ServedHttps, Verdict};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Heard, PATIENCE, TRIES, judged, no_answer};
use crate::ca::chain;
use crate::core::now;

/// What came of it.
enum Shown {
    Chain(Vec<CertificateDer<'static>>),
    /// The port answers, and TLS does not come about.
    NoTls(String),
    /// Not even a connection.
    Not(Heard),
}

/// Asks as firmware would, without trusting or refusing anybody, and looks at what was shown.
pub(super) async fn check(served: &Served, https: &ServedHttps, ip: IpAddr, near: bool) -> Check {
    let name = https.host.as_deref().unwrap_or(&served.address);
    let shown = look(SocketAddr::from((ip, https.port)), name).await;
    let heard = match shown {
        Shown::Not(heard) => heard,
        Shown::Chain(_) | Shown::NoTls(_) => Heard::Answer,
    };
    let port = judged("HTTPS", "TCP", served, https.port, heard, near);
    match shown {
        Shown::Not(_) => port,
        Shown::NoTls(cause) => no_tls(&cause, port),
        Shown::Chain(chain) => judge(&chain, name, https, port),
    }
}

/// Where agents work. They know the server by what their boot script pinned, so that no name is judged here.
pub(super) async fn agents(served: &Served, at: SocketAddr, near: bool) -> Check {
    let shown = look(at, &served.address).await;
    let port = |heard| judged("Agents", "TCP", served, at.port(), heard, near);
    match shown {
        Shown::Not(heard) => port(heard),
        Shown::NoTls(cause) => no_tls(&cause, port(Heard::Answer)),
        Shown::Chain(_) => port(Heard::Answer),
    }
}

fn no_tls(cause: &str, port: Check) -> Check {
    Check {
        verdict: Verdict::Bad,
        found: format!("answers, and TLS does not come about: {cause}"),
        remedy: Some(
            "See that no other program and no proxy has this port; the server's log says more."
                .to_owned(),
        ),
        ..port
    }
}

fn judge(chain: &[CertificateDer<'_>], name: &str, https: &ServedHttps, port: Check) -> Check {
    let bad = |found: String, remedy: &str| Check {
        verdict: Verdict::Bad,
        found,
        remedy: Some(remedy.to_owned()),
        ..port.clone()
    };
    let shown = chain.first().map(chain::fingerprint);
    if shown.as_ref() != Some(&https.certificate) {
        return bad(
            "shows a certificate that is not the server's".to_owned(),
            "Take what opens TLS on the way (a proxy, an inspecting firewall) out of it: firmware refuses it.",
        );
    }
    if let Some(fault) = chain::fault(chain, name, now()) {
        return bad(format!("the certificate {fault}"), RENEW);
    }
    let days = chain::good_for(chain, now()).as_secs() / 86_400;
    if days < chain::WARNING_DAYS {
        return Check {
            verdict: Verdict::Warning,
            found: format!("the certificate ends in {days} days"),
            remedy: Some(RENEW.to_owned()),
            ..port
        };
    }
    Check {
        found: format!(
            "{}; the certificate names {name} and is good for {days} more days",
            port.found
        ),
        ..port
    }
}

async fn look(at: SocketAddr, name: &str) -> Shown {
    let Ok(name) = ServerName::try_from(name.to_owned()) else {
        return Shown::NoTls(format!("{name:?} is no name for a server"));
    };
    match timeout(PATIENCE * TRIES, chain_at(at, name)).await {
        Ok(Ok(chain)) => Shown::Chain(chain),
        Ok(Err(error)) if error.get_ref().is_some() => Shown::NoTls(error.to_string()),
        Ok(Err(error)) => Shown::Not(no_answer(&error)),
        Err(_) => Shown::Not(Heard::Nothing),
    }
}

/// The certificates of who answers there by HTTP over TLS.
async fn chain_at(
    at: SocketAddr,
    name: ServerName<'static>,
) -> io::Result<Vec<CertificateDer<'static>>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let stream = TcpStream::connect(at).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut begin = [0; 5];
    stream.read_exact(&mut begin).await?;
    if &begin != b"HTTP/" {
        return Err(io::Error::other("what answers there speaks no HTTP"));
    }
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(shown
        .iter()
        .cloned()
        .map(CertificateDer::into_owned)
        .collect())
}

/// Takes every certificate, to look at it; nothing is told to who shows it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Of both kinds, since the doctor need not be able to read the configuration.
const RENEW: &str = "Renew it: one of your own in its files, which the server reads anew; one of Farrier's by a restart of the server.";
