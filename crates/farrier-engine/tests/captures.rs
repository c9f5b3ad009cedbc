//! What real firmware sends in `testdata/captures`, and what we decide on it: one line for each packet
//! of a client, kept in `testdata/captures/decisions.txt`. Run with FARRIER_UPDATE=1 to write it anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use farrier_engine::WallTime;
use farrier_engine::catalogue::{Catalogue, Loader, LoaderKind};
use farrier_engine::facts::{BootFacts, Protocol, Stage};
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::policy::{
    Boot, DhcpAction, IpxeVariant, Known, Service, Settings, Snapshot, decide_dhcp, dhcp_action,
};
use farrier_proto::wire::dhcpv4::{Message, Op};
use farrier_testkit::capture::{self, Payload};
use farrier_testkit::snapshot;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures")
}

/// The requests of a capture, decoded.
fn requests(path: &Path) -> Vec<Message> {
    let frames = capture::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let datagrams = frames.into_iter().filter_map(|frame| match frame.payload {
        Payload::Udp {
            destination, data, ..
        } if [67, 4011].contains(&destination.port()) => Some(data),
        _ => None,
    });
    datagrams
        .filter_map(|data| Message::decode(&data).ok())
        .filter(|message| message.op == Op::Request)
        .collect()
}

fn loader(id: &str, arch: Arch, firmware: FirmwareKind) -> Loader {
    Loader {
        id: id.into(),
        file_name: id.into(),
        arch,
        firmware,
        kind: LoaderKind::Ipxe {
            variant: IpxeVariant::SnpOnly,
        },
        version: "1.0".into(),
        signer: None,
        sha256: String::new(),
        size: 1,
        source_package: "ipxe".into(),
    }
}

/// What the packages of Debian 12 give.
fn debian() -> Snapshot {
    Snapshot {
        groups: Default::default(),
        site: Settings::default(),
        catalogue: Catalogue::new([
            loader("undionly.kpxe", Arch::X86_64, FirmwareKind::Bios),
            loader("snponly.efi", Arch::X86_64, FirmwareKind::Uefi),
            loader("snponly-arm64.efi", Arch::Arm64, FirmwareKind::Uefi),
        ]),
        media: Default::default(),
        agents: [Arch::X86_64].into(),
        https: false,
    }
}

fn told(facts: &BootFacts, action: &DhcpAction) -> String {
    let arch = facts
        .arch
        .map_or_else(|| "?".to_owned(), |arch| arch.to_string());
    let firmware = facts
        .firmware
        .map_or_else(|| "?".to_owned(), |firmware| firmware.to_string());
    let stage = match &facts.stage {
        Stage::Firmware => "firmware".to_owned(),
        Stage::Ipxe { version, .. } => {
            format!("iPXE {}", version.as_ref().map_or("?", |v| v.as_str()))
        }
        Stage::Loader(name) => format!("loader {name}"),
        Stage::Os => "system".to_owned(),
    };
    let action = match action {
        DhcpAction::Boot(Boot::Loader(file)) => format!("loader {}", file.id),
        DhcpAction::Boot(Boot::HttpLoader(file)) => format!("loader {} by HTTP", file.id),
        DhcpAction::Boot(Boot::Medium(name)) => format!("medium {name}"),
        DhcpAction::Boot(Boot::HttpsMedium(name)) => format!("medium {name} by HTTPS"),
        DhcpAction::Boot(Boot::HttpsLoader(file)) => format!("loader {} by HTTPS", file.id),
        DhcpAction::Boot(Boot::Script) => "script".to_owned(),
        DhcpAction::Boot(Boot::HttpsScript) => "script by HTTPS".to_owned(),
        DhcpAction::AddressOnly(reason) => format!("address only ({})", reason.label()),
        DhcpAction::Ignore(reason) => format!("nothing ({})", reason.label()),
    };
    let protocol = facts.protocol;
    format!("{stage}, {arch} {firmware}, {protocol:?} -> {action}")
}

#[test]
fn every_captured_request_is_decided_as_recorded() {
    let snapshot = debian();
    let mut text = String::new();
    for path in capture::list(&folder()) {
        let mut lines = BTreeSet::new();
        for message in requests(&path) {
            let facts = BootFacts::from_dhcp(&message).expect("captured clients have addresses");
            assert!(
                facts.oddities.is_empty(),
                "{}: {:?}",
                path.display(),
                facts.oddities
            );
            let known = Known::default();
            let decision = decide_dhcp(&facts, Service::Dhcp, &known, &snapshot, WallTime(0));
            let unexplained = dhcp_action(&facts, Service::Dhcp, &known, &snapshot, WallTime(0));
            assert_eq!(decision.action, unexplained, "{}", path.display());
            let kind = message
                .message_type()
                .map_or_else(|| "BOOTP".to_owned(), |kind| format!("{kind:?}"));
            lines.insert(format!("  {kind}: {}", told(&facts, &decision.action)));
        }
        if lines.is_empty() {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let _ = writeln!(text, "{name}");
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    }
    snapshot::check(&folder().join("decisions.txt"), &text);
}

#[test]
fn no_captured_ipxe_is_ever_sent_a_loader() {
    let snapshot = debian();
    let mut seen = 0;
    for path in capture::list(&folder()) {
        for message in requests(&path) {
            let facts = BootFacts::from_dhcp(&message).unwrap();
            if !matches!(facts.stage, Stage::Ipxe { .. }) {
                continue;
            }
            seen += 1;
            let action = decide_dhcp(
                &facts,
                Service::Proxy,
                &Known::default(),
                &snapshot,
                WallTime(0),
            )
            .action;
            assert_eq!(action, DhcpAction::Boot(Boot::Script), "{}", path.display());
        }
    }
    assert!(seen > 0, "there are captures of iPXE");
}

#[test]
fn every_captured_http_client_gets_a_url_and_nobody_else_does() {
    let snapshot = debian();
    for path in capture::list(&folder()) {
        for message in requests(&path) {
            let facts = BootFacts::from_dhcp(&message).unwrap();
            let action = decide_dhcp(
                &facts,
                Service::Dhcp,
                &Known::default(),
                &snapshot,
                WallTime(0),
            )
            .action;
            let by_url = matches!(action, DhcpAction::Boot(Boot::HttpLoader(_)));
            assert_eq!(
                by_url,
                facts.protocol == Protocol::Http,
                "{}: {action:?}",
                path.display()
            );
        }
    }
}
