//! What is patched into a machine's own copy of a floppy: its own values, and nothing that is not known.

mod site;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Extension;
use axum::http::{Request, StatusCode, header};
use farrier_api::admin::{MediumValues, MediumValuesQuery};
use farrier_engine::WallTime;
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::medium_value::{ValueName, ValueText};
use farrier_engine::model::{HostName, Machine, MachineId, Registration, Role};
use farrier_engine::policy::{PolicyBook, Settings, ShortName};
use farrier_engine::timeline::Kind;
use farrier_proto::MacAddr;
use farrier_proto::session::tftp_transfer::Event;
use farrier_server::auth::{Principal, Via};
use farrier_server::boot_tree::{Asker, BootTree, Channel, Missing};
use farrier_server::core::{new_id, now};
use farrier_server::http::boot::{BootHttp, router};
use farrier_server::http::serve::Peer;
use farrier_server::media::floppy::{Density, Floppy, MAX_NAMES, VARIABLES};
use farrier_server::service::{Code, Desk, Refusal};
use site::Site;
use tower::ServiceExt as _;

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

/// What a viewer is shown of `MAC`.
async fn dry_run(site: &Site, image: &str) -> Result<MediumValues, Refusal> {
    let who = Principal {
        name: "ada".to_owned(),
        role: Role::Viewer,
        via: Via::Local,
        from: None,
    };
    let query = MediumValuesQuery {
        mac: MAC.to_string(),
        address: None,
    };
    let desk = Desk::new(Arc::clone(&site.core), who);
    desk.medium_values(image, &query).await
}

/// `NET.INI` claims more than a floppy holds.
fn damage(data: &Path, floppy: Floppy) {
    let mut bytes = floppy.into_bytes();
    let mut entries = bytes.windows(11);
    let entry = entries.position(|name| name == b"NET     INI").unwrap();
    bytes[entry + 28..entry + 32].fill(0xff);
    std::fs::write(data.join("media/dos.img"), bytes).unwrap();
}

#[tokio::test]
async fn r9_what_can_be_read_of_a_damaged_floppy_gets_its_values_and_the_rest_is_told() {
    let data = tempfile::tempdir().unwrap();
    let floppy = put_floppy(data.path());
    damage(data.path(), floppy);
    let site = Site::configured(data.path(), SUBNET).await;
    let tree = Arc::new(BootTree::new(Arc::clone(&site.core), Vec::new()));
    let id = add(&site, MAC, "pc-17", None, Settings::default()).await;
    let other = add(&site, OTHER_MAC, "pc-18", None, Settings::default()).await;
    let (first, second) = (Ipv4Addr::new(10, 20, 0, 100), Ipv4Addr::new(10, 20, 0, 101));
    lend(&site, MAC, first).await;
    lend(&site, OTHER_MAC, second).await;

    let served = tree
        .resolve("boot/media/dos.img", asker(first))
        .await
        .unwrap();
    let own = Floppy::from_bytes(served.content.to_vec());
    let batch = text(&own, VARIABLES);
    assert!(batch.contains("SET FARRIER_NAME=pc-17\r\n"), "{batch}");
    let done = Event::Done {
        bytes: served.content.len() as u64,
        duration: Duration::ZERO,
        retransmits: 0,
    };
    tree.transferred(&served, asker(first), &done);
    let fault = "the file NET.INI cannot be read (it is larger than the volume)";
    let warning = format!("The image dos.img is damaged, so values may be missing in it: {fault}.");
    site.told(id, Kind::Warning, &warning).await;

    // By HTTP once it is fetched whole, not for each piece.
    let boot = BootHttp {
        core: Arc::clone(&site.core),
        tree: Arc::clone(&tree),
    };
    let peer = Peer {
        addr: (second, 1024).into(),
        local: (OURS, 8067).into(),
        secure: false,
        agent: None,
    };
    let router = router(boot).layer(Extension(peer));
    for (range, expected) in [
        ("bytes=0-511", StatusCode::PARTIAL_CONTENT),
        ("bytes=512-1023", StatusCode::PARTIAL_CONTENT),
        ("lines=1", StatusCode::OK),
    ] {
        let request = Request::get("/boot/media/dos.img").header(header::RANGE, range);
        let request = request.body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected, "{range}");
    }
    site.told(other, Kind::Warning, &warning).await;
    let told = site.core.db.timeline(other, None, 200).await.unwrap();
    let warnings = told.iter().filter(|e| e.value.kind == Kind::Warning);
    assert_eq!(warnings.count(), 1);

    let shown = dry_run(&site, "dos.img").await.unwrap();
    assert_eq!(shown.fault.as_deref(), Some(fault));
    assert!(shown.batch && shown.refused.is_none(), "{shown:?}");
}

#[tokio::test]
async fn t16_an_image_that_asks_for_too_many_values_is_not_sent_and_the_dry_run_says_so() {
    let data = tempfile::tempdir().unwrap();
    let mut floppy = put_floppy(data.path());
    let places: String = (0..=MAX_NAMES)
        .map(|number| format!("{{{{FARRIER_X{number}}}}}"))
        .collect();
    floppy.put("MANY.INI", places.as_bytes()).unwrap();
    std::fs::write(data.path().join("media/dos.img"), floppy.as_bytes()).unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let tree = BootTree::new(Arc::clone(&site.core), Vec::new());
    let ip = Ipv4Addr::new(10, 20, 0, 100);
    let missing = tree
        .resolve("boot/media/dos.img", asker(ip))
        .await
        .unwrap_err();
    let why = "it asks for more than 64 different values";
    assert_eq!(
        missing,
        Missing::Unfit(format!("The image dos.img is not sent: {why}."))
    );
    let shown = dry_run(&site, "dos.img").await.unwrap();
    assert_eq!(shown.refused.as_deref(), Some(why));
}

/// Nobody waits for hundreds of MiB, or has them pushed out of memory, to hear that they are no floppy.
#[tokio::test]
async fn t16_a_dry_run_does_not_read_an_image_that_is_no_floppy() {
    let data = tempfile::tempdir().unwrap();
    put_floppy(data.path());
    let large = File::create(data.path().join("media/disk.img")).unwrap();
    large.set_len(100 << 20).unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let refused = dry_run(&site, "disk.img").await.unwrap_err();
    assert_eq!(refused.code, Code::NotPossible);
    assert_eq!(refused.message, "disk.img is no floppy of 1.44 or 2.88 MB");
    assert_eq!(site.core.media.held(), 0);
    dry_run(&site, "dos.img").await.unwrap();
    assert_eq!(site.core.media.held(), 1_474_560);
}
