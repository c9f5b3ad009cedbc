//! Who signed a boot program: the certificates in the security directory of a PE file ("The Attribute Certificate
//! Table"). Told to people and used to choose; firmware does the verifying.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::pe::Pe;

/// One certificate found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Common names.
    pub subject: String,
    pub issuer: String,
    /// It may sign other certificates.
    pub authority: bool,
    /// The last day it is good for.
    pub until: String,
}

/// The common name of the signer's certificate, or none when the file has no signature.
#[must_use]
pub(super) fn of(file: &[u8]) -> Option<String> {
    leaf(&signatures(file)).map(|certificate| certificate.subject.clone())
}

/// The certificate of who signed, among those that came with the signature.
pub(super) fn leaf(certificates: &[Certificate]) -> Option<&Certificate> {
    let leaf = certificates.iter().find(|found| !found.authority);
    leaf.or_else(|| certificates.first())
}

/// Certificates inside the signatures of a PE file.
pub(super) fn signatures(file: &[u8]) -> Vec<Certificate> {
    let table = Pe::read(file).and_then(|pe| pe.security_directory());
    certificates(table.unwrap_or_default()).collect()
}

/// Certificates inside `bytes` (a PKCS #7 message, shim's own section), found by trying each place where one may
/// start: what is around them is of no interest here.
pub(super) fn certificates(bytes: &[u8]) -> impl Iterator<Item = Certificate> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + 4 <= bytes.len() {
            let here = at;
            at += 1;
            if bytes[here..].first_chunk() != Some(&[0x30, 0x82]) {
                continue;
            }
            let Ok((rest, certificate)) = X509Certificate::from_der(&bytes[here..]) else {
                continue;
            };
            at = bytes.len() - rest.len();
            let names = (
                certificate.subject().iter_common_name().next(),
                certificate.issuer().iter_common_name().next(),
            );
            let text = |name: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
                name.and_then(|name| name.as_str().ok())
                    .map(ToOwned::to_owned)
            };
            let Some(subject) = text(names.0) else {
                continue;
            };
            return Some(Certificate {
                subject,
                issuer: text(names.1).unwrap_or_default(),
                authority: certificate.is_ca(),
                until: certificate.validity().not_after.to_string(),
            });
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = super::of(&bytes);
        }

        #[test]
        fn any_headers_are_survived(pe in any::<u32>(), tail in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut file = vec![0; 0x40];
            file[0x3c..].copy_from_slice(&pe.to_le_bytes());
            file.extend(tail);
            let _ = super::of(&file);
        }
    }
}
