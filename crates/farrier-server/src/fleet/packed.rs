//! One machine in few bytes.
//!
//! Most of what is known of a machine is what it has in common with others that were bought with it: maker,
//! processor, disks, network cards. That part of its inventory is kept once for all of them. What is its own
//! (serials, hardware addresses, settings) is written one after the other, since some forty small allocations
//! cost more than what they hold.

use std::collections::HashSet;
use std::sync::Arc;

use farrier_engine::model::{Inventory, MacText, Machine};
use farrier_proto::MacAddr;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug)]
pub(super) struct Packed {
    /// [`Own`] in the form of `postcard`. Never leaves this process.
    own: Box<[u8]>,
    model: Option<Arc<Inventory>>,
}

/// Inventories without what tells machines of one model apart.
#[derive(Debug, Default)]
pub(super) struct Models(HashSet<Arc<Inventory>>);

/// What is one machine's alone.
#[derive(Debug, Deserialize, Serialize)]
struct Own {
    /// Without its inventory and its addresses, which are texts in documents.
    machine: Machine,
    macs: Vec<[u8; 6]>,
    marks: Option<Marks>,
}

/// What an inventory has that no other machine's has.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Marks {
    serial: String,
    uuid: Option<Uuid>,
    board_serial: String,
    chassis_asset: String,
    nics: Vec<[u8; 6]>,
    /// Serial and world-wide name of each disk.
    disks: Vec<(String, String)>,
}

impl Models {
    pub(super) fn pack(&mut self, mut machine: Machine) -> Packed {
        let (marks, model) = match machine.inventory.take() {
            Some(mut inventory) => {
                let marks = Marks::take(&mut inventory);
                (Some(marks), Some(self.one_of(inventory)))
            }
            None => (None, None),
        };
        let macs = std::mem::take(&mut machine.macs);
        let own = Own {
            machine,
            macs: macs.into_iter().map(|mac| mac.0).collect(),
            marks,
        };
        // To write numbers, texts and lists into memory does not fail. Were a type to refuse, the machine would be
        // asked for in vain, with an error in the log each time.
        let own = postcard::to_allocvec(&own).unwrap_or_default();
        Packed {
            own: own.into_boxed_slice(),
            model,
        }
    }

    fn one_of(&mut self, model: Inventory) -> Arc<Inventory> {
        if let Some(known) = self.0.get(&model) {
            return Arc::clone(known);
        }
        let model = Arc::new(model);
        self.0.insert(Arc::clone(&model));
        model
    }

    /// The last machine of a model takes it along.
    pub(super) fn forget(&mut self, packed: Packed) {
        if let Some(model) = packed.model
            && Arc::strong_count(&model) == 2
        {
            self.0.remove(&model);
        }
    }
}

impl Packed {
    /// None never happens: it was written by this process.
    pub(super) fn unpack(&self) -> Option<Machine> {
        let Own {
            mut machine,
            macs,
            marks,
        } = self.own()?;
        machine.macs = macs.into_iter().map(MacAddr).collect();
        machine.inventory = self.model.as_deref().cloned();
        if let (Some(inventory), Some(marks)) = (&mut machine.inventory, marks) {
            marks.put(inventory);
        }
        Some(machine)
    }

    fn own(&self) -> Option<Own> {
        let own = postcard::from_bytes(&self.own);
        own.inspect_err(|error| tracing::error!(%error, "a machine in memory cannot be read"))
            .ok()
    }
}

impl Marks {
    fn take(inventory: &mut Inventory) -> Self {
        let system = &mut inventory.system;
        Self {
            serial: std::mem::take(&mut system.serial),
            uuid: system.uuid.take(),
            board_serial: std::mem::take(&mut system.board_serial),
            chassis_asset: std::mem::take(&mut system.chassis_asset),
            nics: inventory
                .nics
                .iter_mut()
                .map(|nic| {
                    std::mem::replace(&mut nic.mac, MacText(MacAddr([0; 6])))
                        .0
                        .0
                })
                .collect(),
            disks: inventory
                .disks
                .iter_mut()
                .map(|disk| {
                    (
                        std::mem::take(&mut disk.serial),
                        std::mem::take(&mut disk.wwn),
                    )
                })
                .collect(),
        }
    }

    fn put(self, inventory: &mut Inventory) {
        let system = &mut inventory.system;
        system.serial = self.serial;
        system.uuid = self.uuid;
        system.board_serial = self.board_serial;
        system.chassis_asset = self.chassis_asset;
        for (nic, mac) in inventory.nics.iter_mut().zip(self.nics) {
            nic.mac = MacText(MacAddr(mac));
        }
        for (disk, (serial, wwn)) in inventory.disks.iter_mut().zip(self.disks) {
            disk.serial = serial;
            disk.wwn = wwn;
        }
    }
}

