//! Chooses the kernel modules an agent may need, and writes the table by which it finds them.
//!
//! The table is text, one module per block, in the order of names:
//!
//! ```text
//! m nvme drivers/nvme/host/nvme.ko nvme_core
//! a pci:v*d*sv*sd*bc01sc08i02*
//! ```
//!
//! `m` gives name, file below `/modules`, and everything to load before it, in order, already closed over
//! the needs of needs. `a` gives a pattern of hardware the module above serves.

use std::collections::{BTreeMap, BTreeSet};

use super::module_info::{ModuleInfo, NotAModule, normal};

/// What is taken: a folder with all below it, or one file. Wireless, sound, pictures and file systems are
/// not: an agent reads disks as blocks and boots by wire.
const TAKEN: &[&str] = &[
    "drivers/acpi/nfit/",
    "drivers/ata/",
    "drivers/block/virtio_blk.ko",
    "drivers/block/xen-blkfront.ko",
    "drivers/char/hw_random/virtio-rng.ko",
    "drivers/char/tpm/",
    "drivers/hid/hid-apple.ko",
    "drivers/hid/hid-cherry.ko",
    "drivers/hid/hid-generic.ko",
    "drivers/hid/hid-hyperv.ko",
    "drivers/hid/hid-lenovo.ko",
    "drivers/hid/hid-logitech.ko",
    "drivers/hid/hid-logitech-dj.ko",
    "drivers/hid/hid-microsoft.ko",
    "drivers/hid/usbhid/usbhid.ko",
    "drivers/hv/",
    "drivers/message/fusion/",
    "drivers/mmc/",
    "drivers/net/ethernet/",
    "drivers/net/hyperv/",
    "drivers/net/mdio/",
    "drivers/net/net_failover.ko",
    "drivers/net/pcs/",
    "drivers/net/phy/",
    "drivers/net/usb/",
    "drivers/net/virtio_net.ko",
    "drivers/net/vmxnet3/",
    "drivers/net/xen-netfront.ko",
    "drivers/nvme/host/",
    "drivers/pci/controller/",
    "drivers/scsi/",
    "drivers/ufs/",
    "drivers/usb/common/",
    "drivers/usb/core/",
    "drivers/usb/dwc3/dwc3-pci.ko",
    "drivers/usb/host/",
    "drivers/usb/storage/",
    "drivers/virtio/",
    "fs/efivarfs/efivarfs.ko",
];

/// Taken out again: switches and converged adapters that no machine boots from, adapters not sold for
/// fifteen years, storage by network and Fibre Channel (an agent works on local disks), and test drivers.
const LEFT_OUT: &[&str] = &[
    "drivers/ata/pata_legacy.ko",
    "drivers/hv/hv_balloon.ko",
    "drivers/net/ethernet/brocade/",
    "drivers/net/ethernet/cavium/",
    "drivers/net/ethernet/chelsio/cxgb/",
    "drivers/net/ethernet/chelsio/cxgb3/",
    "drivers/net/ethernet/chelsio/inline_crypto/",
    "drivers/net/ethernet/chelsio/libcxgb/",
    "drivers/net/ethernet/mellanox/mlxsw/",
    "drivers/net/ethernet/netronome/",
    "drivers/net/ethernet/qlogic/netxen/",
    "drivers/net/ethernet/sfc/falcon/",
    "drivers/net/ethernet/sfc/siena/",
    "drivers/net/ethernet/xircom/",
    "drivers/net/usb/hso.ko",
    "drivers/net/usb/sierra_net.ko",
    "drivers/nvme/host/nvme-fabrics.ko",
    "drivers/nvme/host/nvme-fc.ko",
    "drivers/nvme/host/nvme-rdma.ko",
    "drivers/nvme/host/nvme-tcp.ko",
    "drivers/scsi/be2iscsi/",
    "drivers/scsi/bfa/",
    "drivers/scsi/bnx2fc/",
    "drivers/scsi/bnx2i/",
    "drivers/scsi/csiostor/",
    "drivers/scsi/cxgbi/",
    "drivers/scsi/device_handler/",
    "drivers/scsi/elx/",
    "drivers/scsi/fcoe/",
    "drivers/scsi/fnic/",
    "drivers/scsi/iscsi_boot_sysfs.ko",
    "drivers/scsi/iscsi_tcp.ko",
    "drivers/scsi/libfc/",
    "drivers/scsi/lpfc/",
    "drivers/scsi/qedf/",
    "drivers/scsi/qedi/",
    "drivers/scsi/qla2xxx/",
    "drivers/scsi/qla4xxx/",
    "drivers/scsi/scsi_debug.ko",
    "drivers/scsi/snic/",
    "drivers/scsi/st.ko",
    "drivers/usb/host/sl811_cs.ko",
    "drivers/virtio/virtio_balloon.ko",
    "drivers/virtio/virtio_mem.ko",
];

