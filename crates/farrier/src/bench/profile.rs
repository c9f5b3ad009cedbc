//! The habits of firmware: what it sends, how often it asks again, how it fetches.
//!
//! Taken from captures of the real programs (`testdata/captures`); the waits are those of their sources:
//! PXE 2.1 section 2.2.4 and edk2, iPXE's retry timer, U-Boot's BOOTP timer, SLOF's.

use std::time::Duration;

use clap::ValueEnum;
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{BROADCAST, Message, MessageType, Xid};
use farrier_proto::wire::option;
use farrier_proto::wire::tftp::TransferOptions;

/// A firmware whose behaviour is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Firmware {
    /// A PC with BIOS and an iPXE boot ROM.
    IpxeBios,
    /// A PC with UEFI that boots by PXE.
    Edk2X64,
    /// A PC with UEFI that boots by HTTP.
    Edk2Http,
    /// An arm64 machine with UEFI.
    Edk2Arm64,
    /// An arm64 board with U-Boot.
    UbootArm64,
    /// POWER, and IBM Z with the same habits.
    Slof,
}

/// Its habits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    /// How long it waits after each transmission; after the last it gives up.
    pub(super) waits_ms: &'static [u64],
    pub(super) tftp: TransferOptions,
    /// Asks for the size first and breaks off (edk2; `firmware.md` T14).
    pub(super) asks_size: bool,
    arch: Option<u16>,
    /// Told in DHCPREQUEST only (`firmware.md` T5).
    late_arch: Option<u16>,
    vendor_class: Option<&'static str>,
    user_class: Option<&'static str>,
    ipxe: bool,
    interface: Option<[u8; 3]>,
    max_size: Option<u16>,
    wants: &'static [u8],
    broadcast: bool,
    sends_uuid: bool,
}

impl Firmware {
    pub(super) fn profile(self) -> Profile {
        match self {
            Self::IpxeBios => Profile::ipxe(0, "PXEClient:Arch:00000:UNDI:002001"),
            Self::Edk2X64 => Profile::edk2(7, "PXEClient:Arch:00007:UNDI:003000"),
            Self::Edk2Http => Profile::edk2(16, "HTTPClient:Arch:00016:UNDI:003000"),
            Self::Edk2Arm64 => Profile::edk2(11, "PXEClient:Arch:00011:UNDI:003000"),
            Self::UbootArm64 => Profile {
                waits_ms: &[250, 500, 1000, 2000, 2000, 2000, 2000],
                tftp: tftp(1468, None, Some(5), None),
                arch: Some(22),
                vendor_class: Some("U-Boot.armv8"),
                interface: Some([1, 0, 0]),
                max_size: Some(576),
                wants: &[1, 3, 6, 12, 17],
                ..Profile::SILENT
            },
            Self::Slof => Profile {
                waits_ms: &[2000; 10],
                tftp: tftp(1428, None, None, None),
                late_arch: Some(12),
                wants: &[1, 3, 6, 66, 67, 93],
                ..Profile::SILENT
            },
        }
    }
}

impl Profile {
    const SILENT: Self = Self {
        waits_ms: &[],
        tftp: tftp(512, None, None, None),
        asks_size: false,
        arch: None,
        late_arch: None,
        vendor_class: None,
        user_class: None,
        ipxe: false,
        interface: None,
        max_size: None,
        wants: &[],
        broadcast: false,
        sends_uuid: false,
    };

    const fn edk2(arch: u16, vendor_class: &'static str) -> Self {
        Self {
            waits_ms: &[4000, 8000, 16_000, 32_000],
            tftp: tftp(1468, Some(0), None, Some(4)),
            asks_size: true,
            arch: Some(arch),
            vendor_class: Some(vendor_class),
            interface: Some([1, 3, 0]),
            max_size: Some(1472),
            wants: EDK2_WANTS,
            broadcast: true,
            sends_uuid: true,
            ..Self::SILENT
        }
    }

    const fn ipxe(arch: u16, vendor_class: &'static str) -> Self {
        Self {
            waits_ms: &[1000, 2000, 4000, 8000, 10_000],
            tftp: tftp(1432, Some(0), None, None),
            arch: Some(arch),
            vendor_class: Some(vendor_class),
            user_class: Some("iPXE"),
            ipxe: true,
            interface: Some([1, 2, 1]),
            max_size: Some(1472),
            wants: IPXE_WANTS,
            sends_uuid: true,
            ..Self::SILENT
        }
    }

