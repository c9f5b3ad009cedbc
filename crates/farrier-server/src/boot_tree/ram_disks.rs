//! RAM disks for UEFI HTTP Boot, made when first asked for.

use std::net::IpAddr;
use std::sync::PoisonError;

use bytes::Bytes;
use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::script;

use super::{Asker, BootTree, Missing, SCRIPT, Served, tftp};
use crate::media::ram_disk;

/// Hashes of both programs, and our address.
pub(super) type Key = (String, String, IpAddr);

impl BootTree {
    pub(super) fn ram_disk(&self, id: &str, stem: &str, asker: Asker) -> Result<Served, Missing> {
        let catalogue = self.core.loaders.catalogue();
        let shim = catalogue
            .by_id(id)
            .filter(|shim| shim.kind == LoaderKind::Shim)
            .filter(|shim| shim.file_name.strip_suffix(".efi") == Some(stem))
            .ok_or(Missing::NoSuchName)?;
        let grub = catalogue.second_stage(shim).ok_or(Missing::NoSuchName)?;
        let key = (shim.sha256.clone(), grub.sha256.clone(), asker.server);
        let mut made = self
            .ram_disks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let content = match made.get(&key) {
            Some(content) => content.clone(),
            None => {
                let content = self.make(shim, grub, asker)?;
                if made.len() >= MAX_KEPT {
                    made.clear();
                }
                made.insert(key, content.clone());
                content
            }
        };
        self.shim_sent(asker, &shim.id);
        self.shim_asked_on(asker);
        Ok(Served {
            content,
            name: format!("a RAM disk with {} and {}", shim.file_name, grub.file_name),
            sha256: None,
            loader: true,
            unsigned: false,
            content_type: "application/vnd.efi-img",
        })
    }

    fn make(&self, shim: &Loader, grub: &Loader, asker: Asker) -> Result<Bytes, Missing> {
        let unreadable = |e: std::io::Error| Missing::Unreadable(e.to_string());
        let read = |loader| self.core.loaders.bytes(loader).map_err(unreadable);
        let first = ram_disk::default_name(shim.arch).ok_or(Missing::NoSuchName)?;
        let path = format!("{SCRIPT}/grub");
        let script = script::grub_first(&tftp(asker.server, &path), &self.urls(asker).url(&path))
            .map_err(|e| Missing::Unreadable(e.to_string()))?;
        let disk = ram_disk::build(
            (first, &read(shim)?),
            (&grub.file_name, &read(grub)?),
            &script,
        );
        disk.map(Bytes::from).map_err(unreadable)
    }
}

/// One for each architecture and each of our addresses, with room for a change of loaders.
const MAX_KEPT: usize = 8;
