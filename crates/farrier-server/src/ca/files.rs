//! Keys and certificates in the data folder: made once, whole or not at all, and found again.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use farrier_image::key::SigningKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::Duration;

use super::{CaError, leaf_params, make, random_serial};
use crate::hex::hex;

pub(super) fn open_key(
    path: &Path,
    generate: impl FnOnce() -> Result<KeyPair, rcgen::Error>,
) -> Result<KeyPair, CaError> {
    if !path.exists() {
        let key = generate().map_err(make)?;
        write_secret(path, key.serialize_pem().as_bytes())?;
    }
    let text = read(path)?;
    let text = std::str::from_utf8(&text).map_err(|e| damaged(path, e))?;
    KeyPair::from_pem(text).map_err(|e| damaged(path, e))
}

pub(super) fn open_root(
    path: &Path,
    key: &KeyPair,
    name: &str,
) -> Result<(CertificateDer<'static>, String), CaError> {
    if !path.exists() {
        let certificate = root_params(name)?.self_signed(key).map_err(make)?;
        write_secret(path, certificate.pem().as_bytes())?;
    }
    let text = read(path)?;
    let der = CertificateDer::from_pem_slice(&text).map_err(|e| damaged(path, e))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| damaged(path, e))?;
    if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(key) {
        return Err(damaged(
            path,
            "it is not the certificate of the key beside it",
        ));
    }
    let text = String::from_utf8(text).map_err(|e| damaged(path, e))?;
    Ok((der, text))
}

fn root_params(name: &str) -> Result<CertificateParams, CaError> {
    let mut params = leaf_params(Duration::days(ROOT_DAYS));
    let serial = random_serial()?;
    // Two sites must not look the same in a browser's list.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{name} {}", &hex(&serial)[..8]));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

pub(super) fn open_image_key(folder: &Path) -> Result<SigningKey, CaError> {
    let path = folder.join("images.key");
    if !path.exists() {
        let key = SigningKey::generate().map_err(make)?;
        write_secret(&path, &key.to_pkcs8().map_err(make)?)?;
    }
    SigningKey::from_pkcs8(&read(&path)?).map_err(|e| damaged(&path, e))
}

fn read(path: &Path) -> Result<Vec<u8>, CaError> {
    fs::read(path).map_err(|source| CaError::File {
        path: path.to_owned(),
        source,
    })
}

/// Whole or not at all, and never readable by others.
fn write_secret(path: &Path, content: &[u8]) -> Result<(), CaError> {
    let partial = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        fs::File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().map_err(|source| CaError::File {
        path: path.to_owned(),
        source,
    })
}

fn damaged(path: &Path, cause: impl fmt::Display) -> CaError {
    CaError::Damaged {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

const ROOT_DAYS: i64 = 20 * 365;
