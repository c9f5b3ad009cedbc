//! Names that are not files: each loader's search for its own script ends in one rendered for its machine.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use farrier_engine::Reason;
use farrier_engine::catalogue::LoaderKind;
use farrier_engine::facts::{BootFacts, BootName, MachineUuid, ScriptName, Whose};
use farrier_engine::model::{Arch, FirmwareKind, Machine};
use farrier_engine::policy::BootTls;
use farrier_engine::script::{self, Language, Url};
use farrier_proto::MacAddr;
use uuid::Uuid;

use super::{Asker, BootTree, Channel, FIRST_SCRIPT, Missing, SCRIPT, Served, ShimSent, Urls};
use crate::core::now;
use crate::script::{Choice, Reader, render_for};

impl BootTree {
    /// What a name that asks for a script gets; nothing if it asks for a file.
    pub(super) async fn script(&self, name: &str, asker: Asker) -> Option<Result<Served, Missing>> {
        let name = BootName::of(name);
        if !matches!(name, BootName::Expected | BootName::Other)
            && let Some(mac) = self.mac_of(asker.ip)
        {
            self.core.sightings.loader_runs(mac);
        }
        match name {
            BootName::IpxeFirst => Some(Ok(text(
                "the first script",
                script::first(&self.first_urls(asker).url(SCRIPT)),
            ))),
            BootName::GrubFirst => {
                let to_the_disk = self.to_the_disk(asker);
                Some(to_the_disk.unwrap_or_else(|| self.grub_first(asker)))
            }
            BootName::Script(name) => Some(self.own_script(name, asker).await),
            BootName::Program { address, arch } => Some(self.program_of(address, arch, asker)),
            BootName::Expected => Some(Err(Missing::Expected)),
            BootName::Other => None,
        }
    }

    /// The boot program of a machine that knows no name but its address. Nothing tells what it is but its name's
    /// ending, what it said by DHCP, and what is known of the machine.
    fn program_of(
        &self,
        address: Ipv4Addr,
        arch: Option<Arch>,
        asker: Asker,
    ) -> Result<Served, Missing> {
        if asker.ip != IpAddr::V4(address) {
            return Err(Missing::Expected);
        }
        let mac = self.mac_of(asker.ip).ok_or(Missing::Expected)?;
        let machines = self.core.fleet.candidates(&[mac], None);
        let machine = machines.first().filter(|_| machines.len() == 1);
        let (said_arch, said_firmware) = self.core.sightings.kind(mac).unwrap_or_default();
        let known = |machine: &Arc<Machine>| (machine.arch, machine.firmware);
        let (known_arch, known_firmware) = machine.map(known).unwrap_or_default();
        let found = arch.or(said_arch).or(known_arch).and_then(|arch| {
            // Who asks so without saying more is OpenBoot.
            let firmware = said_firmware.or(known_firmware);
            let firmware = firmware.unwrap_or(FirmwareKind::OpenFirmware);
            let catalogue = self.core.loaders.catalogue();
            let loader = catalogue.of_kind(LoaderKind::Grub, arch, firmware);
            loader.map(|loader| self.loader(loader))
        });
        found.unwrap_or(Err(Missing::Refused(Reason::NoLoader)))
    }

    fn grub_first(&self, asker: Asker) -> Result<Served, Missing> {
        let path = format!("{SCRIPT}/grub");
        let over_http = self.urls(asker).url(&path);
        let over_tftp = tftp(asker.server, &path);
        script::grub_first(&over_tftp, &over_http)
            .map(|script| text("GRUB's first script", script))
            .map_err(|error| Missing::Unreadable(error.to_string()))
    }

