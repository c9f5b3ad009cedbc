//! TLS as firmware speaks it: nothing is kept from one connection for the next.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Opens TLS on connections.
#[derive(Clone)]
pub(in crate::bench) struct Connector(TlsConnector);

/// A client that trusts the certificates of a PEM file and no others.
pub(super) fn trusting(pem: &Path) -> anyhow::Result<Connector> {
    let unread = || format!("cannot read certificates from {}", pem.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(pem).with_context(unread)? {
        roots
            .add(certificate.with_context(unread)?)
            .with_context(unread)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Connector(TlsConnector::from(Arc::new(config))))
}

impl Connector {
    pub(super) async fn connect(
        &self,
        server: Ipv4Addr,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::IpAddress(std::net::IpAddr::V4(server).into());
        let opened = self.0.connect(name, stream).await;
        opened.map_err(|e| format!("no TLS: {e}"))
    }
}
