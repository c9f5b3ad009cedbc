//! One machine in few bytes.
//!
//! Most of what is known of a machine is what it has in common with others that were bought with it: maker,
//! processor, disks, network cards. That part of its inventory is kept once for all of them. What is its own
//! (serials, hardware addresses, settings) is written one after the other, since some forty small allocations
//! cost more than what they hold.

use std::collections::HashSet;
use std::sync::Arc;

use farrier_db::StoredMachine;
use farrier_engine::WallTime;
use farrier_engine::model::{
    Arch, FirmwareKind, HostName, Inventory, Machine, MachineId, Marks, Registration,
};
use farrier_engine::policy::{BootIntent, Settings, ShortName};
use farrier_engine::strategy::Learned;
use farrier_proto::MacAddr;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug)]
pub(super) enum Packed {
    Dense {
        /// [`Own`] in the form of `postcard`. Never leaves this process.
        own: Box<[u8]>,
        model: Option<Arc<Inventory>>,
    },
    /// One that does not come out of the form as it went in: larger, but there. A machine that cannot be read would be
    /// taken for one that nobody knows.
    Whole(Box<Machine>),
}

/// Inventories without what tells machines of one model apart.
#[derive(Debug, Default)]
pub(super) struct Models {
    all: HashSet<Arc<Inventory>>,
    /// Where they lie: to find one again that is here needs no look at what is in it.
    places: HashSet<usize>,
}

/// What is one machine's alone, but for what lies beside it in memory anyway: its id, and when it was last seen.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Own {
    name: Option<HostName>,
    registration: Registration,
    /// As bytes; in documents they are texts.
    macs: Vec<[u8; 6]>,
    uuid: Option<Uuid>,
    firmware: Option<FirmwareKind>,
    arch: Option<Arch>,
    group: Option<ShortName>,
    /// None where nothing is set, as for most.
    settings: Option<Settings>,
    intent: Option<BootIntent>,
    learned: Option<Learned>,
    marks: Option<Marks>,
    /// The inventory tells the UUID above, so the marks go without.
    same_uuid: bool,
    first_seen: WallTime,
    revision: u64,
}

impl Models {
    pub(super) fn pack(&mut self, machine: StoredMachine) -> Packed {
        self.pack_as(machine, dense)
    }

    fn pack_as(
        &mut self,
        stored: StoredMachine,
        form: impl Fn(&Own) -> postcard::Result<Box<[u8]>>,
    ) -> Packed {
        let (id, last_seen) = (stored.machine.id, stored.machine.last_seen);
        let (own, model) = Own::of(stored);
        let bytes = form(&own).ok();
        match bytes.filter(|bytes| postcard::from_bytes(bytes).is_ok_and(|read: Own| read == own)) {
            Some(bytes) => Packed::Dense {
                own: bytes,
                model: model.map(|model| self.one_of(model)),
            },
            None => {
                tracing::warn!(machine = %id, "a machine cannot be packed and takes more memory");
                Packed::Whole(Box::new(own.with(id, last_seen, model).whole()))
            }
        }
    }

    /// The same model, but the one that is here if it is.
    fn one_of(&mut self, model: Arc<Inventory>) -> Arc<Inventory> {
        if self.places.contains(&place(&model)) {
            return model;
        }
        if let Some(known) = self.all.get(&model) {
            return Arc::clone(known);
        }
        self.all.insert(Arc::clone(&model));
        self.places.insert(place(&model));
        model
    }

    /// The last machine of a model takes it along.
    pub(super) fn forget(&mut self, packed: Packed) {
        if let Packed::Dense {
            model: Some(model), ..
        } = packed
            && Arc::strong_count(&model) == 2
        {
            self.all.remove(&model);
            self.places.remove(&place(&model));
        }
    }
}

/// Written elsewhere first: to let each grow where it stays would leave holes between them.
fn dense(own: &Own) -> postcard::Result<Box<[u8]>> {
    let mut room = [0; 512];
    match postcard::to_slice(own, &mut room) {
        Ok(written) => Ok(Box::from(&*written)),
        Err(postcard::Error::SerializeBufferFull) => {
            postcard::to_allocvec(own).map(Vec::into_boxed_slice)
        }
        Err(error) => Err(error),
    }
}

fn place(model: &Arc<Inventory>) -> usize {
    Arc::as_ptr(model).addr()
}

impl Packed {
    pub(super) fn unpack(&self, id: MachineId, last_seen: WallTime) -> Machine {
        match self {
            Self::Whole(machine) => Machine {
                last_seen,
                ..(**machine).clone()
            },
            Self::Dense { own, model } => {
                let own: Own = postcard::from_bytes(own).expect("it was read when it was packed");
                own.with(id, last_seen, model.clone()).whole()
            }
        }
    }
}

