//! What a DHCP request gets: which loader, by which way, or why nothing.

use super::*;

#[test]
fn dhcp_decisions() {
    use Reason::{ArchitectureUnknown, MachineDisabled, NoLoader, NotABootClient};
    use Registration::{Approved, Disabled, Pending, Seen};
    type Row = (
        &'static str,
        Options,
        Option<Registration>,
        DhcpAction,
        &'static str,
    );
    let rows: Vec<Row> = vec![
        ("BIOS", BIOS, Some(Approved), tftp("undionly"), "loader"),
        ("UEFI", UEFI, Some(Approved), tftp("snponly"), "loader"),
        (
            "HTTP Boot",
            HTTP,
            Some(Approved),
            DhcpAction::Boot(Boot::HttpLoader(file("snponly"))),
            "loader",
        ),
        (
            "iPXE gets the script, never a loader",
            IPXE,
            Some(Approved),
            DhcpAction::Boot(Boot::Script),
            "loader running",
        ),
        (
            "iPXE without HTTP gets ours",
            WEAK_IPXE,
            Some(Approved),
            tftp("undionly"),
            "loader",
        ),
        (
            "gPXE gets ours",
            GPXE,
            Some(Approved),
            tftp("undionly"),
            "loader",
        ),
        (
            "no loader",
            IA32,
            Some(Approved),
            DhcpAction::AddressOnly(NoLoader),
            "loader",
        ),
        (
            "architecture not told yet (T5)",
            SLOF_DISCOVER,
            Some(Approved),
            DhcpAction::AddressOnly(ArchitectureUnknown),
            "architecture",
        ),
        (
            "an operating system",
            SYSTEM,
            Some(Approved),
            DhcpAction::AddressOnly(NotABootClient),
            "boot client",
        ),
        (
            "an operating system of a stranger",
            SYSTEM,
            None,
            DhcpAction::AddressOnly(NotABootClient),
            "boot client",
        ),
        (
            "disabled",
            UEFI,
            Some(Disabled),
            DhcpAction::AddressOnly(MachineDisabled),
            "machine enabled",
        ),
        (
            "disabled, iPXE",
            IPXE,
            Some(Disabled),
            DhcpAction::AddressOnly(MachineDisabled),
            "machine enabled",
        ),
        ("unknown", UEFI, None, tftp("snponly"), "loader"),
        ("seen", UEFI, Some(Seen), tftp("snponly"), "loader"),
        ("pending", UEFI, Some(Pending), tftp("snponly"), "loader"),
    ];
    for (name, options, registration, expected, rule) in rows {
        let machine = registration.map(machine);
        let known = Known {
            machine: machine.as_ref(),
            ..Known::default()
        };
        let facts = dhcp(options);
        let decision = decide_dhcp(&facts, Service::Dhcp, &known, &snapshot(), NOW);
        assert_eq!(
            decision.action, expected,
            "{name}\n{}",
            decision.explanation
        );
        let last = decision.explanation.steps.last().unwrap();
        assert!(
            last.matched && last.rule == rule,
            "{name}\n{}",
            decision.explanation
        );
        let matched = decision
            .explanation
            .steps
            .iter()
            .filter(|step| step.matched)
            .count();
        assert_eq!(matched, 1, "{name}: one rule decides");

        // A proxy that has nothing to boot stays silent.
        let by_proxy = decide_dhcp(&facts, Service::Proxy, &known, &snapshot(), NOW).action;
        let silent = match expected {
            DhcpAction::AddressOnly(reason) => DhcpAction::Ignore(reason),
            other => other,
        };
        assert_eq!(by_proxy, silent, "{name}, proxy");
    }
}