/// One module on its way into the archive.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// Below the release's `kernel/` folder.
    pub(super) path: String,
    pub(super) info: ModuleInfo,
    /// Names to load before it, in this order.
    pub(super) first: Vec<String>,
}

/// A chosen module cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("{path} cannot be read as a module")]
    Parse { path: String, source: NotAModule },
    #[error(
        "{module} needs {needed}, which the kernel package does not have; use a complete package"
    )]
    Missing { module: String, needed: String },
}

/// Picks from `files` (path below `kernel/` to content) what [`TAKEN`] says and what that needs.
/// `builtin` are the names of modules inside the kernel itself.
pub(super) fn select(
    files: &BTreeMap<String, Vec<u8>>,
    builtin: &BTreeSet<String>,
) -> Result<Vec<Module>, SelectError> {
    let by_name: BTreeMap<String, &String> = files.keys().map(|path| (stem(path), path)).collect();
    let mut closing = Closing {
        files,
        builtin,
        by_name,
        infos: BTreeMap::new(),
    };
    let wanted: Vec<String> = files
        .keys()
        .filter(|path| is_wanted(path))
        .map(|path| stem(path))
        .collect();
    for name in &wanted {
        closing.read(name)?;
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut orders = BTreeMap::new();
    for name in wanted {
        let order = closing.order(&name)?;
        names.extend(order);
        names.insert(name);
    }
    for name in &names {
        orders.insert(name.clone(), closing.order(name)?);
    }
    let module = |name: String| {
        let (path, info) = closing.infos.get(&name)?.clone();
        let first = orders.remove(&name)?;
        Some(Module { path, info, first })
    };
    Ok(names.into_iter().filter_map(module).collect())
}

/// The table for the agent; the module comment says how it reads.
#[must_use]
pub(super) fn table(modules: &[Module]) -> String {
    let mut out = String::new();
    for module in modules {
        out.push_str(&format!(
            "m {} {} {}\n",
            module.info.name,
            module.path,
            module.first.join(",")
        ));
        for alias in &module.info.aliases {
            out.push_str(&format!("a {alias}\n"));
        }
    }
    out
}

fn is_wanted(path: &str) -> bool {
    let under = |list: &[&str]| {
        list.iter()
            .any(|rule| path == *rule || (rule.ends_with('/') && path.starts_with(rule)))
    };
    under(TAKEN) && !under(LEFT_OUT)
}

fn stem(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.strip_suffix(".ko").unwrap_or(file))
}

struct Closing<'a> {
    files: &'a BTreeMap<String, Vec<u8>>,
    builtin: &'a BTreeSet<String>,
    by_name: BTreeMap<String, &'a String>,
    infos: BTreeMap<String, (String, ModuleInfo)>,
}

