//! What the doctor sees of the boot plane: relays that lose our answers, machines without a loader, and the
//! lines that other people's DHCP servers need.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use farrier_api::admin::{Check, Verdict};
use farrier_engine::catalogue::Catalogue;
use farrier_engine::model::{Arch, FirmwareKind};

use farrier_net::interface;

use super::{Code, Desk, Refusal};
use crate::auth::Action;
use crate::boot_tree::loader_path;
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
        let seen = self.core.fleet.architectures();
        checks.extend(loaders(&seen, &self.core.loaders.catalogue()));
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
        Ok(lines(other, ours, &self.core.loaders.catalogue()).join("\n") + "\n")
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
    let has = |arch, firmware| {
        catalogue
            .iter()
            .any(|l| l.arch == arch && l.firmware == firmware)
    };
    let lacking = seen
        .iter()
        .filter(|(arch, firmware)| !has(*arch, *firmware));
    lacking
        .map(|(arch, firmware)| Check {
            name: format!("loader for {arch}, {firmware}"),
            verdict: Verdict::Bad,
            found: "there are such machines, and no loader for them".to_owned(),
            remedy: Some(format!(
                "Import one built for {arch}: farrier loader import FILE"
            )),
        })
        .collect()
}

/// What to write into a DHCP server that shall name our boot files itself, for firmware that ignores a second
/// offer. `ours` is our address on that network.
#[must_use]
pub fn lines(server: OtherServer, ours: Ipv4Addr, catalogue: &Catalogue) -> Vec<String> {
    let file = |arch, firmware| {
        let loader = catalogue
            .iter()
            .find(|l| l.arch == arch && l.firmware == firmware);
        loader.map(|loader| loader_path(&loader.into()))
    };
    let families: Vec<(&str, u16, String)> = FAMILIES
        .iter()
        .filter_map(|(name, code, arch, firmware)| Some((*name, *code, file(*arch, *firmware)?)))
        .collect();
    let mut lines = match server {
        OtherServer::Dnsmasq => {
            vec!["# dnsmasq.conf; take every other dhcp-boot and pxe-service line out".to_owned()]
        }
        OtherServer::Kea => {
            vec!["// in \"Dhcp4\": { \"client-classes\": [ ... ] } of kea-dhcp4.conf".to_owned()]
        }
        OtherServer::Isc => vec![
            "# dhcpd.conf, outside of every subnet".to_owned(),
            "option arch code 93 = unsigned integer 16;".to_owned(),
        ],
        OtherServer::Windows => {
            vec!["# PowerShell on the DHCP server, as administrator".to_owned()]
        }
    };
    for (name, code, file) in &families {
        lines.extend(match server {
            OtherServer::Dnsmasq => vec![
                format!("dhcp-match=set:farrier-{name},option:client-arch,{code}"),
                format!("dhcp-boot=tag:farrier-{name},{file},,{ours}"),
            ],
            OtherServer::Kea => vec![format!(
                "{{ \"name\": \"farrier-{name}\", \"test\": \"option[93].hex == 0x{code:04x}\", \"next-server\": \"{ours}\", \
                 \"boot-file-name\": \"{file}\" }},"
            )],
            OtherServer::Isc => vec![format!(
                "if option arch = {code} {{ next-server {ours}; filename \"{file}\"; }}"
            )],
            OtherServer::Windows => windows(name, *code, ours, file),
        });
    }
    lines.push(match server {
        OtherServer::Windows => "# Delete options 60, 66 and 67 of the scope itself: Remove-DhcpServerv4OptionValue -OptionId 60,66,67".to_owned(),
        OtherServer::Kea => "// no option-data for 43, 60, 66 or 67 anywhere else".to_owned(),
        _ => "# no option 43, 60, 66 or 67 anywhere else".to_owned(),
    });
    lines
}

fn windows(name: &str, code: u16, ours: Ipv4Addr, file: &str) -> Vec<String> {
    vec![
        format!(
            "Add-DhcpServerv4Class -Name farrier-{name} -Type Vendor -Data \"PXEClient:Arch:{code:05}\""
        ),
        format!(
            "Add-DhcpServerv4Policy -Name farrier-{name} -Condition OR -VendorClass EQ,\"farrier-{name}*\""
        ),
        format!(
            "Set-DhcpServerv4OptionValue -PolicyName farrier-{name} -OptionId 66 -Value \"{ours}\""
        ),
        format!(
            "Set-DhcpServerv4OptionValue -PolicyName farrier-{name} -OptionId 67 -Value \"{file}\""
        ),
    ]
}

/// Name, code of option 93, what it is.
const FAMILIES: [(&str, u16, Arch, FirmwareKind); 3] = [
    ("bios", 0, Arch::X86_64, FirmwareKind::Bios),
    ("uefi", 7, Arch::X86_64, FirmwareKind::Uefi),
    ("arm64", 11, Arch::Arm64, FirmwareKind::Uefi),
];

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use farrier_engine::catalogue::{Catalogue, Loader, LoaderKind};
    use farrier_engine::model::{Arch, FirmwareKind};
    use farrier_engine::policy::IpxeVariant;

    use super::{OtherServer, lines, loaders, relays};
    use crate::relays::Traffic;

    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn catalogue() -> Catalogue {
        Catalogue::new([Loader {
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
        }])
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
    fn lines_name_our_address_and_only_loaders_that_are_there() {
        for server in OtherServer::ALL {
            let text = lines(server, OURS, &catalogue()).join("\n");
            assert!(text.contains("192.0.2.1"), "{text}");
            assert!(text.contains("boot/snponly/snponly.efi"), "{text}");
            assert!(!text.contains("farrier-bios"), "{text}");
            assert_eq!(OtherServer::named(server.name()), Some(server));
        }
    }

    #[test]
    fn dnsmasq_lines_are_those_its_manual_has() {
        let text = lines(OtherServer::Dnsmasq, OURS, &catalogue());
        assert_eq!(
            text[1..3],
            [
                "dhcp-match=set:farrier-uefi,option:client-arch,7",
                "dhcp-boot=tag:farrier-uefi,boot/snponly/snponly.efi,,192.0.2.1"
            ]
        );
    }
}
