//! Facts from a BOOTP or DHCP request.

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, Op};
use farrier_proto::wire::option;
use farrier_proto::wire::option_value::{IpxeEncapsulated, IpxeFeature};

use super::{
    Architecture, BootFacts, ClientText, IpxeFeatures, MachineUuid, NoMachine, Oddity, Protocol,
    Relay, Stage, architecture,
};
use crate::model::{Arch, FirmwareKind};
use crate::quirk;

impl BootFacts {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// When it names no machine. Anything else out of form becomes an [`Oddity`]: a machine is not
    /// lost for one bad option.
    pub fn from_dhcp(message: &Message) -> Result<Self, NoMachine> {
        if message.op != Op::Request {
            return Err(NoMachine::IsReply);
        }
        let mac = message.mac().ok_or(NoMachine::NoMac)?;
        if mac.is_unusable() {
            return Err(NoMachine::UnusableMac);
        }
        let mut oddities = Vec::new();
        let arch_codes = message.client_system_architecture();
        let architecture = architecture_of(message, mac, &arch_codes, &mut oddities);
        let uuid = machine_uuid(message, &mut oddities);
        let mut text = |value: Option<&[u8]>| client_text(value, &mut oddities);
        let hostname = text(message.host_name());
        let vendor_class = text(message.vendor_class().map(|class| class.0));
        let stage = stage_of(message, &mut text);
        let mut facts = Self {
            mac,
            arch: architecture.map(|a| a.arch),
            firmware: architecture
                .and_then(|a| a.firmware)
                .or_else(|| says_u_boot(message)),
            arch_codes,
            stage,
            protocol: protocol_of(message, architecture),
            uuid,
            client_id: message.client_identifier().map(<[u8]>::to_vec),
            hostname,
            vendor_class,
            serial: None,
            manufacturer: None,
            product: None,
            relay: relay_of(message),
            secs: honest_secs(message.secs),
            quirks: Vec::new(),
            oddities,
        };
        facts.quirks = quirk::matching(&facts);
        Ok(facts)
    }
}

/// Some builds of U-Boot have no code for their processor, and say their name only.
fn says_u_boot(message: &Message) -> Option<FirmwareKind> {
    let class = message.vendor_class()?;
    class
        .0
        .starts_with(b"U-Boot")
        .then_some(FirmwareKind::UBoot)
}

/// Option 93 first, then the decimal of option 60, else unknown. A PXE ROM that says neither is a
/// BIOS: the options came with UEFI.
fn architecture_of(
    message: &Message,
    mac: MacAddr,
    codes: &[u16],
    oddities: &mut Vec<Oddity>,
) -> Option<Architecture> {
    let class = message.vendor_class();
    let in_class = class.and_then(|class| class.arch());
    let first_known = codes
        .iter()
        .find_map(|&code| Some((code, architecture(code)?)));
    if let (Some((_, told)), Some(other)) = (first_known, in_class.and_then(architecture))
        && told != other
    {
        oddities.push(Oddity::ArchitecturesDiffer);
    }
    if first_known.is_none() && !codes.is_empty() {
        oddities.push(Oddity::ArchitectureUnknown);
    }
    let (code, found) = match (first_known, in_class) {
        (Some(found), _) => found,
        (None, Some(code)) => (code, architecture(code)?),
        (None, None) if codes.is_empty() && class.is_some_and(|class| class.is_pxe_client()) => {
            (0, architecture(0)?)
        }
        (None, None) => return None,
    };
    // A Raspberry Pi's ROM calls itself an x86 BIOS (`protocols.md` 3). With UEFI on it, it tells the truth.
    if code == 0 && quirk::is_raspberry_pi(mac) {
        return Some(Architecture {
            arch: Arch::Arm64,
            firmware: None,
            http: false,
        });
    }
    Some(found)
}

fn protocol_of(message: &Message, architecture: Option<Architecture>) -> Protocol {
    if message.is_bootp() {
        return Protocol::Bootp;
    }
    match message.vendor_class() {
        Some(class) if class.is_http_client() => Protocol::Http,
        Some(class) if class.is_pxe_client() => Protocol::Pxe,
        _ if architecture.is_some_and(|a| a.http && a.firmware == Some(FirmwareKind::Uefi)) => {
            Protocol::Http
        }
        _ => Protocol::PlainDhcp,
    }
}

