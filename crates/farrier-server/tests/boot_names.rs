//! The virtual tree, name by name: what each loader asks for, in the order and under the prefixes it uses.

mod site;

use std::net::Ipv4Addr;
use std::sync::Arc;

use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::facts::BootFacts;
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::policy::Settings;
use farrier_proto::MacAddr;
use farrier_server::boards::Boards;
use farrier_server::boot_tree::{Asker, BootTree, Channel, Missing, Served};
use farrier_server::core::now;
use farrier_server::media::floppy::{Density, Floppy, VARIABLES};

use site::Site;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x61]);

fn asker(by: Channel) -> Asker {
    Asker {
        ip: Ipv4Addr::LOCALHOST.into(),
        server: Ipv4Addr::LOCALHOST.into(),
        by,
    }
}

fn loader(
    id: &str,
    file_name: &str,
    firmware: FirmwareKind,
    kind: LoaderKind,
) -> (Loader, Vec<u8>) {
    let bytes = format!("the bytes of {id}").into_bytes();
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let loader = Loader {
        id: id.into(),
        file_name: file_name.into(),
        arch: Arch::X86_64,
        firmware,
        kind,
        version: "1".into(),
        signer: (firmware == FirmwareKind::Uefi).then(|| "Debian".into()),
        sha256: sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
        size: bytes.len() as u64,
        source_package: "test".into(),
    };
    (loader, bytes)
}

async fn tree(site: &Site) -> BootTree {
    use FirmwareKind::{Bios, Uefi};
    let loaders = vec![
        loader("shim-x64", "shimx64.efi", Uefi, LoaderKind::Shim),
        loader("grub-net-x64", "grubx64.efi", Uefi, LoaderKind::Grub),
        loader("lpxelinux-bios", "lpxelinux.0", Bios, LoaderKind::Pxelinux),
        loader(
            "syslinux-ldlinux-bios",
            "ldlinux.c32",
            Bios,
            LoaderKind::Part,
        ),
    ];
    site.core.loaders.add(loaders).unwrap();
    site.core.refresh();
    BootTree::new(Arc::clone(&site.core), vec![(Ipv4Addr::LOCALHOST, 8)])
}

async fn ask(tree: &BootTree, name: &str) -> Result<Served, Missing> {
    tree.resolve(name, asker(Channel::Tftp)).await
}

async fn text(tree: &BootTree, name: &str) -> String {
    let served = ask(tree, name).await;
    let served = served.unwrap_or_else(|missing| panic!("{name}: {missing}"));
    String::from_utf8(served.content.to_vec()).unwrap()
}

#[tokio::test]
async fn every_loader_finds_its_script_under_its_own_names() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    for name in [
        "grub/grub.cfg",
        "grub/x86_64-efi/grub.cfg",
        "EFI/debian/grub.cfg-01-52-54-00-77-00-61",
    ] {
        let script = text(&tree, name).await;
        assert!(
            script.contains("configfile $farrier/$grub_cpu-$grub_platform/$mac"),
            "{name}"
        );
        assert!(
            script.contains("(tftp,127.0.0.1)/boot/script/grub"),
            "{name}: {script}"
        );
    }
    for name in [
        "autoexec.ipxe",
        "boot/shim-x64/autoexec.ipxe",
        "default.ipxe",
    ] {
        assert!(text(&tree, name).await.starts_with("#!ipxe"), "{name}");
    }
    let own = text(&tree, "boot/script/grub/x86_64-efi/52:54:00:77:00:61").await;
    assert!(
        own.contains("if linux '(tftp,127.0.0.1)/boot/agent/"),
        "{own}"
    );
    assert!(own.contains("'farrier.mac=52:54:00:77:00:61'"), "{own}");
    let config = text(
        &tree,
        "boot/lpxelinux-bios/pxelinux.cfg/01-52-54-00-77-00-61",
    )
    .await;
    assert!(
        config.contains("LINUX http://127.0.0.1:"),
        "lpxelinux fetches by HTTP: {config}"
    );
    let config = text(&tree, "9ffefdef/pxelinux.cfg/01-52-54-00-77-00-61").await;
    assert!(
        config.contains("LINUX 127.0.0.1::boot/agent/"),
        "PXELINUX by TFTP: {config}"
    );
}

