//! What the doctor sees of the boot plane: relays that lose our answers, machines without a loader, and the
//! lines that other people's DHCP servers need.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use farrier_api::admin::{Check, Verdict};
use farrier_engine::catalogue::{Catalogue, LoaderFile};
use farrier_engine::model::{Arch, FirmwareKind};

use farrier_net::interface;

use super::{Code, Desk, Refusal};
use crate::auth::Action;
use crate::boot_tree::{FIRST_SCRIPT, Urls, loader_path};
use crate::relays::Traffic;

/// A DHCP server that people run beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherServer {
    Dnsmasq,
    Kea,
    Isc,
    Windows,
}

impl OtherServer {
    pub const ALL: [Self; 4] = [Self::Dnsmasq, Self::Kea, Self::Isc, Self::Windows];

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "kea",
            Self::Isc => "isc",
            Self::Windows => "windows",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|server| server.name() == name)
    }
}

impl Desk {
    /// Relays and architectures.
    pub(super) fn check_boot_plane(&self) -> Vec<Check> {
        let mut checks = relays(&self.core.relays.all());
        let mut seen = self.core.fleet.architectures();
        // Without a loader no machine gets as far as to be known by its script.
        seen.extend(self.core.sightings.kinds());
        let catalogue = self.core.loaders.catalogue();
        checks.extend(loaders(&seen, &catalogue));
        checks.extend(slow_local_boots(&catalogue));
        checks
    }

    /// [`lines`] with the address of our first interface.
    pub fn doctor_lines(&self, server: &str) -> Result<String, Refusal> {
        self.allow(Action::Look)?;
        let other =
            OtherServer::named(server).ok_or_else(|| Refusal::missing("DHCP server", server))?;
        let ours = self.core.config.interfaces.first().and_then(|served| {
            let own = || {
                interface::by_name(&served.name)
                    .ok()??
                    .addresses
                    .first()
                    .map(|(ip, _)| *ip)
            };
            served.address.or_else(own)
        });
        let ours = ours
            .ok_or_else(|| Refusal::new(Code::NotPossible, "the first interface has no address"))?;
        let base = Urls::plain(&self.core.config, ours.into()).of("");
        let catalogue = self.core.loaders.catalogue();
        Ok(lines(other, ours, &base, &catalogue).join("\n") + "\n")
    }
}

fn relays(all: &[(Ipv4Addr, Traffic)]) -> Vec<Check> {
    let bad = all.iter().filter(|(_, traffic)| traffic.is_one_way());
    bad.map(|(giaddr, traffic)| Check {
        name: format!("relay {giaddr}"),
        verdict: Verdict::Bad,
        found: format!("it brings requests, but none of {} offers was ever taken", traffic.offers),
        remedy: Some(format!(
            "Let UDP from this server's port 67 to port 67 of {giaddr} through, and see that this server has a route \
             to {giaddr}: the relay or a firewall drops our answers."
        )),
    })
    .collect()
}

fn loaders(seen: &BTreeSet<(Arch, FirmwareKind)>, catalogue: &Catalogue) -> Vec<Check> {
    // The others look for their menus and kernels by names of their own.
    let wants = |firmware| {
        matches!(
            firmware,
            FirmwareKind::Bios | FirmwareKind::Uefi | FirmwareKind::OpenFirmware
        )
    };
    let lacking = seen
        .iter()
        .filter(|(arch, firmware)| wants(*firmware) && catalogue.usual(*arch, *firmware).is_none());
    lacking
        .map(|(arch, firmware)| Check {
            name: format!("loader for {arch}, {firmware}"),
            verdict: Verdict::Bad,
            found: "such machines ask to boot, and there is no loader for them".to_owned(),
            remedy: Some(format!(
                "Import one built for {arch}: farrier loader import FILE"
            )),
        })
        .collect()
}

