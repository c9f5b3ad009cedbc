//! Every write the store makes goes through here: objects, which appear whole, and spools, which grow.
//! So there is one list of the moments at which power may fail, and tests stop the world at each.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::StoreError;
use crate::pack::PackId;

pub(super) struct Medium {
    objects: Arc<dyn ObjectStore>,
    spool: PathBuf,
    /// Set when objects are files on the disk of the spools, so that sealing is a rename.
    root: Option<PathBuf>,
    #[cfg(test)]
    pub(super) faults: Option<Arc<super::tests::Faults>>,
}

impl Medium {
    pub(super) fn local(root: &FilePath) -> Result<Self, StoreError> {
        let doing = "opening its folder";
        let objects = LocalFileSystem::new_with_prefix(root).map_err(StoreError::object(doing))?;
        let mut medium = Self::remote(Arc::new(objects.with_fsync(true)), &root.join("spool"));
        medium.root = Some(root.to_owned());
        Ok(medium)
    }

    pub(super) fn remote(objects: Arc<dyn ObjectStore>, spool: &FilePath) -> Self {
        Self {
            objects,
            spool: spool.to_owned(),
            root: None,
            #[cfg(test)]
            faults: None,
        }
    }

    /// Writes an object that must not exist yet. False if it does.
    pub(super) async fn put_new(&self, path: &Path, bytes: Bytes) -> Result<bool, StoreError> {
        let doing = "writing a manifest";
        self.before().map_err(StoreError::io(doing))?;
        let options = PutOptions::from(PutMode::Create);
        let result = self
            .objects
            .put_opts(path, PutPayload::from(bytes), options)
            .await;
        self.after().map_err(StoreError::io(doing))?;
        match result {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(StoreError::object(doing)(e)),
        }
    }

    /// Removes an object; one that is gone already is fine.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), StoreError> {
        let doing = "deleting an object";
        self.before().map_err(StoreError::io(doing))?;
        let result = self.objects.delete(path).await;
        self.after().map_err(StoreError::io(doing))?;
        match result {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(StoreError::object(doing)(e)),
        }
    }

    pub(super) async fn get(&self, path: &Path) -> Result<Bytes, StoreError> {
        let doing = "reading an object";
        let found = self
            .objects
            .get(path)
            .await
            .map_err(StoreError::object(doing))?;
        found.bytes().await.map_err(StoreError::object(doing))
    }

    pub(super) async fn get_range(
        &self,
        path: &Path,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.objects
            .get_range(path, range)
            .await
            .map_err(StoreError::object("reading a pack"))
    }

    pub(super) async fn size(&self, path: &Path) -> Result<u64, StoreError> {
        let meta = self
            .objects
            .head(path)
            .await
            .map_err(StoreError::object("looking at a pack"))?;
        Ok(meta.size)
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let prefix = Path::from(prefix);
        self.objects
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(StoreError::object("listing objects"))
    }

    pub(super) fn spool_path(&self, pack: PackId) -> PathBuf {
        self.spool.join(format!("{pack}.spool"))
    }

    pub(super) fn spools(&self) -> io::Result<Vec<PackId>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.spool) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            other => other?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|n| n.strip_suffix(".spool"));
            found.extend(id.and_then(|n| n.parse::<PackId>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    pub(super) fn create_spool(&self, pack: PackId) -> io::Result<File> {
        self.before()?;
        fs::create_dir_all(&self.spool)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.spool_path(pack))?;
        sync_dir(&self.spool)?;
        self.after()?;
        Ok(file)
    }

    pub(super) fn open_spool(&self, pack: PackId) -> io::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .open(self.spool_path(pack))
    }

    pub(super) fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(torn) = self.faults.as_ref().and_then(|f| f.torn(bytes.len())) {
            file.write_all_at(&bytes[..torn], at)?;
        }
        self.before()?;
        file.write_all_at(bytes, at)?;
        self.after()
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.before()?;
        file.sync_data()?;
        self.after()
    }

    pub(super) fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.before()?;
        file.set_len(len)?;
        file.sync_data()?;
        self.after()
    }

    pub(super) fn remove_spool(&self, pack: PackId) -> io::Result<()> {
        self.before()?;
        match fs::remove_file(self.spool_path(pack)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        self.after()
    }

    pub(super) fn has_spool(&self, pack: PackId) -> bool {
        self.spool_path(pack).exists()
    }

    /// Turns a finished spool, which is synced, into an object. Runs on a thread for blocking work, like
    /// everything that touches spools.
    pub(super) fn name_pack(&self, pack: PackId) -> Result<(), StoreError> {
        let Some(root) = &self.root else {
            return self.upload(pack);
        };
        let to = root.join(pack_path(pack).as_ref());
        let rename = || {
            self.before()?;
            fs::create_dir_all(to.parent().unwrap_or(root))?;
            sync_dir(&root.join("packs"))?;
            fs::rename(self.spool_path(pack), &to)?;
            self.after()
        };
        rename().map_err(StoreError::io("sealing a pack"))
    }

    /// Makes the change of name durable.
    pub(super) fn settle_pack(&self, pack: PackId) -> io::Result<()> {
        let Some(root) = &self.root else {
            return self.remove_spool(pack);
        };
        self.before()?;
        sync_dir(root.join(pack_path(pack).as_ref()).parent().unwrap_or(root))?;
        sync_dir(&self.spool)?;
        self.after()
    }

    fn upload(&self, pack: PackId) -> Result<(), StoreError> {
        let doing = "uploading a pack";
        let bytes = fs::read(self.spool_path(pack)).map_err(StoreError::io(doing))?;
        self.before().map_err(StoreError::io(doing))?;
        let path = pack_path(pack);
        tokio::runtime::Handle::current()
            .block_on(self.objects.put(&path, PutPayload::from(bytes)))
            .map_err(StoreError::object(doing))?;
        self.after().map_err(StoreError::io(doing))
    }

    #[cfg(not(test))]
    fn before(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    fn after(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn before(&self) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |f| f.before())
    }

    #[cfg(test)]
    fn after(&self) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |f| f.after())
    }
}

pub(super) fn pack_path(pack: PackId) -> Path {
    let name = pack.to_string();
    Path::from(format!("packs/{}/{name}.pack", &name[..2]))
}

pub(super) fn sync_dir(folder: &FilePath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