#[tokio::test]
async fn what_loaders_probe_for_is_missing_at_once_and_no_news() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    for name in [
        "boot/shim-x64/revocations.efi",
        "boot/shim-x64/revocations_sbat.efi",
        "grub/x86_64-efi/command.lst",
        "boot.scr.uimg",
        "pxelinux.cfg/0A4D",
        "pxelinux.cfg/C0A80001",
        "9ffefdef/bootsig.bin",
    ] {
        assert_eq!(
            ask(&tree, name).await.unwrap_err(),
            Missing::Expected,
            "{name}"
        );
    }
    for name in [
        "boot/nobody/grubx64.bin",
        "etc/passwd",
        "boot/script/grub/x86_64-efi/rm",
    ] {
        assert_eq!(
            ask(&tree, name).await.unwrap_err(),
            Missing::NoSuchName,
            "{name}"
        );
    }
}

/// T6 of the firmware notes: a default file is blind to the architecture; ours is not.
/// `protocols.md` 10: what a Raspberry Pi 4 asks for, from its ROM to the UEFI firmware that came over the network.
#[tokio::test]
async fn a_raspberry_pi_gets_what_would_be_on_its_memory_card() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    let first = ask(&tree, "9ffefdef/start4.elf").await.unwrap_err();
    assert_eq!(first, Missing::NoBoardFolder);
    assert!(first.to_string().contains("farrier loader board"));

    let card = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("config.txt", "armstub=RPI_EFI.fd"),
        ("start4.elf", "firmware"),
        ("RPI_EFI.fd", "UEFI"),
        ("9ffefdef/config.txt", "uart_2ndstage=1"),
    ] {
        let path = card.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    Boards::below(data.path()).import(card.path()).unwrap();
    for (name, content) in [
        ("9ffefdef/config.txt", "uart_2ndstage=1"),
        ("9ffefdef/start4.elf", "firmware"),
        ("dc-a6-32-00-00-01/config.txt", "armstub=RPI_EFI.fd"),
        ("dc-a6-32-00-00-01/RPI_EFI.fd", "UEFI"),
    ] {
        assert_eq!(text(&tree, name).await, content, "{name}");
    }
    for probed in [
        "9ffefdef/pieeprom.upd",
        "9ffefdef/recover4.elf",
        "9ffefdef/start.elf",
    ] {
        let missing = ask(&tree, probed).await.unwrap_err();
        assert_eq!(missing, Missing::Expected, "{probed}");
    }
    // Nothing of it is there for machines that are no boards, and they keep what is theirs.
    assert_eq!(
        ask(&tree, "start4.elf").await.unwrap_err(),
        Missing::NoSuchName
    );
    let loader = ask(&tree, "9ffefdef/grubx64.efi").await.unwrap();
    assert_eq!(&loader.content[..], b"the bytes of grub-net-x64");
}

#[tokio::test]
async fn t6_other_machines_do_not_get_a_pcs_kernel() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    let name = "pxelinux.cfg/01-52-54-00-77-00-61";
    assert!(
        ask(&tree, name).await.is_ok(),
        "nothing is known: PXELINUX runs on PCs"
    );
    let mut facts = BootFacts::from_http([("mac", "525400770061")]).unwrap();
    facts.arch = Some(Arch::S390x);
    facts.firmware = Some(FirmwareKind::S390);
    site.core.sightings.said(MAC, &facts, now());
    let served = ask(&tree, name).await.unwrap();
    let told = String::from_utf8_lossy(&served.content).into_owned();
    assert!(told.contains("there is none for this machine"), "{told}");
    assert!(!told.contains("vmlinuz"), "{told}");
}