fn slow_local_boots(catalogue: &Catalogue) -> Vec<Check> {
    let slow = catalogue.slow_local_boots();
    slow.iter()
        .map(|slow| Check {
            name: format!("local disk of {}, UEFI", slow.ipxe.arch),
            verdict: Verdict::Warning,
            found: slow.to_string(),
            remedy: Some(slow.remedy()),
        })
        .collect()
}

/// What to write into a DHCP server that shall name our boot files itself, for firmware that ignores a second
/// offer. `ours` is our address on that network, `base` what URLs there begin with.
#[must_use]
pub fn lines(
    server: OtherServer,
    ours: Ipv4Addr,
    base: &str,
    catalogue: &Catalogue,
) -> Vec<String> {
    let mut lines = of_ipxe(server, ours, &format!("{base}{FIRST_SCRIPT}"));
    let families = FAMILIES
        .iter()
        .filter(|family| !family.http || server != OtherServer::Windows);
    for family in families {
        let Some(loader) = catalogue.usual(family.arch, family.firmware) else {
            continue;
        };
        let file = if family.http {
            format!("{base}{}", loader_path(&LoaderFile::over_http(loader)))
        } else {
            loader_path(&loader.into())
        };
        if server == OtherServer::Kea
            && let Some(last) = lines.last_mut()
        {
            last.push(',');
        }
        lines.extend(of_family(server, family, ours, &file));
    }
    match server {
        OtherServer::Windows => {
            lines.push("# UEFI HTTP Boot is left out: let such machines boot by PXE".to_owned());
            lines.push("# Delete options 60, 66 and 67 of the scope itself: Remove-DhcpServerv4OptionValue -OptionId 60,66,67".to_owned());
        }
        OtherServer::Kea => {
            lines.push("// no option-data for 43, 60, 66 or 67 anywhere else".to_owned());
        }
        _ => lines.push("# no option 43, 60, 66 or 67 anywhere else".to_owned()),
    }
    lines
}

/// Where to put them, and iPXE's. It sends the architecture of what it runs on, too: without a line of its own it would
/// load itself for ever.
fn of_ipxe(server: OtherServer, ours: Ipv4Addr, script: &str) -> Vec<String> {
    match server {
        OtherServer::Dnsmasq => vec![
            "# dnsmasq.conf; take every other dhcp-boot and pxe-service line out".to_owned(),
            "dhcp-match=set:farrier-ipxe,175".to_owned(),
            format!("dhcp-boot=tag:farrier-ipxe,{script},,{ours}"),
        ],
        OtherServer::Kea => vec![
            "// in \"Dhcp4\": { \"client-classes\": [ ... ] } of kea-dhcp4.conf".to_owned(),
            format!(
                "{{ \"name\": \"farrier-ipxe\", \"test\": \"option[175].exists\", \"next-server\": \"{ours}\", \
                 \"boot-file-name\": \"{script}\" }}"
            ),
        ],
        OtherServer::Isc => vec![
            "# dhcpd.conf, outside of every subnet".to_owned(),
            "option farrier-arch code 93 = unsigned integer 16;".to_owned(),
            "option farrier-ipxe code 175 = string;".to_owned(),
            format!("if exists farrier-ipxe {{ next-server {ours}; filename \"{script}\"; }}"),
        ],
        OtherServer::Windows => {
            let mut lines = vec![
                "# PowerShell on the DHCP server, as administrator; the order counts".to_owned(),
            ];
            lines.extend(windows("ipxe", "User", "iPXE", ours, script));
            lines
        }
    }
}

