//! RAM disks for UEFI HTTP Boot, made when first asked for.

use std::net::IpAddr;
use std::sync::PoisonError;

use bytes::Bytes;
use farrier_engine::catalogue::{Catalogue, Loader, LoaderFile, LoaderKind};
use farrier_engine::script;
use farrier_net::zero_copy;

use super::{Asker, BootTree, Missing, SCRIPT, Served, tftp};
use crate::media::ram_disk;

/// Hashes of the programs, and our address.
pub(super) type Key = (String, Option<String>, IpAddr);

/// The program that firmware starts from the RAM disk of this name, if it is the name of one.
pub(super) fn first_on<'a>(catalogue: &'a Catalogue, id: &str, file: &str) -> Option<&'a Loader> {
    let first = catalogue.by_id(id)?;
    let is_made = first.file_name != file && LoaderFile::over_http(first).file_name == file;
    is_made.then_some(first)
}

impl BootTree {
    pub(super) fn ram_disk(
        &self,
        catalogue: &Catalogue,
        first: &Loader,
        asker: Asker,
    ) -> Result<Served, Missing> {
        let second = match first.kind {
            LoaderKind::Shim => Some(catalogue.second_stage(first).ok_or(Missing::NoSuchName)?),
            _ => None,
        };
        let hash = |loader: &Loader| loader.sha256.clone();
        let key = (hash(first), second.map(hash), asker.server);
        let mut made = self
            .ram_disks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let content = match made.get(&key) {
            Some(content) => content.clone(),
            None => {
                let content = self.make(first, second, asker)?;
                if made.len() >= MAX_KEPT {
                    made.clear();
                }
                made.insert(key, content.clone());
                content
            }
        };
        if second.is_some() {
            self.shim_sent(asker, &first.id);
            self.shim_asked_on(asker);
        }
        self.begins_anew(asker);
        let and = second.map_or_else(String::new, |second| format!(" and {}", second.file_name));
        Ok(Served {
            content,
            name: format!("a RAM disk with {}{and}", first.file_name),
            sha256: None,
            loader: true,
            unsigned: first.signer.is_none(),
            warning: None,
            content_type: "application/vnd.efi-img",
        })
    }

    fn make(
        &self,
        first: &Loader,
        second: Option<&Loader>,
        asker: Asker,
    ) -> Result<Bytes, Missing> {
        let unreadable = |e: std::io::Error| Missing::Unreadable(e.to_string());
        let read = |loader| self.core.loaders.bytes(loader).map_err(unreadable);
        let name = ram_disk::default_name(first.arch).ok_or(Missing::NoSuchName)?;
        let path = format!("{SCRIPT}/grub");
        let script = script::grub_first(&tftp(asker.server, &path), &self.urls(asker).url(&path))
            .map_err(|e| Missing::Unreadable(e.to_string()))?;
        let mut programs = vec![(name, read(first)?)];
        if let Some(second) = second {
            programs.push((second.file_name.as_str(), read(second)?));
        }
        let disk = ram_disk::build(&programs, &script);
        let folder = self.core.loaders.folder();
        disk.map(|disk| zero_copy::hold(disk, folder))
            .map_err(unreadable)
    }
}

/// One for each architecture and each of our addresses, with room for a change of loaders.
const MAX_KEPT: usize = 8;
