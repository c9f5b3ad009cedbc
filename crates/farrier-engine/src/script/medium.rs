//! Starting a disk image: by MEMDISK, which keeps it in memory, or as a disk that iPXE reads over the network.

use super::ipxe::{Ipxe, Part};
use super::{LocalDisk, Url, start_disk};
use crate::medium::MediumKind;

/// What is started, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediumScript<'a> {
    pub image: &'a Url,
    pub kind: MediumKind,
    /// None means over the network.
    pub memdisk: Option<&'a Url>,
    /// Where it goes if the image cannot be started.
    pub local_disk: &'a LocalDisk,
}

impl MediumScript<'_> {
    /// What MEMDISK is told (`memdisk.txt` of SYSLINUX): what to take the image for, and `raw`, which makes it use no
    /// protected-mode call of the BIOS; those fail behind some loaders.
    pub(super) fn memdisk_words(&self) -> String {
        match self.kind {
            MediumKind::Cd => "iso raw".to_owned(),
            MediumKind::Disk(g) => {
                let (c, h, s) = (g.cylinders, g.heads, g.sectors);
                format!("harddisk c={c} h={h} s={s} raw")
            }
            MediumKind::Floppy => "floppy raw".to_owned(),
        }
    }
}

/// The script of the machine that is to start it.
pub(super) fn start(script: &MediumScript<'_>) -> String {
    let mut ipxe = Ipxe::new();
    ipxe.line([Part::Fixed("echo Farrier: starting a disk image.")]);
    match script.memdisk {
        Some(memdisk) => in_memory(&mut ipxe, script, memdisk),
        None => over_network(&mut ipxe, script.image),
    }
    ipxe.label("failed");
    ipxe.line([Part::Fixed(
        "echo Farrier: the disk image could not be started. The local disk starts instead.",
    )]);
    ipxe.line([Part::Fixed("sleep 5")]);
    start_disk(&mut ipxe, script.local_disk);
    ipxe.finish()
}

/// The same for whoever asks by the image's own name, on whatever firmware: for DHCP servers that are not ours.
#[must_use]
pub fn by_name(image: &Url, kind: MediumKind, memdisk: Option<&Url>) -> String {
    let mut ipxe = Ipxe::new();
    ipxe.line([Part::Fixed("ifopen ||")]);
    ipxe.line([Part::Fixed("isset ${ip} || dhcp || goto failed")]);
    ipxe.line([Part::Fixed("iseq ${platform} efi && goto uefi ||")]);
    if let Some(memdisk) = memdisk {
        let script = MediumScript {
            image,
            kind,
            memdisk: Some(memdisk),
            local_disk: &LocalDisk::Exit,
        };
        in_memory(&mut ipxe, &script, memdisk);
    } else {
        ipxe.line([Part::Fixed(
            "echo Farrier: MEMDISK is missing: import the package syslinux-common.",
        )]);
        ipxe.line([Part::Fixed("goto failed")]);
    }
    ipxe.label("uefi");
    over_network(&mut ipxe, image);
    ipxe.label("failed");
    ipxe.line([Part::Fixed(
        "echo Farrier: the image could not be started. The machine goes on to its next boot entry.",
    )]);
    ipxe.line([Part::Fixed("sleep 5")]);
    ipxe.line([Part::Fixed("exit")]);
    ipxe.finish()
}

fn in_memory(ipxe: &mut Ipxe, script: &MediumScript<'_>, memdisk: &Url) {
    let mut line = vec![Part::Fixed("kernel"), Part::Url(memdisk)];
    match script.kind {
        MediumKind::Cd => line.push(Part::Fixed("iso")),
        MediumKind::Disk(geometry) => line.extend([
            Part::Fixed("harddisk"),
            Part::Named("c=", geometry.cylinders.into()),
            Part::Named("h=", geometry.heads.into()),
            Part::Named("s=", geometry.sectors.into()),
        ]),
        MediumKind::Floppy => line.push(Part::Fixed("floppy")),
    }
    line.push(Part::Fixed("raw || goto failed"));
    ipxe.line(line);
    ipxe.line([
        Part::Fixed("initrd"),
        Part::Url(script.image),
        Part::Fixed("|| goto failed"),
    ]);
    ipxe.line([Part::Fixed("boot || goto failed")]);
}

fn over_network(ipxe: &mut Ipxe, image: &Url) {
    ipxe.line([
        Part::Fixed("sanboot --no-describe"),
        Part::Url(image),
        Part::Fixed("|| goto failed"),
    ]);
}
