//! Images of people's own: the bytes, with a machine's own values on floppies, and the script that starts them.

use bytes::Bytes;
use farrier_engine::catalogue::LoaderKind;
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::script;

use super::{Asker, BootTree, Missing, Served, loader_path};
use crate::media::floppy::{Floppy, SIZE};
use crate::media::shelf::ShelfError;

impl BootTree {
    /// `boot/media/<image>` and `boot/media/<image>.ipxe`.
    pub(super) fn medium(&self, name: &str, asker: Asker) -> Result<Served, Missing> {
        if let Some(image) = name.strip_suffix(".ipxe") {
            return self.medium_script(image, asker);
        }
        let content = self.image(name)?;
        let content = if content.len() == SIZE {
            self.own_floppy(&content, asker)?
        } else {
            content
        };
        Ok(Served {
            content,
            name: format!("the image {name}"),
            loader: false,
            unsigned: false,
            content_type: content_type(name),
        })
    }

    fn medium_script(&self, image: &str, asker: Asker) -> Result<Served, Missing> {
        self.image(image)?;
        let url = self
            .urls(asker)
            .url("boot/media")
            .with_segment(image)
            .map_err(|e| Missing::Unreadable(e.to_string()))?;
        let catalogue = self.core.loaders.catalogue();
        let memdisk = catalogue
            .of_kind(LoaderKind::Memdisk, Arch::X86_64, FirmwareKind::Bios)
            .map(|loader| self.urls(asker).url(&loader_path(&loader.into())));
        let script = script::medium(&url, memdisk.as_ref(), is_iso(image));
        Ok(Served {
            content: Bytes::from(script),
            name: format!("the script for the image {image}"),
            loader: false,
            unsigned: false,
            content_type: "text/plain",
        })
    }

    fn image(&self, name: &str) -> Result<Bytes, Missing> {
        self.media.image(name).map_err(|error| match error {
            ShelfError::Missing => Missing::NoSuchName,
            other => Missing::Unreadable(other.to_string()),
        })
    }

    /// The server's copy stays as it is.
    fn own_floppy(&self, content: &Bytes, asker: Asker) -> Result<Bytes, Missing> {
        let mut values = vec![
            ("FARRIER_SERVER", asker.server.to_string()),
            ("FARRIER_ADDRESS", asker.ip.to_string()),
        ];
        if let Some(mac) = self.mac_of(asker.ip) {
            values.push(("FARRIER_MAC", mac.to_string()));
            let machines = self.core.fleet.candidates(&[mac], None);
            let machine = machines.first().filter(|_| machines.len() == 1);
            if let Some(name) = machine.and_then(|machine| machine.name.as_ref()) {
                values.push(("FARRIER_NAME", name.to_string()));
            }
        }
        let floppy = Floppy::from_bytes(content.to_vec());
        match floppy.for_machine(&values) {
            Ok(own) => Ok(own.into_bytes().into()),
            // A floppy without a FAT volume is none of ours to change.
            Err(_) => Ok(content.clone()),
        }
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