impl Closing<'_> {
    /// Parses a module once; false if there is none of that name.
    fn read(&mut self, name: &str) -> Result<bool, SelectError> {
        if self.infos.contains_key(name) {
            return Ok(true);
        }
        let Some(&path) = self.by_name.get(name) else {
            return Ok(false);
        };
        let parsed = ModuleInfo::parse(&self.files[path], name);
        let info = parsed.map_err(|source| SelectError::Parse {
            path: path.clone(),
            source,
        })?;
        self.infos.insert(name.to_owned(), (path.clone(), info));
        Ok(true)
    }

    /// Everything `name` needs, needs of needs first. Kernel modules have no cycles of symbols, but soft
    /// needs may form one; a name already on the way is not entered again.
    fn order(&mut self, name: &str) -> Result<Vec<String>, SelectError> {
        let mut order = Vec::new();
        let mut entered = BTreeSet::from([name.to_owned()]);
        self.visit(name, &mut order, &mut entered)?;
        Ok(order)
    }

    fn visit(
        &mut self,
        name: &str,
        order: &mut Vec<String>,
        entered: &mut BTreeSet<String>,
    ) -> Result<(), SelectError> {
        if !self.read(name)? {
            return Ok(());
        }
        let info = self.infos[name].1.clone();
        let soft = info.soft_depends.iter().map(|needed| (needed, false));
        for (needed, hard) in soft.chain(info.depends.iter().map(|needed| (needed, true))) {
            if self.builtin.contains(needed) || !entered.insert(needed.clone()) {
                continue;
            }
            if self.read(needed)? {
                self.visit(needed, order, entered)?;
                order.push(needed.clone());
            } else if hard {
                return Err(SelectError::Missing {
                    module: name.to_owned(),
                    needed: needed.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::module_info::tests::module;
    use super::{SelectError, select, table};

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        list.iter()
            .map(|(path, info)| ((*path).to_owned(), module(info)))
            .collect()
    }

    #[test]
    fn needs_of_needs_come_first_and_builtin_ones_not_at_all() {
        let files = files(&[
            (
                "drivers/nvme/host/nvme.ko",
                "name=nvme\ndepends=nvme-core,t10\nalias=pci:v*bc01sc08i02*\n",
            ),
            (
                "drivers/nvme/host/nvme-core.ko",
                "name=nvme_core\ndepends=t10,builtin_one\n",
            ),
            (
                "block/t10.ko",
                "name=t10\ndepends=crc\nsoftdep=pre: crc_fast gone\n",
            ),
            ("lib/crc.ko", "name=crc\ndepends=\n"),
            ("arch/x86/crc_fast.ko", "name=crc_fast\ndepends=crc\n"),
            ("sound/noise.ko", "name=noise\n"),
        ]);
        let builtin = BTreeSet::from(["builtin_one".to_owned()]);
        let modules = select(&files, &builtin).unwrap();
        assert_eq!(
            table(&modules),
            "m crc lib/crc.ko \n\
             m crc_fast arch/x86/crc_fast.ko crc\n\
             m nvme drivers/nvme/host/nvme.ko crc,crc_fast,t10,nvme_core\n\
             a pci:v*bc01sc08i02*\n\
             m nvme_core drivers/nvme/host/nvme-core.ko crc,crc_fast,t10\n\
             m t10 block/t10.ko crc,crc_fast\n"
        );
    }

    #[test]
    fn a_hole_in_the_package_is_an_error_not_a_dead_machine() {
        let files = files(&[("drivers/ata/ahci.ko", "name=ahci\ndepends=libahci\n")]);
        let error = select(&files, &BTreeSet::new()).unwrap_err();
        assert_eq!(
            error,
            SelectError::Missing {
                module: "ahci".into(),
                needed: "libahci".into()
            }
        );
    }

    #[test]
    fn soft_cycles_end() {
        let files = files(&[
            ("drivers/ata/a.ko", "name=a\nsoftdep=pre: b\n"),
            ("drivers/ata/b.ko", "name=b\nsoftdep=pre: a\n"),
        ]);
        let modules = select(&files, &BTreeSet::new()).unwrap();
        assert_eq!(
            table(&modules),
            "m a drivers/ata/a.ko b\nm b drivers/ata/b.ko a\n"
        );
    }
}
