//! What is wrong with a chain of certificates: told before firmware finds out, since firmware that refuses one says
//! little.

use std::time::Duration;

use aws_lc_rs::digest;
use farrier_engine::WallTime;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::certificate::Validity;

use crate::hex::hex;

/// Why firmware that looks for `name` would refuse this chain, as a clause. The chain is taken to end at whom the
/// firmware trusts, or below.
pub(crate) fn fault(chain: &[CertificateDer<'_>], name: &str, at: WallTime) -> Option<String> {
    let Some(leaf) = chain.first() else {
        return Some("holds no certificate".to_owned());
    };
    if !names(leaf, name) {
        return Some(format!("does not name {name}, which URLs hold"));
    }
    let late = chain.iter().enumerate().find_map(|(i, certificate)| {
        let what = out_of_date(certificate, at)?;
        Some(match i {
            0 => what,
            _ => format!("is signed by one that {what}"),
        })
    });
    late.or_else(|| broken(chain, at))
}

/// Whether this is a certificate for `name`.
pub(crate) fn names(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(leaf), Ok(name)) = (
        ParsedCertificate::try_from(leaf),
        ServerName::try_from(name),
    ) else {
        return false;
    };
    verify_server_name(&leaf, &name).is_ok()
}

/// Why the certificate is not good at this time, as a clause.
pub(crate) fn out_of_date(certificate: &CertificateDer<'_>, at: WallTime) -> Option<String> {
    let validity = validity(certificate)?;
    let seconds = at.0 / 1000;
    let (from, to) = (validity.not_before, validity.not_after);
    if seconds > to.timestamp() {
        Some(format!("ended on {to}"))
    } else if seconds < from.timestamp() {
        Some(format!("begins on {from} only, by the clock of this host"))
    } else {
        None
    }
}

/// SHA-256 of a certificate, in hexadecimal digits.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(digest::digest(&digest::SHA256, certificate).as_ref())
}

/// For how long all of the chain is good.
pub(crate) fn good_for(chain: &[CertificateDer<'_>], at: WallTime) -> Duration {
    let ends = chain.iter().filter_map(validity);
    let first = ends.map(|validity| validity.not_after.timestamp()).min();
    WallTime(first.unwrap_or_default().saturating_mul(1000)).since(at)
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().clone())
}

/// A chain that begins with one certificate and goes on with those of another is refused by everybody.
fn broken(chain: &[CertificateDer<'_>], at: WallTime) -> Option<String> {
    let error = verified(chain, at).err()?;
    Some(format!(
        "is not signed by those that are sent with it: {error}"
    ))
}

/// The same, of those chains alone whose certificates do not sign one another: what else is refused here, some firmware
/// may take.
pub(crate) fn unsigned(chain: &[CertificateDer<'_>], at: WallTime) -> Option<String> {
    let no_signer = matches!(
        verified(chain, at),
        Err(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    );
    no_signer.then(|| "is not signed by those that are sent with it".to_owned())
}

fn verified(chain: &[CertificateDer<'_>], at: WallTime) -> Result<(), Error> {
    let [leaf, between @ .., last] = chain else {
        return Ok(());
    };
    let clock = Duration::from_millis(at.0.try_into().unwrap_or_default());
    let mut trusted = RootCertStore::empty();
    trusted.add(last.clone().into_owned())?;
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf)?,
        &trusted,
        between,
        UnixTime::since_unix_epoch(clock),
        crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all,
    )
}

/// Who is to bring a new one has holidays.
pub(crate) const WARNING_DAYS: u64 = 30;

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };
    use rustls::pki_types::CertificateDer;

    use super::{fault, good_for, unsigned};
    use crate::core::now;

    /// A certificate for `10.0.0.1` below an authority of this name, and the authority.
    fn chain(authority: &str, ends: i32) -> [CertificateDer<'static>; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new(vec!["10.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(ends, 1, 1);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer);
        [leaf.unwrap().der().clone(), root.der().clone()]
    }

    #[test]
    fn what_firmware_would_refuse_is_named() {
        let (ours, other) = (chain("ours", 2400), chain("other", 2400));
        let mixed = [ours[0].clone(), other[1].clone()];
        let late = chain("late", 2020);
        let at = now();
        assert_eq!(fault(&ours, "10.0.0.1", at), None);
        assert_eq!(fault(&ours[..1], "10.0.0.1", at), None);
        for (name, chain, host, words) in [
            ("nothing", &[][..], "10.0.0.1", "no certificate"),
            ("another name", &ours, "10.0.0.2", "does not name 10.0.0.2"),
            ("an end", &late, "10.0.0.1", "ended on"),
            ("another authority", &mixed, "10.0.0.1", "not signed by"),
        ] {
            let fault = fault(chain, host, at).unwrap();
            assert!(fault.contains(words), "{name}: {fault}");
        }
        for (chain, broken) in [
            (&ours[..], false),
            (&ours[..1], false),
            (&mixed, true),
            (&[ours[0].clone(), other[0].clone(), ours[1].clone()], false),
            (&[ours[0].clone(), ours[1].clone(), other[1].clone()], true),
            (&late, false),
        ] {
            assert_eq!(unsigned(chain, at).is_some(), broken, "{chain:?}");
        }
        assert!(good_for(&ours, at).as_secs() > 86_400);
        assert!(good_for(&late, at).is_zero());
    }
}