    async fn own_script(&self, name: ScriptName, asker: Asker) -> Result<Served, Missing> {
        let mac = self.whose(name.whose, asker).ok_or(Missing::Expected)?;
        let seen = self.core.sightings.kind(mac);
        let (language, arch, firmware) = kind(&name, seen)?;
        let uuid = match name.whose {
            Whose::Uuid(uuid) => Some(self.in_known_order(uuid)),
            _ => None,
        };
        let facts = BootFacts::from_loader(mac, language, arch, firmware, uuid);
        let http = name.http || asker.by != Channel::Tftp;
        let reader = Reader {
            language,
            http,
            script: self.script_url(&name, mac, http, asker),
        };
        let script = render_for(
            &self.core,
            asker,
            &facts,
            name.choice.map(Choice::of),
            &reader,
        )
        .await;
        let shown = match language {
            Language::Grub => "its GRUB script",
            Language::Ipxe => "its iPXE script",
            Language::Pxelinux => "its PXELINUX configuration",
            Language::S390 => "its s390x configuration",
            Language::UBoot => "its U-Boot menu",
        };
        Ok(text(shown, script))
    }

    /// The hardware address of the machine that is meant. Names by address and by UUID do not tell it, so the
    /// neighbour table and the leases must; without it the loader goes on to a name that does.
    fn whose(&self, whose: Whose, asker: Asker) -> Option<MacAddr> {
        match whose {
            Whose::Mac(mac) => Some(mac),
            Whose::Asker => self.mac_of(asker.ip),
            Whose::Address(ip) if asker.ip == ip => self.mac_of(asker.ip),
            Whose::Address(_) => None,
            Whose::Uuid(_) => self.mac_of(asker.ip),
        }
    }

    /// PXELINUX writes the UUID as it is on the wire, others as text (`firmware.md` T7): the order in which a
    /// known machine has it counts, else PXELINUX's.
    fn in_known_order(&self, written: Uuid) -> MachineUuid {
        let text = MachineUuid::from_canonical(written);
        let known = self.core.fleet.candidates(&[], Some(text.canonical));
        if known.is_empty() {
            MachineUuid::from_wire(written.into_bytes())
        } else {
            text
        }
    }

    fn script_url(&self, name: &ScriptName, mac: MacAddr, http: bool, asker: Asker) -> Url {
        let path = match (name.language, name.http) {
            (Language::Grub, _) => {
                format!("{SCRIPT}/grub/{}/{mac}", platform(name.arch, name.firmware))
            }
            (Language::Pxelinux, true) => format!("{SCRIPT}/lpxelinux/{mac}"),
            (Language::Pxelinux, false) => format!("{SCRIPT}/pxelinux/{mac}"),
            (Language::Ipxe | Language::S390 | Language::UBoot, _) => FIRST_SCRIPT.to_owned(),
        };
        if http {
            self.urls(asker).url(&path)
        } else {
            tftp(asker.server, &path)
        }
    }

    /// For loaders that speak no TLS.
    pub(super) fn urls(&self, asker: Asker) -> Urls<'_> {
        Urls::plain(&self.core.config, asker.server)
    }

    /// iPXE that came by TFTP has not said whether it speaks HTTPS; the policy does.
    pub(super) fn first_urls(&self, asker: Asker) -> Urls<'_> {
        let https = match asker.by {
            Channel::Http => false,
            Channel::Https => true,
            Channel::Tftp => self.policy_of(asker.ip).boot_tls == BootTls::Always,
        };
        Urls::by(&self.core.config, asker.server, https)
    }

    /// iPXE goes on as it came.
    pub(super) fn ipxe_urls(&self, asker: Asker) -> Urls<'_> {
        Urls::by(&self.core.config, asker.server, asker.by == Channel::Https)
    }
}

/// What the loader runs on, and which language it reads. PXELINUX itself is for PCs with a BIOS; who else reads its
/// configurations said so by DHCP, and must not get a PC's kernel (`firmware.md` T6).
fn kind(
    name: &ScriptName,
    seen: Option<(Option<Arch>, Option<FirmwareKind>)>,
) -> Result<(Language, Option<Arch>, Option<FirmwareKind>), Missing> {
    let (seen_arch, seen_firmware) = seen.unwrap_or_default();
    let (arch, firmware) = (name.arch.or(seen_arch), name.firmware.or(seen_firmware));
    if name.language != Language::Pxelinux {
        return Ok((name.language, arch, firmware));
    }
    match (firmware, arch) {
        (None | Some(FirmwareKind::Bios), _) => Ok((
            Language::Pxelinux,
            Some(Arch::X86_64),
            Some(FirmwareKind::Bios),
        )),
        (Some(FirmwareKind::S390), _) => Ok((Language::S390, arch, firmware)),
        // SLOF asks for a configuration when it was told no program, and has no words for anything but a kernel.
        (Some(FirmwareKind::OpenFirmware), _) => Err(Missing::Refused(Reason::NoLoader)),
        // Some PXELINUX for UEFI, which is none of ours.
        (Some(FirmwareKind::Uefi), Some(Arch::X86_64 | Arch::Ia32)) => {
            Err(Missing::Refused(Reason::NoAgent))
        }
        // Where it boots by UEFI, U-Boot calls itself that.
        (Some(FirmwareKind::UBoot | FirmwareKind::Uefi), _) => {
            Ok((Language::UBoot, arch, firmware))
        }
    }
}

