//! A certificate authority in the form in which QEMU hands it to edk2.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::command::{command, run};

/// Writes the authority of a PEM file as a signature list (UEFI 2.10, section 32.4.1) that
/// `-fw_cfg name=etc/edk2/https/cacerts` takes: edk2 makes its variable `TlsCaCertificate` of it.
///
/// # Errors
/// When `openssl` cannot read the file, or the list not be written.
pub(super) fn signature_list(pem: &Path, list: &Path) -> Result<()> {
    let plain = list.with_extension("der");
    let mut convert = command("openssl", ["x509", "-outform", "der", "-in"]);
    run(convert.arg(pem).arg("-out").arg(&plain))?;
    let der = fs::read(&plain).with_context(|| format!("no {}", plain.display()))?;
    let size = u32::try_from(16 + der.len()).context("the certificate is too large")?;
    let head = [
        X509.as_slice(),
        &(28 + size).to_le_bytes(),
        &0_u32.to_le_bytes(),
        &size.to_le_bytes(),
        &OWNER,
    ];
    let bytes = [head.concat(), der].concat();
    fs::write(list, bytes).with_context(|| format!("cannot write {}", list.display()))
}

/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// Of no meaning to anybody.
const OWNER: [u8; 16] = *b"farrier-e2e-test";
