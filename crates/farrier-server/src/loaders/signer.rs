//! Who signed a boot program: the certificates in the security directory of a PE file (Microsoft PE format,
//! "The Attribute Certificate Table"). Told to people and used to choose; firmware does the verifying.

use x509_parser::prelude::{FromDer, X509Certificate};

/// The common name of the signer's certificate, or none when the file has no signature.
#[must_use]
pub(super) fn of(file: &[u8]) -> Option<String> {
    let table = security_directory(file)?;
    let names: Vec<(String, bool)> = certificates(table).collect();
    let leaf = names.iter().find(|(_, is_ca)| !is_ca);
    leaf.or_else(|| names.first()).map(|(name, _)| name.clone())
}

/// The bytes of data directory 4, which holds a file offset rather than an address.
fn security_directory(file: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
    let pe = word(0x3c)?;
    if file.get(pe..)?.first_chunk() != Some(b"PE\0\0") {
        return None;
    }
    let optional = pe.checked_add(24)?;
    let magic = u16::from_le_bytes(*file.get(optional..)?.first_chunk()?);
    let directories = optional.checked_add(if magic == 0x20b { 112 } else { 96 })?;
    let entry = directories.checked_add(4 * 8)?;
    let (start, len) = (word(entry)?, word(entry.checked_add(4)?)?);
    if len == 0 {
        return None;
    }
    file.get(start..start.checked_add(len)?)
}

/// Certificates inside the PKCS #7 message, found by trying each place where one may start: the message
/// itself is of no interest here.
fn certificates(table: &[u8]) -> impl Iterator<Item = (String, bool)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + 4 <= table.len() {
            let here = at;
            at += 1;
            if table[here..].first_chunk() != Some(&[0x30, 0x82]) {
                continue;
            }
            let Ok((rest, certificate)) = X509Certificate::from_der(&table[here..]) else {
                continue;
            };
            at = table.len() - rest.len();
            let name = certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|n| n.as_str().ok());
            let Some(name) = name.map(ToOwned::to_owned) else {
                continue;
            };
            return Some((name, certificate.is_ca()));
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
