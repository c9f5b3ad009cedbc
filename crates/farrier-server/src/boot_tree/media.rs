//! Images of people's own: the bytes, with a machine's own values on floppies, and the script that starts them.

use std::collections::BTreeSet;
use std::fs::File;

use axum::http::StatusCode;
use bytes::Bytes;
use farrier_engine::catalogue::LoaderKind;
use farrier_engine::facts::without_board_folder;
use farrier_engine::medium_value::ValueName;
use farrier_engine::model::{Arch, FirmwareKind, Machine};
use farrier_engine::policy::{BootIntent, MenuEntry};
use farrier_engine::script;
use farrier_engine::timeline::{Entry, Kind};

use super::{Asker, BootTree, Missing, Served, loader_path};
use crate::core::now;
use crate::media::floppy::{Floppy, SIZES};
use crate::media::shelf::ShelfError;
use crate::media::values::Whose;

/// An image that is read from the disk for each request.
#[derive(Debug)]
pub struct Large {
    pub file: File,
    pub len: u64,
    pub content_type: &'static str,
}

impl BootTree {
    /// Whether to look this cleaned name up may take as long as an image takes to be read.
    #[must_use]
    pub fn reads_the_disk(&self, name: &str) -> bool {
        without_board_folder(name)
            .unwrap_or(name)
            .starts_with("boot/media/")
    }

    /// What a cleaned name means, if it is an image too large to be held in memory.
    #[must_use]
    pub fn large_medium(&self, name: &str) -> Option<Large> {
        let image = name.strip_prefix("boot/media/")?;
        let (file, len) = self.core.media.large(image)?;
        Some(Large {
            file,
            len,
            content_type: content_type(image),
        })
    }

    /// A large image goes out. Ranges of it, as iPXE reads them, would be noise on the timeline.
    pub fn medium_fetched(&self, asker: Asker, name: &str, status: StatusCode) {
        if status == StatusCode::OK {
            let image = name.rsplit('/').next().unwrap_or_default();
            self.record(asker, |machine| {
                let text = format!("It fetches the image {image} by HTTP.");
                Entry::new(machine, now(), Kind::Transfer, text)
            });
        }
    }

    /// `boot/media/<image>` and `boot/media/<image>.ipxe`.
    pub(super) async fn medium(&self, name: &str, asker: Asker) -> Result<Served, Missing> {
        if let Some(image) = name.strip_suffix(".ipxe") {
            return self.medium_script(image, asker);
        }
        let content = self.core.media.image(name, now()).await.map_err(missing)?;
        let served = Served {
            content,
            name: format!("the image {name}"),
            sha256: None,
            loader: false,
            unsigned: false,
            warning: None,
            content_type: content_type(name),
        };
        if SIZES.contains(&served.content.len()) {
            return self.own_floppy(name, served, asker).await;
        }
        Ok(served)
    }

    /// Firmware fetches an image whole that its machine was wished to start: no script of ours counts that boot.
    pub async fn count_wish(&self, asker: Asker, name: &str, status: StatusCode) {
        let Some(image) = name.strip_prefix("boot/media/") else {
            return;
        };
        let mac = self.mac_of(asker.ip).filter(|_| status == StatusCode::OK);
        let Some((mac, began)) = mac.and_then(|mac| Some((mac, self.core.sightings.began(mac)?)))
        else {
            return;
        };
        let machines = self.core.fleet.candidates(&[mac], None);
        let [machine] = machines.as_slice() else {
            return;
        };
        let is_meant = |intent: &BootIntent| {
            matches!(intent.entry, MenuEntry::Medium(name) if name.as_str() == image)
                && intent.counted.is_none_or(|counted| counted < began)
        };
        if !machine.intent.as_ref().is_some_and(is_meant) {
            return;
        }
        let used = |machine: &mut Machine| {
            let intent = machine.intent.as_ref();
            machine.intent = intent.map(|intent| intent.used(now()));
        };
        if let Err(error) = self.core.fleet.change_machine(machine.id, used).await {
            tracing::warn!(%error, "a boot from an image that was wished for could not be counted");
        }
    }

    fn medium_script(&self, image: &str, asker: Asker) -> Result<Served, Missing> {
        let medium = self.core.media.medium(image).map_err(missing)?;
        let url = self
            .ipxe_urls(asker)
            .url("boot/media")
            .with_segment(image)
            .map_err(|e| Missing::Unreadable(e.to_string()))?;
        let catalogue = self.core.loaders.catalogue();
        let memdisk = catalogue
            .of_kind(LoaderKind::Memdisk, Arch::X86_64, FirmwareKind::Bios)
            .map(|loader| self.ipxe_urls(asker).url(&loader_path(&loader.into())));
        let script = script::medium_by_name(&url, medium.kind, memdisk.as_ref());
        Ok(Served {
            content: Bytes::from(script),
            name: format!("the script for the image {image}"),
            sha256: None,
            loader: false,
            unsigned: false,
            warning: None,
            content_type: "text/plain",
        })
    }

    /// The server's copy stays as it is. What is asked for and not known is told, and what cannot be read.
    async fn own_floppy(
        &self,
        image: &str,
        served: Served,
        asker: Asker,
    ) -> Result<Served, Missing> {
        let mac = self.mac_of(asker.ip);
        let machines = mac.map_or_else(Vec::new, |mac| self.core.fleet.candidates(&[mac], None));
        let machine = machines.first().filter(|_| machines.len() == 1);
        let values = self.core.media_values(&Whose {
            mac,
            machine: machine.map(AsRef::as_ref),
            address: Some(asker.ip),
            server: Some(asker.server),
            networks: &self.networks,
        });
        let content = served.content.clone();
        // Every sector is looked at, and the event loop has others to serve.
        let made = tokio::task::spawn_blocking(move || {
            Floppy::from_bytes(content.to_vec()).for_machine(&values)
        });
        let made = made.await.map_err(|e| Missing::Unreadable(e.to_string()))?;
        let own =
            made.map_err(|why| Missing::Unfit(format!("The image {image} is not sent: {why}.")))?;
        let warning = own.fault.map(|fault| {
            format!("The image {image} is damaged, so values may be missing in it: {fault}.")
        });
        Ok(Served {
            content: own.floppy.into_bytes().into(),
            name: format!("{}{}", served.name, without(&own.unknown)),
            warning,
            ..served
        })
    }
}

/// For the timeline: ` (FARRIER_ROUTER, FARRIER_DNS not known)`.
fn without(unknown: &BTreeSet<ValueName>) -> String {
    if unknown.is_empty() {
        return String::new();
    }
    let names: Vec<_> = unknown.iter().map(ValueName::variable).collect();
    format!(" ({} not known)", names.join(", "))
}

fn missing(error: ShelfError) -> Missing {
    match error {
        ShelfError::Missing => Missing::NoSuchName,
        ShelfError::Read(error) => Missing::Unreadable(error.to_string()),
        other => Missing::Unreadable(other.to_string()),
    }
}

fn is_iso(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".iso")
}

/// By which edk2 tells RAM disks from programs, beside the name's end (UEFI 2.10, section 24.7.3.2.2).
fn content_type(name: &str) -> &'static str {
    if is_iso(name) {
        "application/vnd.efi-iso"
    } else {
        "application/vnd.efi-img"
    }
}