fn platform(arch: Option<Arch>, firmware: Option<FirmwareKind>) -> String {
    let platform = match firmware {
        Some(FirmwareKind::Bios) => return "i386-pc".to_owned(),
        Some(FirmwareKind::OpenFirmware) => "ieee1275",
        _ => "efi",
    };
    let cpu = match arch {
        Some(Arch::Arm32) => "arm",
        Some(Arch::Arm64) => "arm64",
        Some(Arch::Ia32) => "i386",
        Some(Arch::LoongArch64) => "loongarch64",
        Some(Arch::Ppc64) => "powerpc",
        Some(Arch::RiscV64) => "riscv64",
        Some(Arch::Sparc64) => "sparc64",
        Some(Arch::S390x | Arch::X86_64) | None => "x86_64",
    };
    format!("{cpu}-{platform}")
}

/// Loaders know no TFTP port but 69.
pub(crate) fn tftp(server: IpAddr, path: &str) -> Url {
    let host = match server {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Url::new(&format!("tftp://{host}/{path}")).expect("an address and a path of ours make a URL")
}

pub(super) fn text(name: &str, content: String) -> Served {
    Served {
        content: Bytes::from(content),
        name: name.to_owned(),
        sha256: None,
        loader: false,
        unsigned: false,
        warning: None,
        content_type: "text/plain",
    }
}

/// The second stage of a shim whose name came out garbled.
impl BootTree {
    /// A shim went out to this address: what it asks for next under a name that makes no sense is its second
    /// stage (shim#649, #696, #300).
    pub(super) fn shim_sent(&self, asker: Asker, loader: &str) {
        let mut shims = self.shims();
        if shims.len() >= MAX_SHIMS {
            shims.retain(|_, sent| now().since(sent.at) < SHIM_STAGE);
        }
        if shims.len() < MAX_SHIMS {
            let sent = ShimSent {
                id: loader.to_owned(),
                at: now(),
                asked_on: false,
            };
            shims.insert(asker.ip, sent);
        }
    }

    /// The second stage is asked for, or something else that only a later stage asks for.
    pub(super) fn shim_asked_on(&self, asker: Asker) {
        if let Some(sent) = self.shims().get_mut(&asker.ip) {
            sent.asked_on = true;
        }
    }

    /// Which shim starts what just went out whole; asked once for each.
    pub(super) fn shim_before(&self, asker: Asker) -> Option<String> {
        let sent = self.shims().remove(&asker.ip)?;
        (now().since(sent.at) < SHIM_STAGE).then_some(sent.id)
    }

    /// The second stage for who asks under a name that is nobody's, if a shim was just sent there.
    pub fn rescue(&self, asker: Asker) -> Option<Served> {
        let shim = self.shims().get(&asker.ip).cloned()?;
        if shim.asked_on || now().since(shim.at) >= SHIM_STAGE {
            return None;
        }
        let catalogue = self.core.loaders.catalogue();
        let second = catalogue.second_stage(catalogue.by_id(&shim.id)?)?;
        let mut served = self.loader(second).ok()?;
        served.name = format!("{}, asked for under a garbled name", served.name);
        Some(served)
    }
}

/// Shims under way at once, in a boot storm.
const MAX_SHIMS: usize = 4096;
/// From the end of shim's own transfer to its next request.
const SHIM_STAGE: std::time::Duration = std::time::Duration::from_secs(60);