/// shim#649, #696, #300: the second stage comes whatever the name looks like, but only behind a shim.
#[tokio::test]
async fn a_shim_with_a_garbled_name_gets_its_second_stage() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    let garbled = "UEFI PXEv4 (MAC)grubx64.ef";
    assert!(ask(&tree, garbled).await.is_err(), "no shim was sent");
    assert_eq!(
        ask(&tree, "boot/shim-x64/shimx64.efi")
            .await
            .unwrap()
            .content,
        "the bytes of shim-x64"
    );
    let second = ask(&tree, garbled).await.unwrap();
    assert_eq!(second.content, "the bytes of grub-net-x64");
    assert!(
        tree.rescue(asker(Channel::Tftp)).is_some(),
        "for names that are no text"
    );
    let beside = ask(&tree, "boot/shim-x64/grubx64.efi").await.unwrap();
    assert_eq!(beside.content, "the bytes of grub-net-x64");
    assert!(
        ask(&tree, garbled).await.is_err(),
        "the second stage is out"
    );
}

#[tokio::test]
async fn files_are_found_beside_their_loader_and_by_name() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    assert!(
        ask(&tree, "boot/lpxelinux-bios/grubx64.efi").await.is_err(),
        "another firmware's"
    );
    for (name, id) in [
        ("boot/lpxelinux-bios/ldlinux.c32", "syslinux-ldlinux-bios"),
        ("ldlinux.c32", "syslinux-ldlinux-bios"),
        ("tftpboot/shimx64.efi", "shim-x64"),
    ] {
        assert_eq!(
            ask(&tree, name).await.unwrap().content,
            format!("the bytes of {id}"),
            "{name}"
        );
    }
    let disk = ask(&tree, "boot/shim-x64/shimx64.img").await.unwrap();
    assert_eq!(disk.content_type, "application/vnd.efi-img");
    assert!(!disk.unsigned && disk.loader);
}

#[tokio::test]
async fn floppies_get_the_machines_values_and_stay_as_they_are() {
    let data = tempfile::tempdir().unwrap();
    let media = data.path().join("media");
    std::fs::create_dir_all(&media).unwrap();
    let mut floppy = Floppy::blank(Density::High).unwrap();
    floppy.put(VARIABLES, b"").unwrap();
    std::fs::write(media.join("dos.img"), floppy.as_bytes()).unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    let served = ask(&tree, "boot/media/dos.img").await.unwrap();
    let own = Floppy::from_bytes(served.content.to_vec());
    let said = String::from_utf8(own.file(VARIABLES).unwrap()).unwrap();
    assert!(said.contains("SET FARRIER_SERVER=127.0.0.1\r\n"), "{said}");
    assert_eq!(
        std::fs::read(media.join("dos.img")).unwrap(),
        floppy.as_bytes()
    );
    let script = text(&tree, "boot/media/dos.img.ipxe").await;
    assert!(script.contains("MEMDISK is missing"), "{script}");
    assert!(ask(&tree, "boot/media/other.img").await.is_err());
}

#[tokio::test]
async fn a_machine_without_work_is_sent_to_its_disk_by_every_loader() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    let settings = Settings {
        menu: Some(farrier_engine::policy::MenuMode::Never),
        unknown_machine: Some(farrier_engine::policy::UnknownMachine::Menu),
        ..Settings::default()
    };
    site.core.set_site(settings).await.unwrap();
    let grub = text(&tree, "boot/script/grub/x86_64-efi/52:54:00:77:00:61").await;
    assert!(
        grub.ends_with("}\nfarrier_disk\n") && !grub.contains("linux '"),
        "{grub}"
    );
    let config = text(&tree, "pxelinux.cfg/01-52-54-00-77-00-61").await;
    assert!(
        config.contains("DEFAULT local_disk") && !config.contains("LINUX"),
        "{config}"
    );
}
