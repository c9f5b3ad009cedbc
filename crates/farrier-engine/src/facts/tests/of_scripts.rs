//! What the parameters of a script request say of a machine, and what they may not say.

use super::*;

fn script(parameters: &[(&str, &str)]) -> Result<BootFacts, ScriptFactsError> {
    BootFacts::from_http(parameters.iter().copied())
}

#[test]
fn script_parameters_become_facts() {
    let facts = script(&[
        ("mac", "52-54-00-77-00-01"),
        ("uuid", "00112233-4455-6677-8899-525400770001"),
        ("serial", "5CG1234XYZ"),
        ("manufacturer", "Dell Inc."),
        ("product", "Latitude || reboot"),
        ("platform", "efi"),
        ("buildarch", "arm64"),
        ("version", "1.21.1+ (g1234)"),
        ("no-such-name", "x"),
    ])
    .unwrap();
    assert_eq!(facts.mac, MAC);
    assert_eq!(
        (facts.arch, facts.firmware),
        (Some(Arch::Arm64), Some(FirmwareKind::Uefi))
    );
    assert_eq!(facts.product.unwrap().as_str(), "Latitude || reboot");
    assert_eq!(
        facts.uuid.unwrap().canonical.to_string(),
        "00112233-4455-6677-8899-525400770001"
    );
    assert_eq!(facts.protocol, Protocol::Script);
    assert!(facts.oddities.is_empty());
}

#[test]
fn script_platforms() {
    use FirmwareKind::{Bios, Uefi};
    for (platform, buildarch, arch, firmware) in [
        ("pcbios", "i386", Some(Arch::X86_64), Some(Bios)),
        ("pcbios", "x86_64", Some(Arch::X86_64), Some(Bios)),
        ("efi", "i386", Some(Arch::Ia32), Some(Uefi)),
        ("efi", "x86_64", Some(Arch::X86_64), Some(Uefi)),
        ("efi", "riscv64", Some(Arch::RiscV64), Some(Uefi)),
        ("linux", "x86_64", Some(Arch::X86_64), None),
        ("efi", "vax", None, Some(Uefi)),
    ] {
        let facts = script(&[
            ("mac", "525400770001"),
            ("platform", platform),
            ("buildarch", buildarch),
        ])
        .unwrap();
        assert_eq!(
            (facts.arch, facts.firmware),
            (arch, firmware),
            "{platform} {buildarch}"
        );
    }
}

#[test]
fn script_requests_out_of_form() {
    assert_eq!(script(&[]), Err(ScriptFactsError::NoMac));
    assert_eq!(script(&[("mac", "")]), Err(ScriptFactsError::NoMac));
    assert_eq!(script(&[("mac", "no")]), Err(ScriptFactsError::BadMac));
    assert_eq!(
        script(&[("mac", "ff:ff:ff:ff:ff:ff")]),
        Err(ScriptFactsError::BadMac)
    );
    let long = "x".repeat(500);
    let facts = script(&[
        ("mac", "525400770001"),
        ("mac", "525400770002"),
        ("serial", &long),
        ("uuid", "nonsense"),
    ])
    .unwrap();
    assert_eq!(facts.mac, MAC, "the first counts");
    assert_eq!(facts.serial, None);
    assert_eq!(
        facts.oddities,
        [Oddity::Text, Oddity::MachineIdentifierForm]
    );
}