/// What a family of firmware is told. HTTP Boot takes no offer without `HTTPClient` as option 60.
fn of_family(server: OtherServer, family: &Family, ours: Ipv4Addr, file: &str) -> Vec<String> {
    let Family {
        name, code, http, ..
    } = *family;
    match server {
        OtherServer::Dnsmasq => {
            let tags = format!("tag:!farrier-ipxe,tag:farrier-{name}");
            let class = http.then(|| format!("dhcp-option-force={tags},60,HTTPClient"));
            std::iter::once(format!(
                "dhcp-match=set:farrier-{name},option:client-arch,{code}"
            ))
            .chain(class)
            .chain([format!("dhcp-boot={tags},{file},,{ours}")])
            .collect()
        }
        OtherServer::Kea => {
            let class = if http {
                ", \"option-data\": [ { \"name\": \"vendor-class-identifier\", \"data\": \"HTTPClient\" } ]"
            } else {
                ""
            };
            vec![format!(
                "{{ \"name\": \"farrier-{name}\", \"test\": \"not option[175].exists and option[93].hex == 0x{code:04x}\", \
                 \"next-server\": \"{ours}\", \"boot-file-name\": \"{file}\"{class} }}"
            )]
        }
        OtherServer::Isc => {
            let class = if http {
                "option vendor-class-identifier \"HTTPClient\"; "
            } else {
                ""
            };
            // A number there is one of 32 bits, which no option of 16 is equal to.
            vec![format!(
                "elsif option farrier-arch = {:02x}:{:02x} {{ {class}next-server {ours}; filename \"{file}\"; }}",
                code >> 8,
                code & 0xff
            )]
        }
        OtherServer::Windows => {
            let class = format!("PXEClient:Arch:{code:05}");
            windows(name, "Vendor", &class, ours, file)
        }
    }
}

/// A class of clients by what they say (a vendor's begins so, a user's is so), and what it is told.
fn windows(name: &str, kind: &str, says: &str, ours: Ipv4Addr, file: &str) -> Vec<String> {
    let tail = if kind == "Vendor" { "*" } else { "" };
    vec![
        format!("Add-DhcpServerv4Class -Name farrier-{name} -Type {kind} -Data \"{says}\""),
        format!(
            "Add-DhcpServerv4Policy -Name farrier-{name} -Condition OR -{kind}Class EQ,\"farrier-{name}{tail}\""
        ),
        format!(
            "Set-DhcpServerv4OptionValue -PolicyName farrier-{name} -OptionId 66 -Value \"{ours}\""
        ),
        format!(
            "Set-DhcpServerv4OptionValue -PolicyName farrier-{name} -OptionId 67 -Value \"{file}\""
        ),
    ]
}

/// Firmware of one code of option 93.
struct Family {
    name: &'static str,
    code: u16,
    arch: Arch,
    firmware: FirmwareKind,
    /// By UEFI HTTP Boot, and not by PXE.
    http: bool,
}

const fn family(name: &'static str, code: u16, arch: Arch, firmware: FirmwareKind) -> Family {
    Family {
        name,
        code,
        arch,
        firmware,
        http: matches!(code, 15 | 16 | 19),
    }
}

