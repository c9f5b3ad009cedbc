//! Where everything lies on the disk: partitions, file systems, and the loaders of both firmwares.

use std::{fs, os::unix::fs::FileExt, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{command, run};

/// File-system UUIDs, fixed so that two builds make the same boot files.
pub(super) const ROOT_UUID: &str = "5f0a1d52-6f36-4c14-9f5b-0d6e2f9a1c01";
pub(super) const ESP_ID: &str = "FA221E01";
const DISK_GUID: &str = "5f0a1d52-6f36-4c14-9f5b-0d6e2f9a1c00";

/// The layout in sectors of 512 bytes: BIOS boot partition, EFI system partition, root.
const SECTOR: u64 = 512;
const BIOS_BOOT: (u64, u64) = (2048, 4095);
pub(super) const ESP: (u64, u64) = (4096, 4096 + 64 * 2048 - 1);
pub(super) const ROOT_START: u64 = ESP.1 + 1;
const DISK_SECTORS: u64 = 2 * 1024 * 2048;
/// The backup GPT keeps the last 33 sectors; the root ends at a MiB before.
const ROOT_SECTORS: u64 = DISK_SECTORS - 2048 - ROOT_START;

pub(super) fn partition(image: &Path) -> Result<()> {
    let file =
        fs::File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
    file.set_len(DISK_SECTORS * SECTOR)
        .context("cannot size the disk")?;
    let mut sgdisk = command(
        "sgdisk",
        ["--set-alignment=1", &format!("--disk-guid={DISK_GUID}")],
    );
    let parts = [
        ("ef02", "bios", BIOS_BOOT),
        ("ef00", "esp", ESP),
        ("8304", "root", (ROOT_START, ROOT_START + ROOT_SECTORS - 1)),
    ];
    for (number, (kind, name, (first, last))) in (1..).zip(parts) {
        sgdisk
            .arg(format!("--new={number}:{first}:{last}"))
            .arg(format!("--typecode={number}:{kind}"));
        sgdisk.arg(format!("--change-name={number}:{name}"));
        sgdisk.arg(format!(
            "--partition-guid={number}:{}{number:02}",
            &DISK_GUID[..34]
        ));
    }
    run(sgdisk.arg(image)).map(drop)
}

pub(super) fn make_esp(workshop: &Path, esp: &Path) -> Result<()> {
    let file = fs::File::create(esp).context("cannot make the EFI system partition")?;
    file.set_len((ESP.1 - ESP.0 + 1) * SECTOR)
        .context("cannot size the EFI system partition")?;
    run(command("mkfs.vfat", ["-F", "32", "-n", "ESP", "-i", ESP_ID]).arg(esp))?;
    let loader = workshop.join("grubx64.efi");
    grub_image("x86_64-efi", workshop, &loader)?;
    let mtools = |program: &str| {
        let mut command = command(program, ["-i"]);
        command.arg(esp);
        command
    };
    run(mtools("mmd").args(["::EFI", "::EFI/BOOT", "::EFI/debian"]))?;
    run(mtools("mcopy").arg(&loader).arg("::EFI/BOOT/BOOTX64.EFI"))?;
    run(mtools("mcopy").arg(&loader).arg("::EFI/debian/grubx64.efi")).map(drop)
}

pub(super) fn make_root(root: &Path, image: &Path) -> Result<()> {
    let mut mke2fs = command(
        "mke2fs",
        [
            "-q", "-t", "ext4", "-L", "golden", "-U", ROOT_UUID, "-m", "1", "-d",
        ],
    );
    mke2fs
        .arg(root)
        .arg(image)
        .arg(format!("{}k", ROOT_SECTORS / 2));
    run(mke2fs.env("E2FSPROGS_FAKE_TIME", "1700000000")).map(drop)
}

/// Copies a file system into its partition, leaving holes where it is zero.
pub(super) fn place(part: &Path, image: &Path, sector: u64) -> Result<()> {
    let mut dd = command("dd", ["bs=1M", "conv=notrunc,sparse", "status=none"]);
    ensure!(sector.is_multiple_of(2048), "partitions begin at a MiB");
    dd.arg(format!("if={}", part.display()))
        .arg(format!("of={}", image.display()))
        .arg(format!("seek={}", sector / 2048));
    run(&mut dd).map(drop)
}

/// A GRUB core that finds the root by its UUID and goes on with the menu there.
fn grub_image(format: &str, workshop: &Path, output: &Path) -> Result<()> {
    let early = workshop.join("early.cfg");
    let text = format!(
        "search --no-floppy --fs-uuid --set=root {ROOT_UUID}\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
    );
    fs::write(&early, text).context("cannot write GRUB's first commands")?;
    let mut mkimage = command(
        "grub-mkimage",
        ["--prefix=/boot/grub", "--format", format, "--config"],
    );
    mkimage.arg(&early).arg("--output").arg(output);
    mkimage.args([
        "part_gpt",
        "ext2",
        "search",
        "search_fs_uuid",
        "configfile",
        "normal",
        "linux",
        "echo",
        "test",
        "minicmd",
    ]);
    if format == "i386-pc" {
        mkimage.arg("biosdisk");
    }
    run(&mut mkimage).map(drop)
}

/// Lays GRUB's boot sector over the code area of the protective MBR and its core into the BIOS boot partition.
pub(super) fn bios_loader(workshop: &Path, image: &Path) -> Result<()> {
    /// Where the boot sector holds the sector number of the core, and its jump over the drive check.
    const CORE_SECTOR: usize = 0x5c;
    const DRIVE_CHECK: usize = 0x66;
    /// The boot sector's code ends before the disk signature and the partition table.
    const CODE_BYTES: usize = 440;
    /// The core's first sector ends with the list of the sectors that hold the rest: start, count, segment.
    const BLOCK_LIST: usize = 512 - 12;

    let core_path = workshop.join("core.img");
    grub_image("i386-pc", workshop, &core_path)?;
    let mut boot =
        fs::read("/usr/lib/grub/i386-pc/boot.img").context("cannot read GRUB's boot sector")?;
    let mut core = fs::read(&core_path).context("cannot read GRUB's core")?;
    ensure!(
        boot.len() == 512 && core.len() > 512,
        "GRUB's images have an unknown shape"
    );
    let room = (BIOS_BOOT.1 - BIOS_BOOT.0 + 1) * SECTOR;
    if core.len() as u64 > room {
        bail!(
            "GRUB's core needs {} bytes and the BIOS boot partition has {room}",
            core.len()
        );
    }
    boot[CORE_SECTOR..CORE_SECTOR + 8].copy_from_slice(&BIOS_BOOT.0.to_le_bytes());
    // On a hard disk the drive number given by the BIOS is trusted only after this check, which a jump would skip.
    boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    let rest = u16::try_from(core.len().div_ceil(512) - 1).context("GRUB's core is too long")?;
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(BIOS_BOOT.0 + 1).to_le_bytes());
    core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&rest.to_le_bytes());
    let disk = fs::OpenOptions::new()
        .write(true)
        .open(image)
        .context("cannot open the disk")?;
    disk.write_all_at(&boot[..CODE_BYTES], 0)
        .context("cannot write the boot sector")?;
    disk.write_all_at(&core, BIOS_BOOT.0 * SECTOR)
        .context("cannot write GRUB's core")
}
