use farrier_db::{Db, LoaderRow};
use farrier_engine::model::{Arch, FirmwareKind};

pub(crate) async fn a_loader_replaces_its_older_self(db: &Db) {
    let shim = LoaderRow {
        id: "shim-x64".into(),
        file: "shimx64.efi".into(),
        arch: Some(Arch::X86_64),
        firmware: Some(FirmwareKind::Uefi),
        kind: "shim".into(),
        version: "15.8".into(),
        signer: Some("Microsoft".into()),
        hash: "00ff".into(),
        size: 1 << 20,
        source: "shim-signed 1.44".into(),
    };
    let other = LoaderRow {
        id: "ipxe-bios".into(),
        arch: None,
        firmware: None,
        signer: None,
        ..shim.clone()
    };
    let newer = LoaderRow {
        version: "15.9".into(),
        ..shim.clone()
    };
    for loader in [&shim, &other, &newer] {
        db.save_loader(loader).await.unwrap();
    }
    assert_eq!(db.loaders().await.unwrap(), [other, newer]);
    assert!(db.delete_loader("shim-x64").await.unwrap());
    assert!(!db.delete_loader("shim-x64").await.unwrap());
}
