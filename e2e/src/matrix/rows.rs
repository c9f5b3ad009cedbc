//! The rows of the matrix.

use crate::{Firmware, Suite};

/// How the server stands on the network of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is the DHCP server.
    Dhcp,
    /// Beside dnsmasq on another host, which lends the addresses.
    Proxy,
    /// It is the DHCP server, behind Debian's relay agent in another network.
    Relay,
    /// dnsmasq on another host lends addresses and names this file of ours.
    Named(&'static str),
    /// It announces its network and answers DHCPv6; over IPv4 it has no address to lend.
    Ipv6,
}

impl Role {
    /// What it is called in the table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Dhcp => "our DHCP",
            Self::Proxy => "proxy beside dnsmasq",
            Self::Relay => "our DHCP, through a relay",
            Self::Named(_) => "named by dnsmasq",
            Self::Ipv6 => "our DHCPv6",
        }
    }
}

/// One machine, and what has to be seen of it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Chooses the row on the command line.
    pub name: &'static str,
    /// Its firmware.
    pub firmware: Firmware,
    /// A network card of QEMU other than the one that goes with the board.
    pub card: Option<&'static str>,
    /// How it boots, for the table.
    pub way: &'static str,
    /// Where the server stands.
    pub role: Role,
    /// Loaders that the server lacks, by the beginning of their ids.
    pub without: &'static [&'static str],
    /// What a person types at U-Boot's prompt.
    pub typed: Option<&'static str>,
    /// MiB, where it needs more than others of its kind.
    pub memory: Option<u32>,
    /// It comes as far as to ask the server for its script.
    pub asks_for_script: bool,
    /// What is seen, for the table.
    pub seen: &'static str,
    /// What shows on the serial line.
    pub marker: &'static str,
    /// What the timeline tells of it.
    pub told: &'static [&'static str],
    /// Belongs to the part that every test run does.
    pub fast: bool,
}

/// A loader out of a package for another processor.
#[derive(Debug, Clone, Copy)]
pub struct Foreign {
    /// Kept under this name.
    pub name: &'static str,
    /// The package.
    pub package: &'static str,
    /// Where it is.
    pub suite: Suite,
    /// The loader's id in our catalogue.
    pub loader: &'static str,
}

impl Row {
    /// What the server's ordinary loaders do not have for it.
    #[must_use]
    pub fn foreign_loader(&self) -> Option<Foreign> {
        match (self.firmware, self.typed) {
            (Firmware::Slof, _) => Some(Foreign {
                name: "grub-ieee1275-bin-ppc64el",
                package: "grub-ieee1275-bin",
                suite: Suite::Foreign("ppc64el"),
                loader: "grub-net-ppc64",
            }),
            // Typed at its prompt, it needs no loader.
            (Firmware::UBootArm64, None) => Some(Foreign {
                name: "grub-efi-arm64-bin",
                package: "grub-efi-arm64-bin",
                suite: Suite::Foreign("arm64"),
                loader: "grub-plain-arm64",
            }),
            // Debian 12 is not made for it.
            (Firmware::UBootRiscV64, None) => Some(Foreign {
                name: "grub-efi-riscv64-unsigned",
                package: "grub-efi-riscv64-unsigned",
                suite: Suite::UnstableForeign("riscv64"),
                loader: "grub-plain-riscv64",
            }),
            _ => None,
        }
    }
}

const AGENT: &str = "farrier-agent: inventory sent";
/// The beginning of what machines without an agent show.
const NOTICE: &str = "Farrier: Network boot works, but the agent is for x86_64";
const NO_AGENT: &str = "the agent is for x86_64 PCs only";

const PC: Row = Row {
    name: "",
    firmware: Firmware::Bios,
    card: None,
    way: "PXE, iPXE's ROM",
    role: Role::Dhcp,
    without: &[],
    typed: None,
    memory: None,
    asks_for_script: true,
    seen: "agent",
    marker: AGENT,
    told: &["fetched the agent by HTTP"],
    fast: false,
};

const UEFI: Row = Row {
    firmware: Firmware::UefiPxe4,
    way: "PXE",
    told: &["fetched snponly.efi", "fetched the agent by HTTP"],
    ..PC
};

const SECURE: Row = Row {
    firmware: Firmware::SecurePxe4,
    way: "PXE, Secure Boot",
    without: &["ipxe"],
    memory: Some(1024),
    told: &["fetched shimx64.efi", "its GRUB script"],
    ..PC
};

const ARM64: Row = Row {
    firmware: Firmware::Arm64Pxe4,
    way: "PXE",
    seen: "notice by iPXE",
    marker: NOTICE,
    told: &["fetched ipxe-arm64.efi", NO_AGENT],
    ..PC
};

/// U-Boot stopped at its prompt: of itself it goes by EFI only, in Debian's builds.
const TYPED: Option<&str> = Some("setenv autoload no; dhcp; pxe get; pxe boot");

const UBOOT_MENU: Row = Row {
    firmware: Firmware::UBootArm64,
    way: "`pxe get; pxe boot`",
    typed: TYPED,
    seen: "notice in U-Boot's menu",
    told: &["its U-Boot menu", NO_AGENT],
    ..ARM64
};

