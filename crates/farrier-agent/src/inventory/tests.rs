//! The whole inventory over a made-up `/sys`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use farrier_proto::MacAddr;
use tempfile::TempDir;

use super::{disks, identity, read};

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A disk at `place` below `/sys/devices`, linked from `/sys/block`.
fn add_disk(root: &Path, place: &str, name: &str, sectors: u64) -> String {
    let folder = format!("sys/devices/{place}/block/{name}");
    put(root, &format!("{folder}/size"), format!("{sectors}\n"));
    put(root, &format!("{folder}/queue/logical_block_size"), "512\n");
    put(
        root,
        &format!("{folder}/queue/physical_block_size"),
        "4096\n",
    );
    put(root, &format!("{folder}/queue/rotational"), "0\n");
    put(root, &format!("{folder}/removable"), "0\n");
    symlink(
        root.join(format!("sys/devices/{place}")),
        root.join(format!("{folder}/device")),
    )
    .unwrap();
    fs::create_dir_all(root.join("sys/block")).unwrap();
    symlink(root.join(&folder), root.join("sys/block").join(name)).unwrap();
    folder
}

fn machine() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    add_disk(root, "pci0000:00/0000:00:04.0/nvme/nvme0", "nvme0n1", 2048);
    put(
        root,
        "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/serial",
        "NV-1   \n",
    );
    put(
        root,
        "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/model",
        "A fast disk\n",
    );
    put(root, "sys/block/nvme0n1/wwid", "eui.0025385b71b00001\n");
    add_disk(
        root,
        "pci0000:00/0000:00:05.0/ata1/host0/target0:0:0/0:0:0:0",
        "sda",
        4096,
    );
    let mut page = vec![0, 0x80, 0, 8];
    page.extend_from_slice(b" SATA-7 ");
    put(root, "sys/block/sda/device/vpd_pg80", page);
    put(root, "sys/block/sda/device/vendor", "ATA     \n");
    put(root, "sys/block/sda/device/model", "QEMU HARDDISK\n");
    let usb = "pci0000:00/0000:00:06.0/usb1/1-1/1-1:1.0/host1/target1:0:0/1:0:0:0";
    add_disk(root, usb, "sdb", 8192);
    put(
        root,
        "sys/devices/pci0000:00/0000:00:06.0/usb1/1-1/idVendor",
        "46f4\n",
    );
    put(
        root,
        "sys/devices/pci0000:00/0000:00:06.0/usb1/1-1/serial",
        "STICK\n",
    );
    add_disk(root, "virtual", "loop0", 100);
    add_disk(root, "pci0000:00/0000:00:07.0/empty", "sdc", 0);
    let mut gpt = vec![0; 1024];
    gpt[510..512].copy_from_slice(&[0x55, 0xaa]);
    gpt[512..520].copy_from_slice(b"EFI PART");
    put(root, "dev/nvme0n1", gpt);
    put(root, "dev/sda", vec![0; 1024]);
    put(root, "proc/self/mounts", "/dev/sda2 /mnt ext4 rw 0 0\n");
    folder
}

#[test]
fn t20_disks_have_their_identities() {
    let folder = machine();
    let found = disks(folder.path());
    let names: Vec<_> = found.iter().map(|found| found.disk.name.as_str()).collect();
    assert_eq!(names, ["nvme0n1", "sda", "sdb"]);
    let [nvme, sata, usb] = &found[..] else {
        panic!("three disks")
    };
    assert_eq!(
        (nvme.disk.bus.as_str(), nvme.disk.serial.as_str()),
        ("nvme", "NV-1")
    );
    assert_eq!(
        (nvme.disk.wwn.as_str(), nvme.disk.size_bytes),
        ("eui.0025385b71b00001", 1 << 20)
    );
    assert_eq!(
        (nvme.disk.table.as_deref(), nvme.disk.physical_sector),
        (Some("gpt"), 4096)
    );
    assert_eq!(
        (sata.disk.bus.as_str(), sata.disk.serial.as_str()),
        ("sata", "SATA-7")
    );
    assert_eq!(
        (sata.disk.model.as_str(), sata.disk.table.as_deref()),
        ("QEMU HARDDISK", None)
    );
    assert_eq!(
        (
            usb.disk.bus.as_str(),
            usb.disk.serial.as_str(),
            usb.disk.removable
        ),
        ("usb", "STICK", true)
    );
    assert_eq!(
        found.iter().map(|found| found.in_use).collect::<Vec<_>>(),
        [false, true, false]
    );
}

#[test]
fn r18_a_disk_that_carries_another_device_is_in_use() {
    let folder = machine();
    put(
        folder.path(),
        "sys/block/nvme0n1/nvme0n1p1/partition",
        "1\n",
    );
    put(
        folder.path(),
        "sys/block/nvme0n1/nvme0n1p1/holders/dm-0",
        "",
    );
    assert!(disks(folder.path())[0].in_use);
}

#[test]
fn pains_16_devices_without_driver_are_named_and_others_not() {
    let folder = machine();
    let root = folder.path();
    for (slot, class, driver) in [
        ("0000:00:01.0", "0x060400", false),
        ("0000:00:02.0", "0x020000", false),
        ("0000:00:03.0", "0x020000", true),
        ("0000:00:04.0", "0x030000", false),
    ] {
        let place = format!("sys/bus/pci/devices/{slot}");
        put(root, &format!("{place}/class"), format!("{class}\n"));
        put(root, &format!("{place}/vendor"), "0x8086\n");
        put(root, &format!("{place}/device"), "0x15f3\n");
        if driver {
            fs::create_dir_all(root.join(place).join("driver")).unwrap();
        }
    }
    let inventory = read(root, MacAddr([0; 6]));
    assert_eq!(inventory.pci_without_driver, ["8086:15f3 class 020000"]);
}

#[test]
fn firmware_facts_are_read_where_they_are() {
    let folder = machine();
    let root = folder.path();
    let bios = read(root, MacAddr([0; 6]));
    assert_eq!((bios.uefi, bios.secure_boot, bios.tpm), (false, None, None));
    put(
        root,
        "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        [6, 0, 0, 0, 1],
    );
    put(root, "sys/class/tpm/tpm0/tpm_version_major", "2\n");
    put(
        root,
        "proc/meminfo",
        "MemTotal:         1024 kB\nMemFree: 1 kB\n",
    );
    put(root, "sys/class/dmi/id/product_serial", "KERNEL-SAYS\n");
    let uefi = read(root, MacAddr([0; 6]));
    assert_eq!(
        (uefi.uefi, uefi.secure_boot, uefi.tpm.as_deref()),
        (true, Some(true), Some("2.0"))
    );
    assert_eq!(uefi.memory_bytes, 1 << 20);
    assert_eq!(identity(root).1, "KERNEL-SAYS");
}
