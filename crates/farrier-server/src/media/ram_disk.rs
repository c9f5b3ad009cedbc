//! A small FAT volume with GRUB for UEFI HTTP Boot, and with the shim before it where there is one. The firmware fetches
//! it whole, makes a RAM disk of it and starts `\EFI\BOOT\BOOTX64.EFI`, checking signatures as on any disk.
//!
//! GRUB that came by HTTP itself finds neither network nor configuration and stops at its prompt (`firmware.md`
//! T4). On a disk it finds its configuration beside it, and that names our address: no `siaddr` of whatever DHCP
//! server is there is asked (T3).

use std::io::{self, Cursor, Write};

use bytes::Bytes;
use farrier_engine::model::Arch;
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// Tells our scripts that this disk is not the machine's.
pub const MARK: &str = "farrier.ram";

/// What firmware starts from a disk of its own accord (UEFI 2.10, section 3.5.1.1), or none.
#[must_use]
pub fn default_name(arch: Arch) -> Option<&'static str> {
    Some(match arch {
        Arch::Arm32 => "BOOTARM.EFI",
        Arch::Arm64 => "BOOTAA64.EFI",
        Arch::Ia32 => "BOOTIA32.EFI",
        Arch::LoongArch64 => "BOOTLOONGARCH64.EFI",
        Arch::RiscV64 => "BOOTRISCV64.EFI",
        Arch::X86_64 => "BOOTX64.EFI",
        Arch::Ppc64 | Arch::S390x | Arch::Sparc64 => return None,
    })
}

/// The volume. `programs` are names and contents: the one that firmware starts, and what this looks for beside itself.
pub fn build(programs: &[(&str, Bytes)], script: &str) -> io::Result<Vec<u8>> {
    let content = programs.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + script.len();
    // Room for the tables and for what clusters round up.
    let size = (content + content / 16 + (1 << 20)).next_multiple_of(1 << 16);
    let mut disk = Cursor::new(vec![0; size]);
    fatfs::format_volume(
        &mut disk,
        FormatVolumeOptions::new().volume_label(*b"FARRIER RAM"),
    )?;
    {
        let volume = FileSystem::new(&mut disk, FsOptions::new())?;
        let root = volume.root_dir();
        let boot = root.create_dir("EFI")?.create_dir("BOOT")?;
        for (name, bytes) in programs {
            boot.create_file(name)?.write_all(bytes)?;
        }
        // The network build looks in `/grub`, the disk build beside itself.
        for folder in [&root.create_dir("grub")?, &boot] {
            folder
                .create_file("grub.cfg")?
                .write_all(script.as_bytes())?;
        }
        root.create_file(MARK)?;
    }
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_volume_holds_what_firmware_and_grub_look_for() {
        let shim = Bytes::from(vec![1; 1_000_000]);
        let grub = Bytes::from(vec![2; 3_000_000]);
        let programs = [("BOOTX64.EFI", shim.clone()), ("grubx64.efi", grub.clone())];
        let disk = build(&programs, "exit\n").unwrap();
        let volume = FileSystem::new(Cursor::new(disk), FsOptions::new()).unwrap();
        let read = |path: &str| {
            let mut bytes = Vec::new();
            let mut file = volume.root_dir().open_file(path).unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read("EFI/BOOT/BOOTX64.EFI"), shim);
        assert_eq!(read("efi/boot/GRUBX64.EFI"), grub);
        assert_eq!(read("grub/grub.cfg"), b"exit\n");
        assert_eq!(read("EFI/BOOT/grub.cfg"), b"exit\n");
        assert_eq!(read(MARK), b"");
    }
}
