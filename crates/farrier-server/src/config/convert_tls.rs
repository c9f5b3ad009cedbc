//! HTTPS of the boot plane, as written and as used.

use std::net::IpAddr;

use farrier_engine::tls::KeyKind;
use rustls::pki_types::DnsName;
use toml::Spanned;

use super::convert::{Collector, port};
use super::{BootCertificate, BootTlsConfig, DEFAULT_BOOT_TLS_PORT, file};

/// `taken` are the ports of plain HTTP and of agents.
pub(super) fn boot(
    written: &file::Boot,
    taken: (u16, u16),
    faults: &mut Collector<'_>,
) -> Option<BootTlsConfig> {
    let written = written.tls.as_ref()?;
    let key = "boot.tls.port";
    let at = written.port.as_ref();
    let port = port(at, key, DEFAULT_BOOT_TLS_PORT, faults);
    let other = match port {
        port if port == taken.0 => Some("boot.http_port"),
        port if port == taken.1 => Some("agent.port"),
        _ => None,
    };
    if let Some(other) = other {
        let what = format!("is the same as {other}");
        let at = at.map(Spanned::span);
        faults.add(key, at, &what, "Give each a port of its own.");
    }
    let host = written.host.as_ref().map(|host| {
        if !is_name(host.get_ref()) {
            let what = format!("{:?} is no host name", host.get_ref());
            let remedy =
                "Write a name that DNS knows, or take the key out: then URLs hold the address.";
            faults.add("boot.tls.host", Some(host.span()), &what, remedy);
        }
        host.get_ref().clone()
    });
    Some(BootTlsConfig {
        port,
        certificate: certificate(written, faults),
        names: names(written, host.as_ref(), faults),
        host,
    })
}

fn certificate(written: &file::BootTls, faults: &mut Collector<'_>) -> BootCertificate {
    let kind = match written.key.as_ref().map(|key| key.get_ref().as_str()) {
        None | Some("rsa-3072") => KeyKind::Rsa,
        Some("p-256") => KeyKind::P256,
        Some(other) => {
            let what = format!("{other:?} is no kind of key that firmware knows");
            let at = written.key.as_ref().map(Spanned::span);
            let remedy = "Write \"rsa-3072\" or \"p-256\".";
            faults.add("boot.tls.key", at, &what, remedy);
            KeyKind::Rsa
        }
    };
    let (chain, key) = match (&written.certificate, &written.private_key) {
        (None, None) => return BootCertificate::Own(kind),
        (Some(chain), Some(key)) => (chain, key),
        (Some(chain), None) => {
            let remedy = "Name the file with its key, too.";
            let at = Some(chain.span());
            faults.add("boot.tls.private_key", at, "is missing", remedy);
            return BootCertificate::Own(kind);
        }
        (None, Some(key)) => {
            let remedy = "Name the file with its certificate, too.";
            let at = Some(key.span());
            faults.add("boot.tls.certificate", at, "is missing", remedy);
            return BootCertificate::Own(kind);
        }
    };
    if let Some(written) = &written.key {
        let what = "says what key to make, beside a certificate that there is already";
        let remedy = "Take it out, or take out certificate and private_key.";
        faults.add("boot.tls.key", Some(written.span()), what, remedy);
    }
    BootCertificate::Files {
        chain: chain.get_ref().clone(),
        key: key.get_ref().clone(),
    }
}

fn names(
    written: &file::BootTls,
    host: Option<&String>,
    faults: &mut Collector<'_>,
) -> Vec<String> {
    for (i, name) in written.names.iter().enumerate() {
        if name.get_ref().parse::<IpAddr>().is_err() && !is_name(name.get_ref()) {
            let what = format!("{:?} is neither a host name nor an address", name.get_ref());
            let key = format!("boot.tls.names[{i}]");
            faults.add(&key, Some(name.span()), &what, "Correct it or take it out.");
        }
    }
    let names = written.names.iter().map(|name| name.get_ref().clone());
    host.cloned().into_iter().chain(names).collect()
}

fn is_name(text: &str) -> bool {
    text.parse::<IpAddr>().is_err() && DnsName::try_from(text).is_ok()
}
