//! What tells machines of one model apart.
//!
//! Most of what an agent reports of a machine is what it has in common with others that were bought with it: maker,
//! processor, disks, network cards. Whoever keeps a hundred thousand inventories keeps that part once.

use farrier_proto::MacAddr;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Inventory, MacText};

/// What an inventory has that no other machine's has. The rest of it is the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    serial: String,
    /// Nearly always the machine's.
    pub uuid: Option<Uuid>,
    board_serial: String,
    chassis_asset: String,
    /// The kernel takes some of it for itself, and how much differs from start to start.
    memory_bytes: u64,
    nics: Vec<[u8; 6]>,
    /// Serial and world-wide name of each disk.
    disks: Vec<(String, String)>,
}

impl Inventory {
    /// Takes out what is this machine's alone, and leaves the model.
    pub fn take_marks(&mut self) -> Marks {
        use std::mem::{replace, take};
        let system = &mut self.system;
        Marks {
            serial: take(&mut system.serial),
            uuid: system.uuid.take(),
            board_serial: take(&mut system.board_serial),
            chassis_asset: take(&mut system.chassis_asset),
            memory_bytes: take(&mut self.memory_bytes),
            nics: self
                .nics
                .iter_mut()
                .map(|nic| replace(&mut nic.mac, MacText(MacAddr([0; 6]))).0.0)
                .collect(),
            disks: self
                .disks
                .iter_mut()
                .map(|disk| (take(&mut disk.serial), take(&mut disk.wwn)))
                .collect(),
        }
    }

    /// Puts them back into the model they were taken from.
    pub fn put_marks(&mut self, marks: Marks) {
        let system = &mut self.system;
        system.serial = marks.serial;
        system.uuid = marks.uuid;
        system.board_serial = marks.board_serial;
        system.chassis_asset = marks.chassis_asset;
        self.memory_bytes = marks.memory_bytes;
        for (nic, mac) in self.nics.iter_mut().zip(marks.nics) {
            nic.mac = MacText(MacAddr(mac));
        }
        for (disk, (serial, wwn)) in self.disks.iter_mut().zip(marks.disks) {
            disk.serial = serial;
            disk.wwn = wwn;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Marks;

    /// They are stored, and a database outlives versions that know fewer of them.
    #[test]
    fn marks_that_an_older_version_stored_are_read() {
        let older = serde_json::from_str::<Marks>(r#"{ "serial": "PF1" }"#).unwrap();
        let serial = "PF1".to_owned();
        let expected = Marks {
            serial,
            ..Marks::default()
        };
        assert_eq!(older, expected);
    }
}
