//! Facts from the parameters of a boot script request.

use farrier_proto::MacAddr;
use uuid::Uuid;

use super::{BootFacts, ClientText, IpxeFeatures, MachineUuid, Oddity, Protocol, Stage};
use crate::model::{Arch, FirmwareKind};
use crate::quirk;

/// The script request does not say which machine it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptFactsError {
    #[error("the parameter mac is missing: the first script must send it")]
    NoMac,
    #[error("the parameter mac is not a usable hardware address")]
    BadMac,
}

impl BootFacts {
    /// Reads what the first script sent of the machine (`mac`, `uuid`, `serial`, `platform`,
    /// `buildarch`, ...). Unknown names are passed over; of a name that comes twice the first counts.
    ///
    /// # Errors
    ///
    /// When there is no hardware address.
    pub fn from_http<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ScriptFactsError> {
        let mut said = Said::default();
        for (name, value) in parameters.into_iter().take(MAX_PARAMETERS) {
            said.take(name, value);
        }
        let mac = said
            .mac
            .ok_or(ScriptFactsError::NoMac)?
            .ok_or(ScriptFactsError::BadMac)?;
        let firmware = said.firmware;
        let features = IpxeFeatures {
            http: true,
            https: false,
            bzimage: firmware != Some(FirmwareKind::Uefi),
            efi: firmware == Some(FirmwareKind::Uefi),
            menu: true,
        };
        let mut facts = Self {
            mac,
            arch: said.arch(),
            firmware,
            arch_codes: Vec::new(),
            stage: Stage::Ipxe {
                features,
                version: said.version,
            },
            protocol: Protocol::Script,
            uuid: said.uuid,
            client_id: None,
            hostname: said.hostname,
            vendor_class: None,
            serial: said.serial,
            manufacturer: said.manufacturer,
            product: said.product,
            relay: None,
            secs: 0,
            quirks: Vec::new(),
            oddities: said.oddities,
        };
        facts.quirks = quirk::matching(&facts);
        Ok(facts)
    }
}

/// The parameters, read one by one.
#[derive(Default)]
struct Said {
    mac: Option<Option<MacAddr>>,
    uuid: Option<MachineUuid>,
    firmware: Option<FirmwareKind>,
    buildarch: Option<Arch>,
    version: Option<ClientText>,
    hostname: Option<ClientText>,
    serial: Option<ClientText>,
    manufacturer: Option<ClientText>,
    product: Option<ClientText>,
    oddities: Vec<Oddity>,
}

impl Said {
    fn take(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let Some(text) = ClientText::new(value.as_bytes()) else {
            return self.note(Oddity::Text);
        };
        let slot = match name {
            "mac" => {
                let mac = value
                    .parse()
                    .ok()
                    .filter(|mac: &MacAddr| !mac.is_unusable());
                self.mac.get_or_insert(mac);
                return;
            }
            "uuid" => return self.take_uuid(value),
            "platform" => return self.take_platform(value),
            "buildarch" => return self.take_buildarch(value),
            "version" => &mut self.version,
            "hostname" => &mut self.hostname,
            "serial" => &mut self.serial,
            "manufacturer" => &mut self.manufacturer,
            "product" => &mut self.product,
            _ => return,
        };
        slot.get_or_insert(text);
    }

    fn take_uuid(&mut self, value: &str) {
        match value.parse::<Uuid>() {
            Ok(uuid) => {
                let uuid = *self
                    .uuid
                    .get_or_insert_with(|| MachineUuid::from_canonical(uuid));
                if uuid.constant {
                    self.note(Oddity::MachineIdentifierConstant);
                }
            }
            Err(_) => self.note(Oddity::MachineIdentifierForm),
        }
    }

    fn take_platform(&mut self, value: &str) {
        self.firmware = self.firmware.or(match value {
            "pcbios" => Some(FirmwareKind::Bios),
            "efi" => Some(FirmwareKind::Uefi),
            _ => None,
        });
    }

    fn take_buildarch(&mut self, value: &str) {
        let arch = match value {
            "i386" => Arch::Ia32,
            "x86_64" => Arch::X86_64,
            "arm32" => Arch::Arm32,
            "arm64" => Arch::Arm64,
            "riscv64" => Arch::RiscV64,
            "loong64" => Arch::LoongArch64,
            _ => return self.note(Oddity::ArchitectureUnknown),
        };
        self.buildarch.get_or_insert(arch);
    }

    /// On a BIOS, iPXE is built for i386 whatever the processor is; kernels and agents are not.
    fn arch(&self) -> Option<Arch> {
        match (self.firmware, self.buildarch) {
            (Some(FirmwareKind::Bios), Some(Arch::Ia32)) => Some(Arch::X86_64),
            (_, arch) => arch,
        }
    }

    fn note(&mut self, oddity: Oddity) {
        if !self.oddities.contains(&oddity) {
            self.oddities.push(oddity);
        }
    }
}

const MAX_PARAMETERS: usize = 64;
