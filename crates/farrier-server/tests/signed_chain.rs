//! A shim's second stage that the shim refuses, told on the machine's timeline.

mod site;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::model::{Arch, FirmwareKind, Inventory};
use farrier_engine::timeline::Kind;
use farrier_proto::MacAddr;
use farrier_server::boot_tree::{Asker, BootTree, Channel};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

use site::Site;

/// An empty program with sections and a signature, as far as its headers tell.
fn program(sections: &[(&str, &[u8])], signature: &[u8]) -> Vec<u8> {
    const HEADER: usize = 0x40;
    const OPTIONAL: usize = HEADER + 24;
    const TABLE: usize = OPTIONAL + 240;
    let put = |file: &mut Vec<u8>, at: usize, value: usize| {
        let bytes = u32::try_from(value).unwrap().to_le_bytes();
        file[at..at + 4].copy_from_slice(&bytes);
    };
    let mut file = vec![0; TABLE + 40 * sections.len()];
    put(&mut file, 0x3c, HEADER);
    file[HEADER..HEADER + 4].copy_from_slice(b"PE\0\0");
    file[HEADER + 6] = u8::try_from(sections.len()).unwrap();
    file[HEADER + 20] = 240;
    file[OPTIONAL..OPTIONAL + 2].copy_from_slice(&[0x0b, 2]);
    // Long names stand in a string table behind no symbols at all.
    let mut strings = vec![0; 4];
    for (number, (name, content)) in sections.iter().enumerate() {
        let row = TABLE + 40 * number;
        let short = format!("/{}", strings.len());
        file[row..row + short.len()].copy_from_slice(short.as_bytes());
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
        let at = file.len();
        for (field, value) in [(8, content.len()), (16, content.len()), (20, at)] {
            put(&mut file, row + field, value);
        }
        file.extend_from_slice(content);
    }
    let at = file.len();
    put(&mut file, HEADER + 12, at);
    file.extend(strings);
    let at = file.len();
    put(&mut file, OPTIONAL + 112 + 32, at);
    put(&mut file, OPTIONAL + 112 + 36, signature.len());
    file.extend_from_slice(signature);
    file
}

/// An authority, and the certificate of somebody whom it certified.
fn signer(authority: &str) -> [Vec<u8>; 2] {
    let named = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let key = KeyPair::generate().unwrap();
    let mut root = named(authority);
    root.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = root.self_signed(&key).unwrap().der().to_vec();
    let issuer = Issuer::new(root, key);
    let own = named("Signer").signed_by(&KeyPair::generate().unwrap(), &issuer);
    [certificate, own.unwrap().der().to_vec()]
}

fn loader(id: &str, file_name: &str, kind: LoaderKind, bytes: Vec<u8>) -> (Loader, Vec<u8>) {
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let loader = Loader {
        id: id.into(),
        file_name: file_name.into(),
        arch: Arch::X86_64,
        firmware: FirmwareKind::Uefi,
        kind,
        version: "1".into(),
        signer: Some("Signer".into()),
        sha256: sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
        size: bytes.len() as u64,
        source_package: "test".into(),
    };
    (loader, bytes)
}

/// A shim that knows one authority and revokes GRUB below generation 5, and GRUBs that it starts or does not.
fn loaders() -> Vec<(Loader, Vec<u8>)> {
    let [debian, signed] = signer("Debian Secure Boot CA");
    let [_, elsewhere] = signer("Somebody");
    let mut level = vec![0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0];
    level.extend(b"sbat,1,2\ngrub,5\n\0");
    let shim = program(
        &[(".sbatlevel", &level), (".vendor_cert", &debian)],
        &signed,
    );
    let grub = |name: &str, sbat: &[u8], signature: &[u8]| {
        let id = format!("grub-{name}");
        let bytes = program(&[(".sbat", sbat)], signature);
        loader(&id, &format!("{name}.efi"), LoaderKind::Grub, bytes)
    };
    vec![
        loader("shim-x64", "shimx64.efi", LoaderKind::Shim, shim),
        grub("good", b"sbat,1\ngrub,5\n", &signed),
        grub("old", b"sbat,1\ngrub,3\n", &signed),
        grub("other", b"sbat,1\ngrub,5\n", &elsewhere),
        grub("plain", b"", &signed),
    ]
}