    /// The iPXE that this firmware was given as its loader.
    pub(super) fn loaded(&self) -> Self {
        match self.arch {
            Some(arch @ (6..=11 | 15..=19)) => Self::ipxe(arch, "PXEClient:Arch:00007:UNDI:003010"),
            _ => Self::ipxe(0, "PXEClient:Arch:00000:UNDI:002001"),
        }
    }

    /// How often it asks, and how long it waits after each.
    pub(super) fn waits(&self) -> impl Iterator<Item = Duration> {
        self.waits_ms.iter().copied().map(Duration::from_millis)
    }

    /// A DHCPDISCOVER, or what else `kind` says, of the machine with this address.
    pub(super) fn message(&self, kind: MessageType, xid: Xid, mac: MacAddr) -> Message {
        let mut message = Message::request(xid, mac);
        if self.broadcast {
            message.flags = BROADCAST;
        }
        let options = &mut message.options;
        options.set(option::DHCP_MESSAGE_TYPE, [kind as u8]);
        if let Some(size) = self.max_size {
            options.set(option::MAXIMUM_DHCP_MESSAGE_SIZE, size.to_be_bytes());
        }
        let late = self.late_arch.filter(|_| kind == MessageType::Request);
        if let Some(arch) = self.arch.or(late) {
            options.set(option::CLIENT_SYSTEM_ARCHITECTURE, arch.to_be_bytes());
        }
        if let Some(interface) = self.interface {
            options.set(option::CLIENT_NETWORK_INTERFACE, interface);
        }
        if let Some(class) = self.vendor_class {
            options.set(option::VENDOR_CLASS_IDENTIFIER, class.as_bytes());
        }
        if let Some(class) = self.user_class {
            options.set(option::USER_CLASS, class.as_bytes());
        }
        options.set(option::PARAMETER_REQUEST_LIST, self.wants);
        if self.ipxe {
            options.set(option::IPXE_ENCAPSULATED, IPXE_FEATURES);
        }
        if self.sends_uuid {
            options.set(option::CLIENT_MACHINE_IDENTIFIER, machine_uuid(mac));
        }
        message
    }
}

/// Type 0 and sixteen bytes, another for each machine.
fn machine_uuid(mac: MacAddr) -> [u8; 17] {
    let mut value = [0x5f; 17];
    value[0] = 0;
    value[11..].copy_from_slice(&mac.0);
    value
}

const fn tftp(
    blksize: u16,
    tsize: Option<u64>,
    timeout: Option<u8>,
    windowsize: Option<u16>,
) -> TransferOptions {
    TransferOptions {
        blksize: Some(blksize),
        tsize,
        timeout,
        windowsize,
        multicast: None,
    }
}

const EDK2_WANTS: &[u8] = &[
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66,
    67, 97, 128, 129, 130, 131, 132, 133, 134, 135,
];
const IPXE_WANTS: &[u8] = &[
    1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175,
    203,
];
/// Bus id, then bzImage, PXE, HTTP, iSCSI, DNS, ELF, EFI and menus: each with the value 1.
const IPXE_FEATURES: &[u8] = &[
    0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 24, 1, 1, 33, 1, 1, 19, 1, 1, 17, 1, 1, 23, 1, 1, 34, 1, 1,
    36, 1, 1, 39, 1, 1,
];

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use farrier_proto::MacAddr;
    use farrier_proto::wire::dhcpv4::{Message, MessageType, Xid};

    use super::Firmware;

    #[test]
    fn every_firmware_sends_what_can_be_read_back_and_gives_up_some_day() {
        for firmware in Firmware::value_variants() {
            let profile = firmware.profile();
            let sent = profile.message(MessageType::Discover, Xid(7), MacAddr([2, 0, 0, 0, 0, 1]));
            let read = Message::decode(&sent.encode()).unwrap();
            assert_eq!(read.options, sent.options, "{firmware:?}");
            assert_eq!(read.oddities, [], "{firmware:?}");
            assert!(
                (1..=90).contains(&profile.waits().map(|w| w.as_secs_f64() as u64).sum::<u64>())
            );
        }
    }
}
