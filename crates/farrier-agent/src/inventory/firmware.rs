//! Secure Boot and TPM.

use std::fs;
use std::path::Path;

use super::{line, names};

/// None on BIOS, and on UEFI that has no such variable. After four bytes of attributes comes one byte
/// (UEFI 2.10 section 3.3).
pub(super) fn secure_boot(root: &Path) -> Option<bool> {
    const VARIABLE: &str =
        "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let content = fs::read(root.join(VARIABLE)).ok()?;
    content.get(4).map(|value| *value == 1)
}

/// The version of the first TPM, if there is one.
pub(super) fn tpm(root: &Path) -> Option<String> {
    let class = root.join("sys/class/tpm");
    let first = names(&class).into_iter().next()?;
    Some(
        match line(&class.join(first).join("tpm_version_major")).as_str() {
            "2" => "2.0".to_owned(),
            "1" => "1.2".to_owned(),
            _ => "unknown".to_owned(),
        },
    )
}
