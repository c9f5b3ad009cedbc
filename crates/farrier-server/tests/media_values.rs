//! What is patched into a machine's own copy of a floppy: its own values, and nothing that is not known.

mod site;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::medium_value::{ValueName, ValueText};
use farrier_engine::model::{HostName, Machine, MachineId, Registration};
use farrier_engine::policy::{PolicyBook, Settings, ShortName};
use farrier_engine::timeline::Kind;
use farrier_proto::MacAddr;
use farrier_server::boot_tree::{Asker, BootTree, Channel, Missing};
use farrier_server::core::{new_id, now};
use farrier_server::media::floppy::{Density, Floppy, VARIABLES};
use site::Site;

const SUBNET: &str = r#"
mode = "dhcp"
[[subnet]]
network = "10.20.0.0/20"
name = "office"
pools = ["10.20.0.100-10.20.0.199"]
routers = ["10.20.0.1", "10.20.0.2"]
dns = ["10.20.0.3"]
domain = "example.org"

[[class]]
name = "labs"
when = "machine.group == 'lab'"
options = { domain-name-servers = "10.20.0.53" }
"#;

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 20, 0, 1));
const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x71]);
const OTHER_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x72]);

fn asker(ip: Ipv4Addr) -> Asker {
    Asker {
        ip: ip.into(),
        server: OURS,
        by: Channel::Tftp,
    }
}

/// A floppy that asks for everything in its batch file, and for a home in a file of its own.
fn put_floppy(data: &Path) -> Floppy {
    let mut floppy = Floppy::blank(Density::High).unwrap();
    floppy.put(VARIABLES, b"").unwrap();
    floppy
        .put("NET.INI", b"home={{FARRIER_HOME          }}\r\n")
        .unwrap();
    let media = data.join("media");
    std::fs::create_dir_all(&media).unwrap();
    std::fs::write(media.join("dos.img"), floppy.as_bytes()).unwrap();
    floppy
}

fn values(rows: &[(&str, &str)]) -> Settings {
    let value = |&(name, text): &(&str, &str)| {
        let name = ValueName::new(name).unwrap();
        (name, ValueText::new(text).unwrap())
    };
    Settings {
        media_values: Some(rows.iter().map(value).collect()),
        ..Settings::default()
    }
}

async fn add(
    site: &Site,
    mac: MacAddr,
    name: &str,
    group: Option<&str>,
    settings: Settings,
) -> MachineId {
    let machine = Machine {
        id: MachineId(new_id()),
        name: Some(HostName::try_from(name.to_owned()).unwrap()),
        registration: Registration::Approved,
        macs: vec![mac],
        uuid: None,
        firmware: None,
        arch: None,
        group: group.map(|name| ShortName::try_from(name.to_owned()).unwrap()),
        settings,
        intent: None,
        learned: None,
        inventory: None,
        first_seen: WallTime(1),
        last_seen: WallTime(1),
        revision: 0,
    };
    site.core.fleet.add_machine(machine).await.unwrap().id
}

async fn lend(site: &Site, mac: MacAddr, ip: Ipv4Addr) {
    let lease = Lease {
        ip,
        mac,
        client_id: None,
        hostname: None,
        state: LeaseState::Active,
        starts: now(),
        ends: now() + Duration::from_secs(3600),
    };
    site.core.leases.grant(lease, now()).await.unwrap();
}

async fn fetched(tree: &BootTree, ip: Ipv4Addr) -> (Floppy, String) {
    let served = tree.resolve("boot/media/dos.img", asker(ip)).await.unwrap();
    (Floppy::from_bytes(served.content.to_vec()), served.name)
}

fn text(floppy: &Floppy, path: &str) -> String {
    String::from_utf8(floppy.file(path).unwrap()).unwrap()
}