#[cfg(test)]
mod tests {
    use farrier_engine::WallTime;
    use farrier_engine::model::{
        Arch, Disk, FirmwareKind, HostName, Inventory, MacText, Machine, MachineId, Nic,
        Registration, SystemInfo,
    };
    use farrier_engine::policy::{BootIntent, MenuEntry, Settings, ShortName, Until};
    use farrier_engine::strategy::{Learned, Strategy};
    use farrier_proto::MacAddr;
    use uuid::Uuid;

    use super::Models;

    fn machine(n: u8) -> Machine {
        let inventory = Inventory {
            system: SystemInfo {
                manufacturer: "LENOVO".to_owned(),
                product: "20XW".to_owned(),
                serial: format!("PF{n:06}"),
                uuid: Some(Uuid::from_u128(n.into())),
                board_serial: format!("L1HF{n:03}"),
                chassis_asset: format!("asset {n}"),
                ..SystemInfo::default()
            },
            memory_bytes: 16 << 30,
            nics: vec![Nic {
                name: "eth0".to_owned(),
                mac: MacText(MacAddr([2, 0, 0, 0, 0, n])),
                pci_id: "8086:15fb".to_owned(),
                driver: "e1000e".to_owned(),
                link_up: true,
                boot: true,
            }],
            disks: vec![Disk {
                name: "nvme0n1".to_owned(),
                size_bytes: 512 << 30,
                logical_sector: 512,
                physical_sector: 4096,
                model: "Samsung PM981".to_owned(),
                serial: format!("S4NF{n}"),
                wwn: format!("eui.00{n}"),
                bus: "nvme".to_owned(),
                rotational: false,
                removable: false,
                table: Some("gpt".to_owned()),
            }],
            secure_boot: Some(true),
            ..Inventory::default()
        };
        Machine {
            id: MachineId(Uuid::from_u128(u128::from(n) << 64)),
            name: Some(HostName::try_from(format!("pc-{n}")).unwrap()),
            registration: Registration::Approved,
            macs: vec![MacAddr([2, 0, 0, 0, 0, n]), MacAddr([2, 0, 0, 1, 0, n])],
            uuid: Some(Uuid::from_u128(n.into())),
            firmware: Some(FirmwareKind::Uefi),
            arch: Some(Arch::X86_64),
            group: Some(ShortName::try_from("lab".to_owned()).unwrap()),
            settings: Settings {
                menu_timeout_s: Some(n.into()),
                default_entry: Some(MenuEntry::MemoryTest),
                ..Settings::default()
            },
            intent: Some(BootIntent {
                entry: MenuEntry::Diagnostics,
                boots_left: 2,
                expires: WallTime(77),
                until: Until::Inventoried,
                set_at: WallTime(7),
                set_by: "anna".to_owned(),
                counted: Some(WallTime(6)),
            }),
            learned: Some(Learned {
                strategy: Strategy::B,
                firmware: None,
                since: WallTime(5),
            }),
            inventory: Some(inventory),
            first_seen: WallTime(-1),
            last_seen: WallTime(1 << 40),
            revision: n.into(),
        }
    }

    #[test]
    fn a_machine_comes_out_as_it_went_in_and_equal_ones_share_their_model() {
        let mut models = Models::default();
        let packed: Vec<_> = (1..=20).map(|n| models.pack(machine(n))).collect();
        for (n, packed) in (1..).zip(&packed) {
            assert_eq!(packed.unpack().unwrap(), machine(n));
        }
        assert_eq!(models.0.len(), 1);
        assert!(packed[0].own.len() < 260, "{} bytes", packed[0].own.len());
        for packed in packed {
            models.forget(packed);
        }
        assert!(models.0.is_empty(), "nobody has such a machine any more");
    }

    /// The form holds no names: a type that leaves out what is not set would come back as another or not at all.
    #[test]
    fn every_setting_comes_out_as_it_went_in() {
        let media = ["rescue.iso".to_owned()];
        for (name, value, settings) in crate::ui::setting_fields::each_choice(&media) {
            let machine = Machine {
                settings: crate::service::settings_back(&settings).unwrap(),
                ..machine(1)
            };
            let packed = Models::default().pack(machine.clone());
            assert_eq!(packed.unpack().as_ref(), Some(&machine), "{name} {value}");
        }
    }

    #[test]
    fn a_machine_that_no_agent_has_seen_has_no_inventory() {
        let bare = Machine {
            inventory: None,
            ..machine(1)
        };
        let packed = Models::default().pack(bare.clone());
        assert_eq!(packed.unpack().unwrap(), bare);
    }
}