fn mac(n: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x77, 1, n])
}

/// Its own link-local address, which tells whose it is.
fn asker(n: u8) -> Asker {
    Asker {
        ip: Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe77, 0x100 + u16::from(n)).into(),
        server: Ipv4Addr::LOCALHOST.into(),
        by: Channel::Tftp,
    }
}

/// The name, whole.
async fn fetch(tree: &BootTree, n: u8, name: &str) {
    let served = tree.resolve(name, asker(n)).await.unwrap();
    tree.loaded(asker(n), &served);
}

/// So long a loader may take to say its first word, and a moment.
const SILENCE: Duration = Duration::from_millis(20_500);

#[tokio::test]
async fn a_second_stage_that_its_shim_refuses_is_named_when_nothing_follows() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.core.loaders.add(loaders()).unwrap();
    site.core.refresh();
    let tree = BootTree::new(Arc::clone(&site.core), vec![(Ipv4Addr::LOCALHOST, 8)]);
    let cases = [
        ("old", "grub of generation 3 is revoked, 5 is the oldest"),
        ("other", "certified by Somebody"),
        ("plain", "no SBAT section"),
        ("good", ""),
        // What runs, what came by itself, and what nobody checks.
        ("old", ""),
        ("old", ""),
        ("old", ""),
    ];
    let [runs, alone, unchecked] = [4, 5, 6];
    for (n, (grub, _)) in (0..).zip(cases) {
        site.script(&mac(n).to_string()).await;
        if n == unchecked {
            let machine = site.machine_of(&mac(n).to_string());
            let seen = Inventory {
                secure_boot: Some(false),
                ..Inventory::default()
            };
            let change = site.core.fleet.change_machine(machine, |machine| {
                machine.inventory = Some(seen.clone());
            });
            change.await.unwrap();
        }
        if n != alone {
            fetch(&tree, n, "boot/shim-x64/shimx64.efi").await;
        }
        fetch(&tree, n, &format!("boot/shim-x64/{grub}.efi")).await;
    }
    tree.resolve("grub/grub.cfg", asker(runs)).await.unwrap();
    tokio::time::sleep(SILENCE).await;
    for (n, (grub, why)) in (0..).zip(cases) {
        let machine = site.machine_of(&mac(n).to_string());
        if !why.is_empty() {
            let entry = site.told(machine, Kind::Warning, why).await;
            assert!(entry.text.contains("import"), "{}", entry.text);
            assert!(entry.text.starts_with(grub), "{}", entry.text);
            assert!(entry.text.contains("shim-x64"), "{}", entry.text);
            continue;
        }
        let told = site.core.db.timeline(machine, None, 200).await.unwrap();
        let refused = told
            .iter()
            .find(|entry| entry.value.text.contains("refuses"));
        assert!(refused.is_none(), "{grub} {n}: {refused:?}");
    }
}

#[tokio::test]
async fn a_ram_disk_is_judged_by_what_is_on_it() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let mut loaders = loaders();
    loaders.retain(|(loader, _)| ["shim-x64", "grub-old"].contains(&loader.id.as_str()));
    site.core.loaders.add(loaders).unwrap();
    site.core.refresh();
    let tree = BootTree::new(Arc::clone(&site.core), vec![(Ipv4Addr::LOCALHOST, 8)]);
    site.script(&mac(9).to_string()).await;
    fetch(&tree, 9, "boot/shim-x64/shimx64.img").await;
    tokio::time::sleep(SILENCE).await;
    let machine = site.machine_of(&mac(9).to_string());
    site.told(machine, Kind::Warning, "grub of generation 3 is revoked")
        .await;
}
