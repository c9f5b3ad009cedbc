use super::*;
use crate::policy::Policy;

pub(crate) fn loader(id: &str, arch: Arch, firmware: FirmwareKind, kind: LoaderKind) -> Loader {
    Loader {
        id: id.into(),
        file_name: format!("{id}.efi"),
        arch,
        firmware,
        kind,
        version: "1.0".into(),
        signer: None,
        sha256: "00".repeat(32),
        size: 1000,
        source_package: "ipxe".into(),
    }
}

fn ipxe(id: &str, firmware: FirmwareKind, variant: IpxeVariant) -> Loader {
    loader(id, Arch::X86_64, firmware, LoaderKind::Ipxe { variant })
}

fn facts(arch: Arch, firmware: FirmwareKind) -> BootFacts {
    let mut facts = BootFacts::from_http([("mac", "525400770001")]).unwrap();
    facts.arch = Some(arch);
    facts.firmware = Some(firmware);
    facts
}

#[test]
fn chosen_by_architecture_firmware_and_policy() {
    use FirmwareKind::{Bios, Uefi};
    let signed = |loader: Loader| Loader {
        signer: Some("Microsoft".into()),
        ..loader
    };
    let named = |file_name: &str, loader: Loader| Loader {
        file_name: file_name.into(),
        ..loader
    };
    let catalogue = Catalogue::new([
        ipxe("undionly", Bios, IpxeVariant::SnpOnly),
        ipxe("ipxe-efi", Uefi, IpxeVariant::Full),
        ipxe("snponly", Uefi, IpxeVariant::SnpOnly),
        loader("pxelinux", Arch::X86_64, Bios, LoaderKind::Pxelinux),
        named(
            "ldlinux.c32",
            loader("ldlinux", Arch::X86_64, Bios, LoaderKind::Part),
        ),
        loader("memtest", Arch::X86_64, Uefi, LoaderKind::MemoryTest),
        loader("memtest-ia32", Arch::Ia32, Uefi, LoaderKind::MemoryTest),
        signed(loader("shim", Arch::X86_64, Uefi, LoaderKind::Shim)),
        signed(loader("grub", Arch::X86_64, Uefi, LoaderKind::Grub)),
        signed(loader("shim-arm64", Arch::Arm64, Uefi, LoaderKind::Shim)),
        loader("grub-arm64", Arch::Arm64, Uefi, LoaderKind::Grub),
    ]);
    let full = Policy {
        ipxe_variant: IpxeVariant::Full,
        ..Policy::DEFAULT
    };
    let secure = Policy {
        secure_boot: true,
        ..Policy::DEFAULT
    };
    let first = |first_loader| Policy {
        first_loader,
        ..Policy::DEFAULT
    };
    for (name, facts, policy, expected) in [
        (
            "UEFI",
            facts(Arch::X86_64, Uefi),
            Policy::DEFAULT,
            Some("snponly"),
        ),
        (
            "UEFI, full",
            facts(Arch::X86_64, Uefi),
            full.clone(),
            Some("ipxe-efi"),
        ),
        (
            "UEFI, Secure Boot",
            facts(Arch::X86_64, Uefi),
            secure.clone(),
            Some("shim"),
        ),
        (
            "BIOS, the other variant is better than none",
            facts(Arch::X86_64, Bios),
            full,
            Some("undionly"),
        ),
        (
            "UEFI, GRUB first",
            facts(Arch::X86_64, Uefi),
            first(FirstLoader::Grub),
            Some("grub"),
        ),
        (
            "BIOS, PXELINUX first",
            facts(Arch::X86_64, Bios),
            first(FirstLoader::Pxelinux),
            Some("pxelinux"),
        ),
        (
            "UEFI has no PXELINUX here",
            facts(Arch::X86_64, Uefi),
            first(FirstLoader::Pxelinux),
            Some("snponly"),
        ),
        (
            "GRUB first, Secure Boot",
            facts(Arch::X86_64, Uefi),
            Policy {
                secure_boot: true,
                ..first(FirstLoader::Grub)
            },
            Some("shim"),
        ),
        (
            "BIOS has no Secure Boot",
            facts(Arch::X86_64, Bios),
            secure.clone(),
            Some("undionly"),
        ),
        (
            "a shim alone starts nothing",
            facts(Arch::Arm64, Uefi),
            Policy::DEFAULT,
            Some("grub-arm64"),
        ),
        (
            "unsigned under Secure Boot",
            facts(Arch::Arm64, Uefi),
            secure,
            None,
        ),
        (
            "a memory test is no first program",
            facts(Arch::Ia32, Uefi),
            Policy::DEFAULT,
            None,
        ),
        (
            "nothing imported",
            facts(Arch::RiscV64, Uefi),
            Policy::DEFAULT,
            None,
        ),
    ] {
        let chosen = catalogue
            .choose(&facts, &policy)
            .ok()
            .map(|loader| loader.id.as_str());
        assert_eq!(chosen, expected, "{name}");
    }
    let memory_test = catalogue.of_kind(LoaderKind::MemoryTest, Arch::X86_64, Uefi);
    assert_eq!(memory_test.unwrap().id, "memtest");
}