#[test]
fn rfc951_a_bootp_client_boots_by_what_is_known_of_it() {
    let message = Message::request(Xid(1), MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    let facts = BootFacts::from_dhcp(&message).unwrap();
    let told = Machine {
        arch: Some(Arch::X86_64),
        firmware: Some(FirmwareKind::Bios),
        ..machine(Registration::Approved)
    };
    let untold = machine(Registration::Approved);
    for (machine, expected) in [
        (&told, tftp("undionly")),
        (
            &untold,
            DhcpAction::AddressOnly(Reason::ArchitectureUnknown),
        ),
    ] {
        let known = Known {
            machine: Some(machine),
            ..Known::default()
        };
        assert_eq!(
            decide_dhcp(&facts, Service::Dhcp, &known, &snapshot(), NOW).action,
            expected
        );
    }
}

#[test]
fn strangers_by_policy() {
    let ignore = Snapshot {
        site: Settings {
            unknown_machine: Some(UnknownMachine::Ignore),
            ..Settings::default()
        },
        ..snapshot()
    };
    let decide =
        |known: &Known<'_>| decide_dhcp(&dhcp(UEFI), Service::Dhcp, known, &ignore, NOW).action;
    assert_eq!(
        decide(&Known::default()),
        DhcpAction::Ignore(Reason::UnknownMachine)
    );
    let (seen, approved) = (machine(Registration::Seen), machine(Registration::Approved));
    let of = |machine| Known {
        machine: Some(machine),
        ..Known::default()
    };
    assert_eq!(
        decide(&of(&seen)),
        DhcpAction::Ignore(Reason::UnknownMachine)
    );
    assert_eq!(decide(&of(&approved)), tftp("snponly"));
}

#[test]
fn secure_boot_never_gets_an_unsigned_loader() {
    let locked = Machine {
        settings: Settings {
            secure_boot: Some(true),
            ..Settings::default()
        },
        ..machine(Registration::Approved)
    };
    let known = Known {
        machine: Some(&locked),
        ..Known::default()
    };
    let decision = decide_dhcp(&dhcp(UEFI), Service::Dhcp, &known, &snapshot(), NOW);
    assert_eq!(decision.action, DhcpAction::AddressOnly(Reason::NoLoader));
    let why = &decision.explanation.steps.last().unwrap().why;
    assert_eq!(
        why,
        "There is no signed loader for x86_64 on UEFI: import one, for example from Debian's package shim-signed."
    );
}

#[test]
fn https_is_given_to_who_it_is_set_for_and_who_can() {
    const TLS_IPXE: Options = &[
        (77, b"iPXE"),
        (175, &[19, 1, 1, 20, 1, 1, 36, 1, 1]),
        (93, &[0, 7]),
        (60, b"PXEClient"),
    ];
    let plain = || DhcpAction::Boot(Boot::HttpLoader(file("snponly")));
    let secure = || DhcpAction::Boot(Boot::HttpsLoader(file("snponly")));
    let (script, https) = (
        || DhcpAction::Boot(Boot::Script),
        || DhcpAction::Boot(Boot::HttpsScript),
    );
    for (name, boot_tls, listener, options, expected) in [
        ("nobody", BootTls::Never, true, HTTP, plain()),
        ("firmware", BootTls::Firmware, true, HTTP, secure()),
        (
            "iPXE behind it",
            BootTls::Firmware,
            true,
            TLS_IPXE,
            script(),
        ),
        ("iPXE", BootTls::Always, true, TLS_IPXE, https()),
        ("iPXE without", BootTls::Always, true, IPXE, script()),
        ("TFTP", BootTls::Always, true, UEFI, tftp("snponly")),
        ("no listener", BootTls::Always, false, HTTP, plain()),
    ] {
        let site = Settings {
            boot_tls: Some(boot_tls),
            ..Settings::default()
        };
        let snapshot = Snapshot {
            site,
            https: listener,
            ..snapshot()
        };
        let machine = machine(Registration::Approved);
        let known = Known {
            machine: Some(&machine),
            ..Known::default()
        };
        let decision = decide_dhcp(&dhcp(options), Service::Dhcp, &known, &snapshot, NOW);
        assert_eq!(decision.action, expected, "{name}");
        let steps = decision.explanation.steps;
        let explained = steps.iter().any(|step| step.rule == "boot tls");
        assert_eq!(explained, boot_tls != BootTls::Never, "{name}");
    }
}

#[test]
fn a_machine_that_does_not_run_unsigned_loaders_gets_the_signed_chain() {
    use FirmwareKind::Uefi;
    let known = Known {
        wants_signature: true,
        ..Known::default()
    };
    let boot = |snapshot: &Snapshot| {
        let decision = decide_dhcp(&dhcp(UEFI), Service::Dhcp, &known, snapshot, NOW);
        match decision.action {
            DhcpAction::Boot(Boot::Loader(file)) => file.id,
            other => panic!("{other:?}: {}", decision.explanation),
        }
    };
    let mut snapshot = snapshot();
    assert_eq!(boot(&snapshot), "snponly", "better than none");
    let signed = |id: &str, kind| crate::catalogue::Loader {
        signer: Some("Microsoft".into()),
        ..loader(id, Arch::X86_64, Uefi, kind)
    };
    let more = [
        signed("shim", LoaderKind::Shim),
        signed("grub", LoaderKind::Grub),
    ];
    snapshot.catalogue = Catalogue::new(snapshot.catalogue.iter().cloned().chain(more));
    assert_eq!(boot(&snapshot), "shim");
}
