//! GRUB as what starts the local disk for an iPXE that cannot.

use farrier_engine::catalogue::LoaderKind;
use farrier_engine::script::{Language, LocalDisk, Page};

use super::{Asker, BootTree, Channel, Missing, Served, scripts};
use crate::core::now;

impl BootTree {
    /// GRUB, which will ask for its script. Only by HTTP, where nobody can ask for another: who is taken for a machine
    /// on its way to the disk gets nothing else for a while.
    pub(super) fn disk_starter(
        &self,
        id: &str,
        file: &str,
        asker: Asker,
    ) -> Result<Served, Missing> {
        let catalogue = self.core.loaders.catalogue();
        let grub = catalogue
            .by_id(id)
            .filter(|_| asker.by != Channel::Tftp)
            .filter(|loader| loader.kind == LoaderKind::Grub && loader.file_name == file)
            .ok_or(Missing::NoSuchName)?;
        let served = self.loader(grub)?;
        self.core.disk_starts.fetched(asker.ip, now());
        Ok(Served {
            name: format!("{}, to start the local disk", served.name),
            // The iPXE that starts it is not signed either.
            unsigned: false,
            ..served
        })
    }

    /// A loader is asked for, so another boot has begun. By TFTP anybody can ask in the name of this address: there the
    /// transfer tells, when it is through.
    pub(super) fn begins_anew(&self, asker: Asker) {
        if asker.by != Channel::Tftp {
            self.core.disk_starts.begins_anew(asker.ip, now());
        }
    }

    /// The script of a GRUB that was fetched for that.
    pub(super) fn to_the_disk(&self, asker: Asker) -> Option<Result<Served, Missing>> {
        if !self.core.disk_starts.asks(asker.ip, now()) {
            return None;
        }
        let script = Page::LocalDisk(&LocalDisk::Exit).render(Language::Grub);
        Some(
            script
                .map(|script| scripts::text("GRUB's script that starts the local disk", script))
                .map_err(|error| Missing::Unreadable(error.to_string())),
        )
    }
}