impl Own {
    fn of(stored: StoredMachine) -> (Self, Option<Arc<Inventory>>) {
        let Machine {
            id: _,
            name,
            registration,
            macs,
            uuid,
            firmware,
            arch,
            group,
            settings,
            intent,
            learned,
            inventory: _,
            first_seen,
            last_seen: _,
            revision,
        } = stored.machine;
        let mut marks = stored.marks;
        let told = marks.as_mut().map(|marks| &mut marks.uuid);
        let same = told.filter(|told| told.is_some() && **told == uuid);
        let own = Self {
            same_uuid: same.map(Option::take).is_some(),
            name,
            registration,
            macs: macs.into_iter().map(|mac| mac.0).collect(),
            uuid,
            firmware,
            arch,
            group,
            settings: (settings != Settings::default()).then_some(settings),
            intent,
            learned,
            marks,
            first_seen,
            revision,
        };
        (own, stored.model)
    }

    /// The machine again.
    fn with(
        self,
        id: MachineId,
        last_seen: WallTime,
        model: Option<Arc<Inventory>>,
    ) -> StoredMachine {
        let mut marks = self.marks;
        if let Some(marks) = marks.as_mut().filter(|_| self.same_uuid) {
            marks.uuid = self.uuid;
        }
        StoredMachine {
            machine: Machine {
                id,
                name: self.name,
                registration: self.registration,
                macs: self.macs.into_iter().map(MacAddr).collect(),
                uuid: self.uuid,
                firmware: self.firmware,
                arch: self.arch,
                group: self.group,
                settings: self.settings.unwrap_or_default(),
                intent: self.intent,
                learned: self.learned,
                inventory: None,
                first_seen: self.first_seen,
                last_seen,
                revision: self.revision,
            },
            model,
            marks,
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

    use super::{Models, Own, Packed, dense};

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

    fn own(n: u8) -> Own {
        Own::of(machine(n).into()).0
    }

    fn unpacked(packed: &Packed, like: &Machine) -> Machine {
        packed.unpack(like.id, like.last_seen)
    }

    #[test]
    fn a_machine_comes_out_as_it_went_in_and_equal_ones_share_their_model() {
        let mut models = Models::default();
        let packed: Vec<_> = (1..=20).map(|n| models.pack(machine(n).into())).collect();
        for (n, packed) in (1..).zip(&packed) {
            assert_eq!(unpacked(packed, &machine(n)), machine(n));
        }
        assert_eq!(models.all.len(), 1);
        let Packed::Dense { own, .. } = &packed[0] else {
            panic!("{:?}", packed[0])
        };
        assert!(own.len() < 200, "{} bytes", own.len());
        for packed in packed {
            models.forget(packed);
        }
        assert!(models.all.is_empty(), "nobody has such a machine any more");
        assert!(models.places.is_empty());
    }

    #[test]
    fn an_inventory_with_another_uuid_keeps_it() {
        for (own, told) in [
            (None, Some(7)),
            (Some(7), None),
            (Some(7), Some(8)),
            (None, None),
        ] {
            let mut of = machine(1);
            of.uuid = own.map(Uuid::from_u128);
            of.inventory.as_mut().unwrap().system.uuid = told.map(Uuid::from_u128);
            let packed = Models::default().pack(of.clone().into());
            assert_eq!(unpacked(&packed, &of), of, "{own:?} {told:?}");
        }
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
            let packed = Models::default().pack(machine.clone().into());
            assert!(matches!(packed, Packed::Dense { .. }), "{name} {value}");
            assert_eq!(unpacked(&packed, &machine), machine, "{name} {value}");
        }
    }

    #[test]
    fn a_machine_that_no_agent_has_seen_has_no_inventory() {
        let bare = Machine {
            inventory: None,
            ..machine(1)
        };
        let packed = Models::default().pack(bare.clone().into());
        assert_eq!(unpacked(&packed, &bare), bare);
    }

    /// As a type would that writes more than it reads, or the other way round.
    #[test]
    fn a_machine_that_the_form_does_not_hold_is_kept_whole() {
        type Form = fn(&Own) -> postcard::Result<Box<[u8]>>;
        let mut models = Models::default();
        let forms: [Form; 3] = [
            |_| Err(postcard::Error::SerializeBufferFull),
            |_| Ok(Box::default()),
            |_| dense(&own(2)),
        ];
        for form in forms {
            let packed = models.pack_as(machine(1).into(), form);
            assert!(matches!(packed, Packed::Whole(_)), "{packed:?}");
            assert_eq!(unpacked(&packed, &machine(1)), machine(1));
            models.forget(packed);
        }
        assert!(models.all.is_empty());
    }
}