/// Some firmware says 9 for what the registry calls 7.
const FAMILIES: [Family; 8] = [
    family("bios", 0, Arch::X86_64, FirmwareKind::Bios),
    family("ia32", 6, Arch::Ia32, FirmwareKind::Uefi),
    family("uefi", 7, Arch::X86_64, FirmwareKind::Uefi),
    family("uefi-9", 9, Arch::X86_64, FirmwareKind::Uefi),
    family("arm64", 11, Arch::Arm64, FirmwareKind::Uefi),
    family("ia32-http", 15, Arch::Ia32, FirmwareKind::Uefi),
    family("http", 16, Arch::X86_64, FirmwareKind::Uefi),
    family("arm64-http", 19, Arch::Arm64, FirmwareKind::Uefi),
];

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use farrier_api::admin::Verdict;
    use farrier_engine::catalogue::{Catalogue, Loader, LoaderKind};
    use farrier_engine::model::{Arch, FirmwareKind};
    use farrier_engine::policy::IpxeVariant;

    use super::{OtherServer, lines, loaders, relays, slow_local_boots};
    use crate::relays::Traffic;

    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const BASE: &str = "http://192.0.2.1:8067/";

    fn catalogue() -> Catalogue {
        let grub = Loader {
            id: "grub-net-x64".into(),
            file_name: "grubx64.efi".into(),
            arch: Arch::X86_64,
            firmware: FirmwareKind::Uefi,
            kind: LoaderKind::Grub,
            version: "2".into(),
            signer: None,
            sha256: String::new(),
            size: 1,
            source_package: "grub".into(),
        };
        let ipxe = Loader {
            id: "snponly".into(),
            file_name: "snponly.efi".into(),
            arch: Arch::X86_64,
            firmware: FirmwareKind::Uefi,
            kind: LoaderKind::Ipxe {
                variant: IpxeVariant::SnpOnly,
            },
            version: "1".into(),
            signer: None,
            sha256: String::new(),
            size: 1,
            source_package: "ipxe".into(),
        };
        Catalogue::new([grub, ipxe])
    }

    #[test]
    fn a_relay_that_loses_our_answers_is_named_with_the_ports_to_open() {
        let (good, dead) = (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1));
        let found = relays(&[
            (
                good,
                Traffic {
                    offers: 9,
                    requests: 8,
                },
            ),
            (
                dead,
                Traffic {
                    offers: 9,
                    requests: 0,
                },
            ),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "relay 10.2.0.1");
        assert!(
            found[0]
                .remedy
                .as_ref()
                .unwrap()
                .contains("port 67 of 10.2.0.1")
        );
    }

    #[test]
    fn an_architecture_without_a_loader_is_named() {
        let seen = [
            (Arch::X86_64, FirmwareKind::Uefi),
            (Arch::Arm64, FirmwareKind::Uefi),
        ]
        .into();
        let found = loaders(&seen, &catalogue());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].name.contains("arm64"), "{found:?}");
    }

    #[test]
    fn t11_an_ipxe_that_starts_no_disk_is_told_where_nothing_else_does() {
        let whole = catalogue();
        assert!(slow_local_boots(&whole).is_empty(), "GRUB does it");
        let ipxe = whole.by_id("snponly").unwrap().clone();
        let found = slow_local_boots(&Catalogue::new([ipxe]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].name, "local disk of x86_64, UEFI");
        assert_eq!(found[0].verdict, Verdict::Warning);
        let remedy = found[0].remedy.as_ref().unwrap();
        assert!(remedy.contains("grub-efi-amd64-signed"), "{remedy}");
    }

    #[test]
    fn lines_name_our_address_and_only_loaders_that_are_there() {
        for server in OtherServer::ALL {
            let text = lines(server, OURS, BASE, &catalogue()).join("\n");
            assert!(text.contains("192.0.2.1"), "{text}");
            assert!(text.contains("boot/snponly/snponly.efi"), "{text}");
            assert!(!text.contains("farrier-bios"), "{text}");
            assert_eq!(OtherServer::named(server.name()), Some(server));
        }
    }

    #[test]
    fn dnsmasq_lines_are_those_its_manual_has() {
        let text = lines(OtherServer::Dnsmasq, OURS, BASE, &catalogue());
        assert_eq!(
            text[1..5],
            [
                "dhcp-match=set:farrier-ipxe,175",
                "dhcp-boot=tag:farrier-ipxe,http://192.0.2.1:8067/boot/first.ipxe,,192.0.2.1",
                "dhcp-match=set:farrier-uefi,option:client-arch,7",
                "dhcp-boot=tag:!farrier-ipxe,tag:farrier-uefi,boot/snponly/snponly.efi,,192.0.2.1"
            ]
        );
    }

    #[test]
    fn http_boot_gets_its_class_and_a_whole_url_where_it_is_by_pxe_too() {
        let url = "http://192.0.2.1:8067/boot/snponly/snponly.efi";
        let rows = [
            (
                OtherServer::Dnsmasq,
                vec![
                    "dhcp-match=set:farrier-http,option:client-arch,16".to_owned(),
                    "dhcp-option-force=tag:!farrier-ipxe,tag:farrier-http,60,HTTPClient".to_owned(),
                    format!("dhcp-boot=tag:!farrier-ipxe,tag:farrier-http,{url},,192.0.2.1"),
                ],
            ),
            (
                OtherServer::Kea,
                vec![format!(
                    "{{ \"name\": \"farrier-http\", \"test\": \"not option[175].exists and option[93].hex == 0x0010\", \
                     \"next-server\": \"192.0.2.1\", \"boot-file-name\": \"{url}\", \"option-data\": [ {{ \"name\": \
                     \"vendor-class-identifier\", \"data\": \"HTTPClient\" }} ] }}"
                )],
            ),
            (
                OtherServer::Isc,
                vec![format!(
                    "elsif option farrier-arch = 00:10 {{ option vendor-class-identifier \"HTTPClient\"; next-server \
                     192.0.2.1; filename \"{url}\"; }}"
                )],
            ),
            (
                OtherServer::Windows,
                vec!["# UEFI HTTP Boot is left out: let such machines boot by PXE".to_owned()],
            ),
        ];
        for (server, expected) in rows {
            let text = lines(server, OURS, BASE, &catalogue());
            let last = text.len() - 1;
            assert_eq!(text[last - expected.len()..last], expected, "{text:#?}");
            assert!(!text.iter().any(|line| line.contains("arm64")), "{text:#?}");
        }
    }

    #[test]
    fn grub_goes_to_http_boot_on_a_ram_disk_and_its_shim_with_it() {
        let of = |id: &str, file_name: &str, arch, kind| Loader {
            id: id.into(),
            file_name: file_name.into(),
            arch,
            firmware: FirmwareKind::Uefi,
            kind,
            version: "1".into(),
            signer: Some("somebody".into()),
            sha256: String::new(),
            size: 1,
            source_package: id.into(),
        };
        let signed = Catalogue::new([
            of("shim", "shimx64.efi", Arch::X86_64, LoaderKind::Shim),
            of("grub", "grubx64.efi", Arch::X86_64, LoaderKind::Grub),
            of("grub32", "grubia32.efi", Arch::Ia32, LoaderKind::Grub),
        ]);
        let text = lines(OtherServer::Isc, OURS, BASE, &signed).join("\n");
        for name in [
            "\"boot/shim/shimx64.efi\"",
            "\"http://192.0.2.1:8067/boot/shim/shimx64.img\"",
            "\"boot/grub32/grubia32.efi\"",
            "\"http://192.0.2.1:8067/boot/grub32/grubia32.img\"",
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }

    /// Option 93 has 15 for 32-bit UEFI over HTTP.
    #[test]
    fn http_boot_of_ia32_has_lines_where_that_of_x64_has() {
        let grub = Loader {
            id: "grub-net-ia32".into(),
            file_name: "grubia32.efi".into(),
            arch: Arch::Ia32,
            ..catalogue().by_id("grub-net-x64").unwrap().clone()
        };
        let catalogue = Catalogue::new(catalogue().iter().cloned().chain([grub]));
        let rows = [
            (
                OtherServer::Dnsmasq,
                "set:farrier-ia32-http,option:client-arch,15",
                true,
            ),
            (OtherServer::Kea, "option[93].hex == 0x000f", true),
            (OtherServer::Isc, "option farrier-arch = 00:0f", true),
            (OtherServer::Windows, "Arch:00015", false),
        ];
        for (server, code, told) in rows {
            let text = lines(server, OURS, BASE, &catalogue).join("\n");
            assert_eq!(text.contains(code), told, "{text}");
            let url = "http://192.0.2.1:8067/boot/grub-net-ia32/grubia32.img";
            assert_eq!(text.contains(url), told, "{text}");
            assert!(text.contains("boot/grub-net-ia32/grubia32.efi"), "{text}");
        }
    }
}
