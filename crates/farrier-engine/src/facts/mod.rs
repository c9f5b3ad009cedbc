//! What a request tells of the client. The only place where options 60, 77, 93, 94, 97 and 175, or
//! the parameters of a boot script, become architecture, firmware kind, stage and ids; nothing
//! after it looks at raw options again. Oddities of devices are rows of [`crate::quirk`].

mod arch;
mod client_text;
mod dhcp;
mod dhcpv6;
mod http;
mod loader;
mod machine_uuid;
mod name;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_proto::MacAddr;
use farrier_proto::reply::BootStyle;

pub use arch::{Architecture, architecture};
pub use client_text::ClientText;
pub use http::ScriptFactsError;
pub use machine_uuid::{MachineUuid, is_constant};
pub use name::{BootName, ScriptName, Whose, without_board_folder};

use crate::Reason;
use crate::model::{Arch, FirmwareKind};
use crate::quirk::{Effect, Quirk};
use crate::strategy::{self, Standing, Strategy};

/// What we know of a client from one request, and nothing that we know from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct BootFacts {
    pub mac: MacAddr,
    /// Unknown when it has not been told yet (SLOF and s390x tell it in DHCPREQUEST only), or when
    /// we have no word for it.
    pub arch: Option<Arch>,
    pub firmware: Option<FirmwareKind>,
    /// Option 93 as it came.
    pub arch_codes: Vec<u16>,
    pub stage: Stage,
    pub protocol: Protocol,
    pub uuid: Option<MachineUuid>,
    /// Option 61.
    pub client_id: Option<Vec<u8>>,
    pub hostname: Option<ClientText>,
    pub vendor_class: Option<ClientText>,
    pub serial: Option<ClientText>,
    pub manufacturer: Option<ClientText>,
    pub product: Option<ClientText>,
    pub relay: Option<Relay>,
    /// Seconds since the client began, with the byte order put right.
    pub secs: u16,
    /// Rows of the quirk table that fit.
    pub quirks: Vec<&'static Quirk>,
    /// What was out of form and did not stop us.
    pub oddities: Vec<Oddity>,
}

/// Which program of the boot is speaking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Firmware,
    Ipxe {
        features: IpxeFeatures,
        version: Option<ClientText>,
    },
    /// A boot program that is neither firmware nor iPXE.
    Loader(ClientText),
    Os,
}

/// How it wants to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Bootp,
    /// UEFI HTTP Boot.
    Http,
    PlainDhcp,
    Pxe,
    /// A script fetched over HTTP: past all DHCP.
    Script,
}

/// What an iPXE build can do, as far as our script needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpxeFeatures {
    pub http: bool,
    pub https: bool,
    pub bzimage: bool,
    pub efi: bool,
    pub menu: bool,
}

impl IpxeFeatures {
    /// Whether this build can run our script: fetch by HTTP and start a Linux kernel. EFI builds
    /// start kernels as EFI programs and do not list bzImage (netboot#55).
    #[must_use]
    pub fn is_enough(self) -> bool {
        self.http && (self.bzimage || self.efi)
    }
}

/// Where a relayed request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    pub giaddr: Ipv4Addr,
    pub circuit_id: Option<Vec<u8>>,
    pub remote_id: Option<Vec<u8>>,
    /// The subnet to choose from, in place of giaddr (RFC 3527).
    pub link_selection: Option<Ipv4Addr>,
}

/// Out of form, and passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Oddity {
    /// Option 93 and option 60 name different architectures.
    ArchitecturesDiffer,
    /// Option 93 holds only codes we have no word for.
    ArchitectureUnknown,
    /// Option 97 is not a type byte of 0 and sixteen bytes.
    MachineIdentifierForm,
    /// The UUID is one that many machines share.
    MachineIdentifierConstant,
    /// A text was too long or held control characters, and is ignored.
    Text,
}

impl Oddity {
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ArchitecturesDiffer => "Options 60 and 93 name different architectures.",
            Self::ArchitectureUnknown => "Option 93 names an architecture we do not know.",
            Self::MachineIdentifierForm => "Option 97 is not a UUID.",
            Self::MachineIdentifierConstant => "Its UUID is one that many machines share.",
            Self::Text => "A text it sent is too long or holds control characters.",
        }
    }
}

/// The request does not name a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMachine {
    #[error("it is a reply, not a request")]
    IsReply,
    #[error("it has no Ethernet address")]
    NoMac,
    #[error("its hardware address is a group address or zero")]
    UnusableMac,
}

impl BootFacts {
    /// Whether the client wants to boot from the network.
    #[must_use]
    pub fn wants_boot(&self) -> bool {
        match self.protocol {
            Protocol::Bootp | Protocol::Http | Protocol::Pxe | Protocol::Script => true,
            Protocol::PlainDhcp => self.stage != Stage::Os,
        }
    }

    /// The UUID, if it is one that tells machines apart.
    #[must_use]
    pub fn usable_uuid(&self) -> Option<uuid::Uuid> {
        self.uuid
            .as_ref()
            .filter(|id| !id.constant)
            .map(|id| id.canonical)
    }

    /// Whether it is firmware that we have no program for, and that asks the server for names of its own making:
    /// `pxelinux.cfg`, its address in hex digits, or a Raspberry Pi's `bootcode.bin`. It must be told who the server is: s390x takes no offer that
    /// leaves it out (`firmware.md` 4).
    #[must_use]
    pub fn looks_for_itself(&self, reason: Reason) -> bool {
        let is_plain = matches!(self.protocol, Protocol::PlainDhcp | Protocol::Bootp);
        let has_own_names = is_plain || self.effects().any(|e| e == Effect::RaspberryPiMenu);
        self.stage == Stage::Firmware
            && has_own_names
            && matches!(reason, Reason::ArchitectureUnknown | Reason::NoLoader)
    }

    /// Whether a DHCPNAK would end the network boot (`protocols.md` 2, "never NAK").
    #[must_use]
    pub fn never_nak(&self) -> bool {
        self.wants_boot()
    }

    /// How a full DHCP server says the boot file to a client of which nothing more is known.
    #[must_use]
    pub fn style_from_dhcp(&self) -> BootStyle {
        self.first_style(Standing::Server)
    }

    /// How a ProxyDHCP says it: BIOS ROMs are told that the file is final; UEFI is sent to port
    /// 4011, since edk2 builds of some years never store a final proxy offer (edk2#6944).
    #[must_use]
    pub fn style_from_proxy(&self) -> BootStyle {
        self.first_style(Standing::Beside)
    }

    fn first_style(&self, standing: Standing) -> BootStyle {
        let first = strategy::order(self, standing).first().copied();
        first.unwrap_or(Strategy::D).style(self, standing)
    }

    /// The effects of all quirks that fit.
    pub fn effects(&self) -> impl Iterator<Item = Effect> {
        self.quirks
            .iter()
            .flat_map(|quirk| quirk.effects.iter().copied())
    }

    /// The largest TFTP block the device takes, where that is less than others do.
    #[must_use]
    pub fn max_blksize(&self) -> Option<u16> {
        let most = |effect| match effect {
            Effect::MaxBlksize(most) => Some(most),
            _ => None,
        };
        self.effects().filter_map(most).min()
    }

    /// How long the device has to be left in peace after it asked.
    #[must_use]
    pub fn reply_delay(&self) -> Option<Duration> {
        let delay = |effect| match effect {
            Effect::ReplyDelay(delay) => Some(delay),
            _ => None,
        };
        self.effects().filter_map(delay).max()
    }
}
