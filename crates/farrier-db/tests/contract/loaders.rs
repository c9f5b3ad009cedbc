use farrier_db::Db;
use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::policy::IpxeVariant;

pub(crate) async fn a_loader_replaces_its_older_self(db: &Db) {
    let shim = Loader {
        id: "shim-x64".into(),
        file_name: "shimx64.efi".into(),
        arch: Arch::X86_64,
        firmware: FirmwareKind::Uefi,
        kind: LoaderKind::Shim,
        version: "15.8".into(),
        signer: Some("Microsoft".into()),
        sha256: "00ff".into(),
        size: u64::MAX,
        source_package: "shim-signed 1.44".into(),
    };
    let other = Loader {
        id: "ipxe-bios".into(),
        firmware: FirmwareKind::Bios,
        kind: LoaderKind::Ipxe {
            variant: IpxeVariant::Full,
        },
        signer: None,
        ..shim.clone()
    };
    let newer = Loader {
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