fn stage_of(
    message: &Message,
    text: &mut impl FnMut(Option<&[u8]>) -> Option<ClientText>,
) -> Stage {
    let user_class = message.user_class();
    let says = |name: &[u8]| user_class.is_some_and(|class| class.contains(name));
    if let Some(info) = message.ipxe_encapsulated().filter(|_| !says(b"gPXE"))
        && (says(b"iPXE") || !info.0.is_empty())
    {
        return Stage::Ipxe {
            features: ipxe_features(info),
            version: ipxe_version(info),
        };
    }
    if says(b"iPXE") {
        return Stage::Ipxe {
            features: IpxeFeatures::default(),
            version: None,
        };
    }
    let class = message.vendor_class();
    let is_boot_class = class.is_some_and(|class| {
        class.is_pxe_client() || class.is_http_client() || class.0.starts_with(b"U-Boot")
    });
    // Some firmware leaves the user class empty or fills it with its own version.
    if is_boot_class && !says(b"gPXE") {
        return Stage::Firmware;
    }
    if let Some(name) = text(user_class.and_then(|class| class.classes().first().copied())) {
        return Stage::Loader(name);
    }
    let asks_like_firmware =
        option_93_asked(message) || !message.client_system_architecture().is_empty();
    if message.is_bootp() || asks_like_firmware {
        Stage::Firmware
    } else {
        Stage::Os
    }
}

/// SLOF and s390x send no class at all; that they ask for option 93 gives them away.
fn option_93_asked(message: &Message) -> bool {
    message
        .parameter_request_list()
        .contains(&option::CLIENT_SYSTEM_ARCHITECTURE)
}

fn ipxe_features(info: IpxeEncapsulated<'_>) -> IpxeFeatures {
    IpxeFeatures {
        http: info.has(IpxeFeature::Http),
        https: info.has(IpxeFeature::Https),
        bzimage: info.has(IpxeFeature::BzImage),
        efi: info.has(IpxeFeature::Efi),
        menu: info.has(IpxeFeature::Menu),
    }
}

/// Sub-option 235: major, minor, patch.
fn ipxe_version(info: IpxeEncapsulated<'_>) -> Option<ClientText> {
    let (_, version) = info.sub_options().find(|(code, _)| *code == 235)?;
    let [major, minor, patch] = version.try_into().ok()?;
    ClientText::new(format!("{major}.{minor}.{patch}").as_bytes())
}

fn machine_uuid(message: &Message, oddities: &mut Vec<Oddity>) -> Option<MachineUuid> {
    let id = message.client_machine_identifier()?;
    let Some(wire) = id.wire_uuid() else {
        oddities.push(Oddity::MachineIdentifierForm);
        return None;
    };
    let uuid = MachineUuid::from_wire(wire);
    if uuid.constant {
        oddities.push(Oddity::MachineIdentifierConstant);
    }
    Some(uuid)
}

fn client_text(value: Option<&[u8]>, oddities: &mut Vec<Oddity>) -> Option<ClientText> {
    let value = value.filter(|value| !value.is_empty())?;
    let text = ClientText::new(value);
    if text.is_none() && !oddities.contains(&Oddity::Text) {
        oddities.push(Oddity::Text);
    }
    text
}

fn relay_of(message: &Message) -> Option<Relay> {
    let information = message.relay_agent_information();
    if message.giaddr.is_unspecified() && information.is_none() {
        return None;
    }
    Some(Relay {
        giaddr: message.giaddr,
        circuit_id: information.and_then(|i| i.circuit_id()).map(<[u8]>::to_vec),
        remote_id: information.and_then(|i| i.remote_id()).map(<[u8]>::to_vec),
        link_selection: information.and_then(|i| i.link_selection()),
    })
}

/// Some firmware sends the seconds byte-swapped: a low byte of zero gives it away.
fn honest_secs(secs: u16) -> u16 {
    if secs & 0xff == 0 {
        secs.swap_bytes()
    } else {
        secs
    }
}
