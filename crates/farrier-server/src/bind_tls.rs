//! The certificate somebody brought for HTTPS of the boot plane: looked at before anything starts, since firmware
//! that refuses it says little.

use std::net::IpAddr;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use crate::bind::fault;
use crate::ca::BootTls;
use crate::config::{BootCertificate, Config, Fault};
use crate::core::now;

/// Loads it, if there is one to load.
pub(crate) fn own_certificate(
    config: &Config,
    addresses: &[IpAddr],
    faults: &mut Vec<Fault>,
) -> Option<BootTls> {
    let tls = config.boot_tls.as_ref()?;
    let BootCertificate::Files { chain, key } = &tls.certificate else {
        return None;
    };
    let (loaded, leaf) = match BootTls::from_files(chain, key) {
        Ok(loaded) => loaded,
        Err(what) => {
            let remedy = "Name PEM files of one certificate and its key that this user can read.";
            faults.push(fault("boot.tls.certificate", what, remedy));
            return None;
        }
    };
    let wanted: Vec<String> = match &tls.host {
        Some(host) => vec![host.clone()],
        None => addresses.iter().map(ToString::to_string).collect(),
    };
    for name in wanted.iter().filter(|name| !names(&leaf, name)) {
        let what = format!("does not name {name}, which URLs hold");
        let remedy =
            "Use one that does, or set boot.tls.host to a name in it that machines find by DNS.";
        faults.push(fault("boot.tls.certificate", what, remedy));
    }
    if let Some(what) = out_of_date(&leaf) {
        faults.push(fault("boot.tls.certificate", what, "Renew it."));
    }
    Some(loaded)
}

fn names(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(leaf), Ok(name)) = (
        ParsedCertificate::try_from(leaf),
        ServerName::try_from(name),
    ) else {
        return false;
    };
    verify_server_name(&leaf, &name).is_ok()
}

fn out_of_date(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let seconds = now().0 / 1000;
    let (from, to) = (parsed.validity().not_before, parsed.validity().not_after);
    if seconds > to.timestamp() {
        Some(format!("ended on {to}"))
    } else if seconds < from.timestamp() {
        Some(format!("begins on {from} only, by the clock of this host"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::own_certificate;
    use crate::config::Config;

    fn write(folder: &Path, name: &str, ends: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(ends, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.join("boot.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("boot.key"), key.serialize_pem()).unwrap();
    }

    /// What is wrong with the certificate in `folder`, as its keys and whats.
    fn faults(folder: &Path, more: &str) -> Vec<String> {
        crate::run::install_crypto();
        let text = format!(
            "[boot.tls]\ncertificate = {:?}\nprivate_key = {:?}\n{more}\n[[interface]]\nname = \"eth0\"\n",
            folder.join("boot.pem"),
            folder.join("boot.key")
        );
        let mut faults = Vec::new();
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let config = Config::parse(&text).unwrap();
        let loaded = own_certificate(&config, &[address], &mut faults);
        assert_eq!(
            loaded.is_none(),
            faults.iter().any(|f| f.what.contains("boot.pem"))
        );
        faults.into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn a_certificate_that_firmware_would_refuse_is_a_fault_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let told = faults(folder.path(), "");
        assert!(told[0].contains("boot.pem"), "{told:?}");
        write(folder.path(), "10.0.0.1", 2400);
        assert!(faults(folder.path(), "").is_empty());
        write(folder.path(), "boot.example.org", 2400);
        let told = faults(folder.path(), "");
        assert!(told[0].contains("does not name 10.0.0.1"), "{told:?}");
        assert!(faults(folder.path(), "host = \"boot.example.org\"").is_empty());
        write(folder.path(), "10.0.0.2", 2020);
        let told = faults(folder.path(), "");
        assert!(
            told.len() == 2 && told[1].starts_with("ended on"),
            "{told:?}"
        );
        std::fs::write(
            folder.path().join("boot.key"),
            KeyPair::generate().unwrap().serialize_pem(),
        )
        .unwrap();
        let told = faults(folder.path(), "");
        assert!(told[0].contains("boot.key"), "{told:?}");
    }
}