#[tokio::test]
async fn r9_each_machine_gets_what_our_dhcp_told_it_and_values_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let original = put_floppy(data.path());
    let site = Site::configured(data.path(), SUBNET).await;
    let tree = BootTree::new(Arc::clone(&site.core), Vec::new());
    site.core
        .set_site(values(&[("home", r"\\srv\home\guest")]))
        .await
        .unwrap();
    let lab = ShortName::try_from("lab".to_owned()).unwrap();
    let group = values(&[("home", r"\\srv\home\lab"), ("drive", "F:")]);
    let book = PolicyBook {
        groups: [(lab, group)].into(),
        rules: Vec::new(),
    };
    let revision = site.core.db.policy_book().await.unwrap().revision;
    site.core.set_book(book, revision).await.unwrap();
    let own = values(&[("home", r"\\srv\home$\pc17")]);
    add(&site, MAC, "pc-17", Some("lab"), own).await;
    add(&site, OTHER_MAC, "pc-18", None, Settings::default()).await;
    let (first, second) = (Ipv4Addr::new(10, 20, 0, 100), Ipv4Addr::new(10, 20, 1, 7));
    lend(&site, MAC, first).await;
    lend(&site, OTHER_MAC, second).await;

    let (floppy, name) = fetched(&tree, first).await;
    assert_eq!(
        text(&floppy, VARIABLES),
        "@ECHO OFF\r\n\
         SET FARRIER_NAME=pc-17\r\n\
         SET FARRIER_ADDRESS=10.20.0.100\r\n\
         SET FARRIER_MASK=255.255.240.0\r\n\
         SET FARRIER_PREFIX=20\r\n\
         SET FARRIER_ROUTER=10.20.0.1\r\n\
         SET FARRIER_DNS=10.20.0.53\r\n\
         SET FARRIER_DOMAIN=example.org\r\n\
         SET FARRIER_MAC=52:54:00:77:00:71\r\n\
         SET FARRIER_SERVER=10.20.0.1\r\n\
         SET FARRIER_GROUP=lab\r\n\
         SET FARRIER_DRIVE=F:\r\n\
         SET FARRIER_HOME=\\\\srv\\home$\\pc17\r\n"
    );
    assert_eq!(
        text(&floppy, "NET.INI"),
        "home=\\\\srv\\home$\\pc17          \r\n"
    );
    assert_eq!(name, "the image dos.img");

    let (floppy, name) = fetched(&tree, second).await;
    let batch = text(&floppy, VARIABLES);
    assert!(batch.contains("SET FARRIER_NAME=pc-18\r\n"), "{batch}");
    assert!(batch.contains("SET FARRIER_DNS=10.20.0.3\r\n"), "{batch}");
    assert!(
        batch.contains("SET FARRIER_HOME=\\\\srv\\home\\guest\r\n"),
        "{batch}"
    );
    assert!(
        !batch.contains("DRIVE") && !batch.contains("GROUP"),
        "{batch}"
    );
    assert_eq!(name, "the image dos.img (FARRIER_GROUP not known)");
    let kept = std::fs::read(data.path().join("media/dos.img")).unwrap();
    assert_eq!(kept, original.as_bytes());
}

/// A value of one's own counts before what is known, so a machine beside another DHCP server can be told its router.
#[tokio::test]
async fn r9_beside_another_dhcp_server_what_it_told_is_not_guessed() {
    let data = tempfile::tempdir().unwrap();
    put_floppy(data.path());
    let site = Site::open(data.path()).await;
    let networks = vec![(Ipv4Addr::new(10, 30, 0, 0), 24)];
    let tree = BootTree::new(Arc::clone(&site.core), networks);
    let ip = Ipv4Addr::new(10, 30, 0, 50);
    let (floppy, name) = fetched(&tree, ip).await;
    assert_eq!(
        text(&floppy, VARIABLES),
        "@ECHO OFF\r\n\
         SET FARRIER_ADDRESS=10.30.0.50\r\n\
         SET FARRIER_MASK=255.255.255.0\r\n\
         SET FARRIER_PREFIX=24\r\n\
         SET FARRIER_SERVER=10.20.0.1\r\n"
    );
    assert_eq!(text(&floppy, "NET.INI"), format!("home={:26}\r\n", ""));
    assert_eq!(
        name,
        "the image dos.img (FARRIER_DNS, FARRIER_DOMAIN, FARRIER_GROUP, FARRIER_HOME, FARRIER_MAC, FARRIER_NAME, \
         FARRIER_ROUTER not known)"
    );
    site.core
        .set_site(values(&[("router", "10.30.0.1"), ("mask", "255.255.0.0")]))
        .await
        .unwrap();
    let batch = text(&fetched(&tree, ip).await.0, VARIABLES);
    assert!(
        batch.contains("SET FARRIER_ROUTER=10.30.0.1\r\n"),
        "{batch}"
    );
    assert!(
        batch.contains("SET FARRIER_MASK=255.255.0.0\r\n"),
        "{batch}"
    );
    let elsewhere = text(
        &fetched(&tree, Ipv4Addr::new(192, 0, 2, 1)).await.0,
        VARIABLES,
    );
    assert!(!elsewhere.contains("PREFIX"), "{elsewhere}");
}

#[tokio::test]
async fn r9_an_image_with_too_narrow_a_place_is_not_sent_and_the_timeline_says_why() {
    let data = tempfile::tempdir().unwrap();
    let original = put_floppy(data.path());
    let site = Site::configured(data.path(), SUBNET).await;
    let tree = BootTree::new(Arc::clone(&site.core), Vec::new());
    let long = r"\\a-very-long-server\home\pc17";
    let id = add(&site, MAC, "pc-17", None, values(&[("home", long)])).await;
    let ip = Ipv4Addr::new(10, 20, 0, 100);
    lend(&site, MAC, ip).await;
    let name = "boot/media/dos.img";
    let missing = tree.resolve(name, asker(ip)).await.unwrap_err();
    let why = "The image dos.img is not sent: FARRIER_HOME has 30 characters here, and a place for it only 26";
    assert!(
        matches!(&missing, Missing::Unfit(said) if said.starts_with(why)),
        "{missing}"
    );
    tree.missed(name, asker(ip), &missing);
    site.told(id, Kind::Warning, why).await;
    let kept = std::fs::read(data.path().join("media/dos.img")).unwrap();
    assert_eq!(kept, original.as_bytes());
    // For others it is as good as before.
    fetched(&tree, Ipv4Addr::new(10, 20, 0, 101)).await;
}
