//! Facts from the name a loader asked for, where it is not iPXE and says no more of itself.

use farrier_proto::MacAddr;

use super::{BootFacts, ClientText, MachineUuid, Protocol, Stage};
use crate::model::{Arch, FirmwareKind};
use crate::quirk;
use crate::script::Language;

impl BootFacts {
    /// A machine of this hardware address runs a loader of that language.
    #[must_use]
    pub fn from_loader(
        mac: MacAddr,
        language: Language,
        arch: Option<Arch>,
        firmware: Option<FirmwareKind>,
        uuid: Option<MachineUuid>,
    ) -> Self {
        let mut facts = Self {
            mac,
            arch,
            firmware,
            arch_codes: Vec::new(),
            stage: ClientText::new(language.name().as_bytes())
                .map_or(Stage::Firmware, Stage::Loader),
            protocol: Protocol::Script,
            uuid,
            client_id: None,
            hostname: None,
            vendor_class: None,
            serial: None,
            manufacturer: None,
            product: None,
            relay: None,
            secs: 0,
            quirks: Vec::new(),
            oddities: Vec::new(),
        };
        facts.quirks = quirk::matching(&facts);
        facts
    }
}