const S390: Row = Row {
    firmware: Firmware::S390,
    way: "`pxelinux.cfg`",
    seen: "notice by the firmware",
    marker: NOTICE,
    told: &["its s390x configuration", NO_AGENT],
    ..PC
};

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    Row {
        name: "bios-virtio",
        ..PC
    },
    Row {
        name: "bios-e1000",
        card: Some("e1000"),
        ..PC
    },
    Row {
        name: "bios-rtl8139",
        card: Some("rtl8139"),
        ..PC
    },
    Row {
        name: "bios-proxy",
        role: Role::Proxy,
        ..PC
    },
    Row {
        name: "bios-relay",
        role: Role::Relay,
        ..PC
    },
    Row {
        name: "bios-pxelinux",
        way: "PXE, lpxelinux.0",
        role: Role::Named("boot/lpxelinux-bios/lpxelinux.0"),
        told: &["its PXELINUX configuration", "fetched the agent by HTTP"],
        ..PC
    },
    Row {
        name: "ovmf-pxe4",
        ..UEFI
    },
    Row {
        name: "ovmf-pxe4-proxy",
        role: Role::Proxy,
        ..UEFI
    },
    Row {
        name: "ovmf-pxe4-relay",
        role: Role::Relay,
        ..UEFI
    },
    Row {
        name: "ovmf-grub",
        way: "PXE, GRUB by TFTP",
        without: &["ipxe", "shim"],
        memory: Some(768),
        told: &["fetched grubx64.efi", "its GRUB script"],
        ..UEFI
    },
    Row {
        name: "ovmf-http4",
        firmware: Firmware::UefiHttp4,
        way: "HTTP Boot",
        told: &["by HTTP", "fetched the agent by HTTP"],
        ..UEFI
    },
    Row {
        name: "ovmf-http4-relay",
        firmware: Firmware::UefiHttp4,
        way: "HTTP Boot",
        role: Role::Relay,
        told: &["by HTTP", "fetched the agent by HTTP"],
        ..UEFI
    },
    Row {
        name: "ovmf-pxe6",
        firmware: Firmware::UefiPxe6,
        way: "PXE, IPv6",
        role: Role::Ipv6,
        told: &["has the address fd77::", "fetched snponly.efi"],
        ..UEFI
    },
    Row {
        name: "ovmf-http6",
        firmware: Firmware::UefiHttp6,
        way: "HTTP Boot, IPv6",
        role: Role::Ipv6,
        told: &["has the address fd77::", "fetched snponly.efi"],
        ..UEFI
    },
    Row {
        name: "secure-pxe4",
        ..SECURE
    },
    Row {
        name: "secure-http4",
        firmware: Firmware::SecureHttp4,
        way: "HTTP Boot of a RAM disk, Secure Boot",
        told: &["by HTTP", "its GRUB script"],
        ..SECURE
    },
    Row {
        name: "ia32-pxe4",
        firmware: Firmware::Ia32Pxe4,
        way: "PXE",
        seen: "notice by GRUB",
        marker: NOTICE,
        told: &["fetched grubia32.efi", NO_AGENT],
        fast: true,
        ..PC
    },
    Row {
        name: "ia32-http4",
        firmware: Firmware::Ia32Http4,
        way: "HTTP Boot of a RAM disk",
        seen: "notice by GRUB",
        marker: NOTICE,
        told: &["a RAM disk with grubia32.efi by HTTP", NO_AGENT],
        ..PC
    },
    Row {
        name: "arm64-pxe4",
        fast: true,
        ..ARM64
    },
    Row {
        name: "arm64-pxe4-proxy",
        role: Role::Proxy,
        ..ARM64
    },
    Row {
        name: "arm64-http4",
        firmware: Firmware::Arm64Http4,
        way: "HTTP Boot",
        ..ARM64
    },
    Row {
        name: "uboot-arm64-efi",
        firmware: Firmware::UBootArm64,
        way: "EFI program",
        seen: "notice by GRUB",
        told: &["fetched grubnetaa64.efi", NO_AGENT],
        ..ARM64
    },
    Row {
        name: "uboot-arm64-menu",
        fast: true,
        ..UBOOT_MENU
    },
    Row {
        name: "uboot-arm64-relay",
        role: Role::Relay,
        ..UBOOT_MENU
    },
    Row {
        name: "uboot-riscv64-efi",
        firmware: Firmware::UBootRiscV64,
        way: "EFI program",
        seen: "notice by GRUB",
        told: &["fetched grubnetriscv64.efi", NO_AGENT],
        ..ARM64
    },
    Row {
        name: "uboot-riscv64-menu",
        firmware: Firmware::UBootRiscV64,
        ..UBOOT_MENU
    },
    Row {
        name: "slof-virtio",
        firmware: Firmware::Slof,
        way: "GRUB by TFTP",
        asks_for_script: false,
        seen: "GRUB's banner",
        marker: "Welcome to GRUB!",
        told: &["fetched core.elf"],
        fast: true,
        ..PC
    },
    Row {
        name: "s390",
        fast: true,
        ..S390
    },
    Row {
        name: "s390-relay",
        role: Role::Relay,
        ..S390
    },
];