#[test]
fn firmware_that_stops_in_ipxe_gets_grub_or_nothing() {
    let full = LoaderKind::Ipxe {
        variant: IpxeVariant::Full,
    };
    let (arch, uefi) = (Arch::Arm64, FirmwareKind::Uefi);
    let mut u_boot = facts(arch, uefi);
    u_boot.quirks = crate::quirk::QUIRKS
        .iter()
        .filter(|quirk| quirk.name == "uboot-efi-sleep")
        .collect();
    let ipxe = loader("ipxe-arm64", arch, uefi, full);
    let alone = Catalogue::new([ipxe.clone()]);
    let error = alone.choose(&u_boot, &Policy::DEFAULT).unwrap_err();
    assert!(error.to_string().contains("grub-efi-arm64-bin"), "{error}");
    assert_eq!(
        alone
            .choose(&facts(arch, uefi), &Policy::DEFAULT)
            .unwrap()
            .id,
        "ipxe-arm64"
    );
    let both = Catalogue::new([ipxe, loader("grub-arm64", arch, uefi, LoaderKind::Grub)]);
    assert_eq!(
        both.choose(&u_boot, &Policy::DEFAULT).unwrap().id,
        "grub-arm64"
    );
}

#[test]
fn the_newer_version_wins() {
    let of = |id: &str, version: &str| Loader {
        version: version.into(),
        ..ipxe(id, FirmwareKind::Uefi, IpxeVariant::SnpOnly)
    };
    let catalogue = Catalogue::new([of("a", "1.9"), of("b", "1.21.1+git-2024"), of("c", "1.10")]);
    let chosen = catalogue
        .choose(&facts(Arch::X86_64, FirmwareKind::Uefi), &Policy::DEFAULT)
        .unwrap();
    assert_eq!(chosen.id, "b");
}

#[test]
fn looked_up_by_id_and_name() {
    let catalogue = Catalogue::new([
        ipxe("b", FirmwareKind::Uefi, IpxeVariant::Full),
        ipxe("a", FirmwareKind::Bios, IpxeVariant::Full),
    ]);
    assert_eq!(catalogue.by_id("b").unwrap().firmware, FirmwareKind::Uefi);
    assert_eq!(catalogue.by_file_name("a.efi").unwrap().id, "a");
    assert!(catalogue.by_id("../b").is_none() && catalogue.by_file_name("a").is_none());
    assert_eq!(
        catalogue.iter().map(|l| l.id.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn the_error_says_what_to_import() {
    for (arch, firmware, signed, words) in [
        (
            Some(Arch::X86_64),
            Some(FirmwareKind::Uefi),
            false,
            "package ipxe",
        ),
        (
            Some(Arch::Ppc64),
            Some(FirmwareKind::OpenFirmware),
            false,
            "core.elf that grub-mknetdir makes",
        ),
        (
            Some(Arch::Arm64),
            Some(FirmwareKind::Uefi),
            true,
            "package shim-signed",
        ),
        (
            Some(Arch::S390x),
            Some(FirmwareKind::S390),
            false,
            "s390x on s390: import one that was built",
        ),
        (None, None, false, "architecture or firmware"),
    ] {
        let text = NoLoader {
            arch,
            firmware,
            signed,
            without_ipxe: false,
        }
        .to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn t11_catalogues_with_which_uefi_machines_reach_their_disk_through_the_firmware() {
    use FirmwareKind::{Bios, Uefi};
    let of_version = |version: &str, loader: Loader| Loader {
        version: version.into(),
        ..loader
    };
    let debian_12 = "1.0.0+git-20190125.36a4c85-5.1";
    let old = || of_version(debian_12, ipxe("ipxe-snponly", Uefi, IpxeVariant::SnpOnly));
    let new = |variant| of_version("2.0.0+git-1", ipxe("ipxe-new", Uefi, variant));
    let grub = |arch| loader("grub", arch, Uefi, LoaderKind::Grub);
    let slow = |loaders: Vec<Loader>| {
        let catalogue = Catalogue::new(loaders);
        let slow = catalogue.slow_local_boots();
        slow.iter()
            .map(|slow| slow.ipxe.id.clone())
            .collect::<Vec<_>>()
    };
    for (name, loaders, expected) in [
        ("nothing", vec![], &[][..]),
        ("old iPXE", vec![old()], &["ipxe-snponly"]),
        ("and GRUB", vec![old(), grub(Arch::X86_64)], &[]),
        (
            "GRUB for others",
            vec![old(), grub(Arch::Ia32)],
            &["ipxe-snponly"],
        ),
        (
            "a program that does it",
            vec![
                old(),
                loader("disk", Arch::X86_64, Uefi, LoaderKind::LocalBoot),
            ],
            &[],
        ),
        (
            "new iPXE first",
            vec![old(), new(IpxeVariant::SnpOnly)],
            &[],
        ),
        (
            "new iPXE second",
            vec![old(), new(IpxeVariant::Full)],
            &["ipxe-snponly"],
        ),
        (
            "a version that tells nothing",
            vec![of_version("unknown", old())],
            &[],
        ),
        (
            "a BIOS",
            vec![of_version(
                debian_12,
                ipxe("undionly", Bios, IpxeVariant::SnpOnly),
            )],
            &[],
        ),
    ] {
        assert_eq!(slow(loaders), expected, "{name}");
    }
    let catalogue = Catalogue::new([old()]);
    let found = catalogue.slow_local_boots()[0];
    assert_eq!(
        found.to_string(),
        "iPXE 1.0.0+git-20190125.36a4c85-5.1 starts no local disk on UEFI: x86_64 machines without work go back to \
         the firmware, which takes minutes on many"
    );
    assert_eq!(
        found.remedy(),
        "import iPXE 2.0 or later, or GRUB, which is in Debian's package grub-efi-amd64-signed: farrier loader import \
         FILE"
    );
}
