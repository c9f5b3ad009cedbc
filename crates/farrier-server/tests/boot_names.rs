//! The virtual tree, name by name: what each loader asks for, in the order and under the prefixes it uses.

mod site;

use std::io::{Cursor, Read};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::facts::BootFacts;
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::policy::{MenuMode, Settings, UnknownMachine};
use farrier_engine::timeline::Kind;
use farrier_proto::MacAddr;
use farrier_proto::session::tftp_transfer::Event;
use farrier_server::boards::Boards;
use farrier_server::boot_tree::{Asker, BootTree, Channel, Missing, Served};
use farrier_server::core::now;
use farrier_server::media::floppy::{Density, Floppy, VARIABLES};
use fatfs::{FileSystem, FsOptions};

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
    for none in [
        "grub-net-x64/shimx64.img",
        "shim-x64/grubx64.img",
        "shim-x64/.img",
    ] {
        let asked = ask(&tree, &format!("boot/{none}")).await;
        assert!(matches!(asked, Err(Missing::NoSuchName)), "{none}");
    }
}

/// GRUB that came by HTTP itself finds no network. Firmware that boots so starts it from a disk.
#[tokio::test]
async fn grub_alone_is_on_a_ram_disk_for_http_boot_too() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (grub, bytes) = loader(
        "grub-net-ia32",
        "grubia32.efi",
        FirmwareKind::Uefi,
        LoaderKind::Grub,
    );
    let grub = Loader {
        arch: Arch::Ia32,
        signer: None,
        ..grub
    };
    let (core, core_bytes) = loader(
        "grub-net-sparc64",
        "core.img",
        FirmwareKind::OpenFirmware,
        LoaderKind::Grub,
    );
    site.core
        .loaders
        .add(vec![(grub, bytes.clone()), (core, core_bytes.clone())])
        .unwrap();
    site.core.refresh();
    let tree = BootTree::new(Arc::clone(&site.core), vec![(Ipv4Addr::LOCALHOST, 8)]);
    let served = ask(&tree, "boot/grub-net-ia32/grubia32.img").await.unwrap();
    assert!(served.unsigned && served.loader);
    assert_eq!(served.name, "a RAM disk with grubia32.efi");
    let disk = Cursor::new(served.content.to_vec());
    let volume = FileSystem::new(disk, FsOptions::new()).unwrap();
    let read = |path: &str| {
        let mut content = Vec::new();
        let mut file = volume.root_dir().open_file(path).unwrap();
        file.read_to_end(&mut content).unwrap();
        content
    };
    assert_eq!(read("EFI/BOOT/BOOTIA32.EFI"), bytes);
    let script = String::from_utf8(read("grub/grub.cfg")).unwrap();
    assert!(script.contains("configfile $farrier/"), "{script}");
    let other = ask(&tree, "boot/grub-net-sparc64/core.img").await.unwrap();
    assert_eq!(
        other.content, core_bytes,
        "a program of that name is no RAM disk"
    );
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
        menu: Some(MenuMode::Never),
        unknown_machine: Some(UnknownMachine::Menu),
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

/// What iPXE before 2.0 says of itself on UEFI.
const OLD_IPXE: [(&str, &str); 4] = [
    ("mac", "52:54:00:77:00:61"),
    ("platform", "efi"),
    ("buildarch", "x86_64"),
    ("version", "1.0.0+"),
];

const DISK_STARTER: &str = "boot/local-disk/grub-net-x64/grubx64.efi";

async fn old_ipxe(site: &Site, by_menu: MenuMode) {
    let settings = Settings {
        menu: Some(by_menu),
        unknown_machine: Some(UnknownMachine::Menu),
        ..Settings::default()
    };
    site.core.set_site(settings).await.unwrap();
}

/// T11 of the firmware notes: GRUB asks for its script like any other, and gets the disk whatever the menu would say.
#[tokio::test]
async fn t11_grub_starts_the_disk_for_an_old_ipxe_and_asks_nobody_again() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    old_ipxe(&site, MenuMode::Always).await;
    let menu = site.answer_for(&OLD_IPXE).await;
    let way = format!(
        ":local_disk\nset netX/next-server 127.0.0.1 ||\nchain --autofree http://127.0.0.1:8067/{DISK_STARTER} || exit 1\n"
    );
    assert!(menu.ends_with(&way), "{menu}");
    let (script, asks) = ("grub/x86_64-efi/grub.cfg", "configfile $farrier/");
    assert!(text(&tree, script).await.contains(asks), "not fetched yet");

    let by_tftp = ask(&tree, DISK_STARTER).await.unwrap_err();
    assert_eq!(by_tftp, Missing::NoSuchName, "anybody could ask for it");
    let no_grub = "boot/local-disk/shim-x64/shimx64.efi";
    for name in [no_grub, "boot/local-disk/grub-net-x64/shimx64.efi"] {
        let missing = tree.resolve(name, asker(Channel::Http)).await.unwrap_err();
        assert_eq!(missing, Missing::NoSuchName, "{name}");
    }
    assert!(text(&tree, script).await.contains(asks), "nothing was sent");

    let grub = tree.resolve(DISK_STARTER, asker(Channel::Http)).await;
    let grub = grub.unwrap();
    assert_eq!(&grub.content[..], b"the bytes of grub-net-x64");
    assert!(grub.loader && grub.name.ends_with("to start the local disk"));
    for name in [script, "grub/grub.cfg", script] {
        let disk = text(&tree, name).await;
        assert!(disk.ends_with("}\nfarrier_disk\n"), "{name}: {disk}");
        assert!(!disk.contains("configfile"), "{name}: {disk}");
    }
    // The next boot is by shim, whose GRUB comes for more than the disk. To ask for it proves nothing by TFTP.
    let shim = ask(&tree, "boot/shim-x64/shimx64.efi").await.unwrap();
    assert!(!text(&tree, script).await.contains(asks), "anybody may ask");
    let arrived = Event::Done {
        bytes: 1,
        duration: Duration::ZERO,
        retransmits: 0,
    };
    tree.transferred(&shim, asker(Channel::Tftp), &arrived);
    ask(&tree, "boot/shim-x64/grubx64.efi").await.unwrap();
    assert!(text(&tree, script).await.contains(asks));
    let next = site.answer_for(&OLD_IPXE).await;
    assert!(next.ends_with(&way), "GRUB did ask: {next}");
}

#[tokio::test]
async fn t11_who_stopped_in_grub_goes_through_the_firmware_and_its_timeline_says_so() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let tree = tree(&site).await;
    old_ipxe(&site, MenuMode::Never).await;
    let first = site.answer_for(&OLD_IPXE).await;
    assert!(first.contains(DISK_STARTER), "{first}");
    tree.resolve(DISK_STARTER, asker(Channel::Http))
        .await
        .unwrap();
    for _ in 0..2 {
        let next = site.answer_for(&OLD_IPXE).await;
        assert_eq!(next, "#!ipxe\nexit\n");
    }
    let machine = site.machine_of("52:54:00:77:00:61");
    let told = site.told(machine, Kind::Warning, "sent GRUB").await;
    assert!(told.text.contains("iPXE 2.0 needs no GRUB"), "{told:?}");
    let all = site.core.db.timeline(machine, None, 200).await.unwrap();
    let warnings = all.iter().filter(|e| e.value.kind == Kind::Warning);
    assert_eq!(warnings.count(), 1, "told once: {all:?}");
}
