//! Section 6 of the main job: the database or the store fails, the server is killed, the configuration is
//! wrong. What was acknowledged stays, machines go on booting, nothing is done on a guess.
#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]

mod site;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farrier_api::agent::{
    Inventory, Order, Outcome as WireOutcome, ProgressReport, ResultReport, Work as WireWork,
};
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::model::TaskId;
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;
use farrier_engine::{Reason, WallTime};
use farrier_image::apply::{self, Mode};
use farrier_image::capture::{self, CaptureOptions};
use farrier_image::chunk::{ChunkId, StoredChunk};
use farrier_image::device::MemDevice;
use farrier_image::manifest::{MAX_PLAIN, SignedManifest};
use farrier_image::store::{LocalSink, Which};
use farrier_image::transport::Unwatched;
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Xid};
use farrier_proto::wire::option;
use farrier_server::boot::{BootPort, Outcome};
use farrier_server::config::{Config, Faults, Mode as PortMode};
use farrier_server::core::now;
use tokio::runtime::Handle;

use site::disk::{Remote, content, disk, noise};
use site::{Agent, Site, SmallDisk, capture_of, deploy_of, status};

const MAC: &str = "52:54:00:00:00:01";
const OTHER: &str = "52:54:00:00:00:02";
const STRANGER: &str = "52:54:00:00:00:77";
const SUBNET: &str =
    "[[subnet]]\nnetwork = \"127.0.0.0/8\"\npools = [\"127.9.0.10-127.9.3.250\"]\n";

fn discover(mac: MacAddr) -> Message {
    let mut message = Message::request(Xid(7), mac);
    message
        .options
        .set(option::DHCP_MESSAGE_TYPE, vec![MessageType::Discover as u8]);
    message
}

const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

/// DISCOVER, OFFER, REQUEST, and then an ACK, or why not.
async fn lease(port: &BootPort, mac: MacAddr) -> Result<Ipv4Addr, Reason> {
    let offer = match port.handle(&discover(mac).encode(), NOWHERE).await {
        Outcome::Reply { reply, .. } => reply,
        Outcome::Ignore(reason) => return Err(reason),
    };
    assert_eq!(offer.message_type(), Some(MessageType::Offer));
    let mut request = Message::request(Xid(7), mac);
    request
        .options
        .set(option::DHCP_MESSAGE_TYPE, vec![MessageType::Request as u8]);
    request
        .options
        .set(option::REQUESTED_IP_ADDRESS, offer.yiaddr.octets());
    request
        .options
        .set(option::SERVER_IDENTIFIER, Ipv4Addr::LOCALHOST.octets());
    match port.handle(&request.encode(), NOWHERE).await {
        Outcome::Reply { reply, .. } => {
            assert_eq!(
                (reply.message_type(), reply.yiaddr),
                (Some(MessageType::Ack), offer.yiaddr)
            );
            Ok(reply.yiaddr)
        }
        Outcome::Ignore(reason) => Err(reason),
    }
}

/// For how many seconds a client has its address that asks to prolong its lease; nothing without an ACK.
async fn renew(port: &BootPort, mac: MacAddr, ip: Ipv4Addr) -> Option<u32> {
    let mut request = Message::request(Xid(8), mac);
    request.ciaddr = ip;
    request
        .options
        .set(option::DHCP_MESSAGE_TYPE, vec![MessageType::Request as u8]);
    let source = SocketAddrV4::new(ip, 68);
    let Outcome::Reply { reply, .. } = port.handle(&request.encode(), source).await else {
        return None;
    };
    if reply.message_type() != Some(MessageType::Ack) {
        return None;
    }
    assert_eq!(reply.yiaddr, ip);
    let seconds = reply.options.get(option::IP_ADDRESS_LEASE_TIME)?;
    Some(u32::from_be_bytes(seconds.try_into().unwrap()))
}

/// As if the client had been lent its address so many seconds ago, for an hour.
async fn lent_before(site: &Site, mac: MacAddr, ip: Ipv4Addr, seconds: i64) {
    let starts = WallTime(now().0 - seconds * 1000);
    let lease = Lease {
        ip,
        mac,
        client_id: None,
        hostname: None,
        state: LeaseState::Active,
        starts,
        ends: starts + Duration::from_secs(3600),
    };
    site.core.leases.grant(lease, now()).await.unwrap();
}

/// RFC 2131 4.3.1: what a client is told to have is what it has on record, or the address would be another's before
/// the client asks again.
#[tokio::test]
async fn rfc2131_4_3_1_a_prolonged_lease_is_told_as_long_as_it_is_stored() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let dhcp = site.boot_port(67, PortMode::Dhcp).await;
    let ip = Ipv4Addr::new(127, 9, 0, 20);
    lent_before(&site, mac(1), ip, 1800).await;
    for _ in 0..3 {
        let told = renew(&dhcp, mac(1), ip).await.unwrap();
        let stored = site.core.leases.held(mac(1), ip, now()).unwrap();
        let left = stored.ends.since(now()).as_secs();
        assert!(
            (left..=left + 2).contains(&u64::from(told)),
            "told {told} s, and {left} s are stored"
        );
    }
    drop(dhcp);
    site.kill().await;
}

fn mac(n: u16) -> MacAddr {
    let [high, low] = n.to_be_bytes();
    MacAddr([0x52, 0x54, 0, 1, high, low])
}

async fn begin(agent: &Agent) -> (uuid::Uuid, u64, WireWork) {
    match agent.client.work(Duration::ZERO).await.unwrap() {
        Order::Run { task, fence, work } => (task, fence, work),
        other => panic!("{other:?}"),
    }
}

fn done(fence: u64, root: Option<String>) -> ResultReport {
    let outcome = WireOutcome::Done {
        root,
        disk: None,
        read_bytes: 0,
        written_bytes: 0,
        moved_bytes: 0,
        bottleneck: None,
    };
    ResultReport { fence, outcome }
}

fn progress(fence: u64) -> ProgressReport {
    let phase = "reading the disk".to_owned();
    ProgressReport {
        fence,
        phase,
        done_bytes: 1,
        total_bytes: 2,
        bytes_per_second: 1,
        bottleneck: None,
    }
}

#[tokio::test]
async fn r5_without_a_database_known_machines_still_boot() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    let Some(small) = SmallDisk::mount(&folder, 32 << 20) else {
        return;
    };
    let site = Site::configured(&folder, SUBNET).await;
    site.let_everybody_in().await;
    let idle = site.agent(MAC).await;
    let busy = site.agent(OTHER).await;
    site.order(busy.machine, capture_of("debian")).await;
    assert!(site.script(OTHER).await.contains("farrier.token="));
    let dhcp = site.boot_port(67, PortMode::Dhcp).await;
    let before = site.script(MAC).await;
    assert!(before.contains("local_disk"), "{before}");
    let held = Ipv4Addr::new(127, 9, 2, 2);
    lent_before(&site, mac(2000), held, 3000).await;

    // Nothing can be written any more, and then nothing read either.
    small.fill();
    let mut refused = 0;
    for n in 1..600 {
        refused += usize::from(lease(&dhcp, mac(n)).await == Err(Reason::NotStored));
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "an offer binds nobody, an ACK would");
    let left = renew(&dhcp, mac(2000), held).await.unwrap();
    assert!((500..=600).contains(&left), "the cached term: {left}");
    assert_eq!(renew(&dhcp, mac(2001), held).await, None, "it is another's");
    let closing = site.core.db.clone().close();
    let _ = tokio::time::timeout(Duration::from_millis(500), closing).await;
    assert!(
        site.core.db.all_leases().await.is_err(),
        "it cannot be read"
    );

    let again = site.script(MAC).await;
    assert_eq!(
        again.replace(" (database away: as last known)", ""),
        before,
        "what needs no database comes from memory, as before"
    );
    assert!(again != before, "and the menu says so");
    let script = site.script(OTHER).await;
    assert!(
        !script.contains("farrier.token=") && script.contains("stored"),
        "{script}"
    );
    assert!(
        script.contains("exit"),
        "and then the local disk starts: {script}"
    );
    let stranger = site.script(STRANGER).await;
    assert!(
        stranger.starts_with("#!ipxe") && !stranger.contains("farrier.token="),
        "{stranger}"
    );
    assert!(
        site.core
            .fleet
            .candidates(&[STRANGER.parse().unwrap()], None)
            .is_empty()
    );
    assert_eq!(status(idle.client.inventory(&inventory()).await), 503);

    for _ in 0..20 {
        site.core
            .note(idle.machine, Kind::Seen, "nobody stores this");
    }
    for _ in 0..200 {
        if site.core.timeline.dropped() >= 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let dropped = site.core.timeline.dropped();
    assert!(dropped >= 20, "{dropped} were counted as lost");
}

fn inventory() -> Inventory {
    Inventory {
        memory_bytes: 1 << 30,
        ..Inventory::default()
    }
}

#[tokio::test]
async fn r5_a_full_database_disk_acknowledges_no_lease_it_cannot_keep() {
    let data = tempfile::tempdir().unwrap();
    let Some(small) = SmallDisk::mount(&data.path().join("site"), 32 << 20) else {
        return;
    };
    let folder = data.path().join("site");
    let site = Site::configured(&folder, SUBNET).await;
    let dhcp = site.boot_port(67, PortMode::Dhcp).await;
    let first = lease(&dhcp, mac(0)).await.unwrap();
    small.fill();
    let (mut kept, mut refused) = (vec![(mac(0), first)], 0);
    // What the journal has room for already still goes through; that is well, as long as it is kept.
    for n in 1..600 {
        match lease(&dhcp, mac(n)).await {
            Ok(ip) => kept.push((mac(n), ip)),
            Err(Reason::NotStored) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        if refused == 5 {
            break;
        }
    }
    assert_eq!(
        refused,
        5,
        "{} leases went through on a full disk",
        kept.len()
    );
    println!(
        "R5: {} leases were kept before the disk took no more",
        kept.len()
    );
    small.empty();
    let later = lease(&dhcp, mac(1000))
        .await
        .expect("with room it goes on, without a restart");
    kept.push((mac(1000), later));
    drop(dhcp);
    site.kill().await;

    let site = Site::configured(&folder, SUBNET).await;
    for (mac, ip) in kept {
        assert_eq!(
            site.core.leases.holder(ip, now()),
            Some(mac),
            "{ip} was acknowledged"
        );
    }
    site.kill().await;
}

async fn captured(site: &Site, image: &str, device: MemDevice) {
    let store = site.core.store.clone();
    let handle = Handle::current();
    let image = image.parse().unwrap();
    let run = tokio::task::spawn_blocking(move || {
        let sink = LocalSink::new(store, handle, || now().0);
        let plan = capture::plan(&device, &CaptureOptions::new(image)).unwrap();
        capture::capture(&device, &plan, &sink, &Unwatched).unwrap();
    });
    run.await.unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

/// Turns one bit of a stored chunk, as a disk may.
fn damage(folder: &Path, chunk: &StoredChunk) {
    for path in files(folder) {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes
            .windows(chunk.frame.len())
            .position(|window| window == &chunk.frame[..]);
        if let Some(at) = at {
            bytes[at + chunk.frame.len() / 2] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("the chunk is in no file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t14_a_damaged_chunk_is_never_written_and_names_its_images() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    captured(&site, "debian", disk(5, 2)).await;
    captured(&site, "frontdesk", disk(5, 2)).await;
    captured(&site, "unharmed", disk(8, 2)).await;
    let opened = site
        .core
        .store
        .manifest(&"debian".parse().unwrap(), Which::Latest)
        .await
        .unwrap();
    let id = opened.manifest.chunk_ids().next().unwrap();
    let chunk = site.core.store.chunk(id).await.unwrap();
    site.kill().await;
    damage(&data.path().join("images"), &chunk);

    let site = Site::open(data.path()).await;
    let agent = site.agent(MAC).await;
    let task = site.order(agent.machine, deploy_of("debian")).await;
    let (wire, fence, work) = begin(&agent).await;
    let WireWork::Deploy { version, .. } = work else {
        panic!("{work:?}")
    };
    let signed = SignedManifest {
        bytes: agent
            .client
            .manifest("debian", version, MAX_PLAIN)
            .await
            .unwrap(),
    };
    let (manifest, _) = signed.open(&[site.core.ca.image_verifying_key()]).unwrap();
    let target = Arc::new(MemDevice::new(2 << 20));
    let remote = Remote {
        client: agent.client.clone(),
        task: wire,
        fence,
        handle: Handle::current(),
    };
    let applied = tokio::task::spawn_blocking({
        let target = Arc::clone(&target);
        move || {
            let plan = apply::plan(&*target, &manifest, Mode::Deploy).unwrap();
            apply::apply(&*target, &manifest, &plan, &remote, &Unwatched)
        }
    });
    let error = applied.await.unwrap().unwrap_err();
    let reason = chained(&error);
    assert!(reason.contains(&id.to_string()), "{reason}");
    assert!(
        first_chunk(&target).iter().all(|byte| *byte == 0),
        "nothing of the damaged chunk is on the disk"
    );

    let outcome = WireOutcome::Failed {
        reason,
        retry: false,
    };
    agent
        .client
        .result(wire, &ResultReport { fence, outcome })
        .await
        .unwrap();
    let stored = site.stored(task).await;
    assert_eq!(stored.state, State::Failed);
    let why = stored.reason.unwrap();
    assert!(
        why.contains("debian") && why.contains("frontdesk") && !why.contains("unharmed"),
        "{why}"
    );
    site.told(agent.machine, Kind::Task, "frontdesk").await;
    assert!(
        matches!(site.core.store.chunk(ChunkId(id.0)).await, Err(error) if error.to_string().contains("debian"))
    );

    // From now on the damage is known: the next deployment of it never begins.
    let refused = site.order(agent.machine, deploy_of("frontdesk")).await;
    let fine = site.order(agent.machine, deploy_of("unharmed")).await;
    let (begun, ..) = begin(&agent).await;
    assert_eq!(begun, fine.0, "what is whole is handed out");
    let stored = site.stored(refused).await;
    assert_eq!(stored.state, State::Failed);
    let why = stored.reason.unwrap();
    for word in [
        &id.to_string(),
        "debian",
        "frontdesk",
        "nothing was written",
    ] {
        assert!(why.contains(word), "{word}: {why}");
    }
    assert!(!why.contains("unharmed"), "{why}");
}

fn first_chunk(target: &MemDevice) -> Vec<u8> {
    content(target)[..256 << 10].to_vec()
}

fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn m9_a_task_goes_on_with_its_fence_when_the_server_was_killed() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    let id = site.order(agent.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(&agent).await;
    let chunk = StoredChunk::pack(&noise(1, 5000), 3);
    agent
        .client
        .put_chunks(&[(chunk.id.0, chunk.frame.clone())])
        .await
        .unwrap();
    site.kill().await;
    assert!(
        agent
            .client
            .progress(task, &progress(fence))
            .await
            .unwrap_err()
            .may_retry()
    );

    let site = Site::open(data.path()).await;
    let agent = agent.at(site.agents);
    assert_eq!(
        agent.client.missing(&[chunk.id.0]).await.unwrap(),
        [false],
        "what was acknowledged is there"
    );
    assert_eq!(
        agent
            .client
            .progress(task, &progress(fence))
            .await
            .unwrap()
            .stop,
        None
    );
    let stored = site.core.fleet.task(id).unwrap();
    assert_eq!(
        (stored.state, stored.fence, stored.attempts),
        (State::Running, fence, 1)
    );
    // Another boot meanwhile would be another attempt; this is not one.
    let device = Arc::new(disk(3, 2));
    let remote = Remote {
        client: agent.client.clone(),
        task,
        fence,
        handle: Handle::current(),
    };
    let run = tokio::task::spawn_blocking(move || {
        let plan =
            capture::plan(&*device, &CaptureOptions::new("debian".parse().unwrap())).unwrap();
        capture::capture(&*device, &plan, &remote, &Unwatched).unwrap()
    });
    run.await.unwrap();
    agent.client.result(task, &done(fence, None)).await.unwrap();
    assert_eq!(site.stored(TaskId(task)).await.state, State::Done);
}

#[tokio::test]
async fn c3_every_fault_of_the_surroundings_is_told_at_once_and_nothing_is_started() {
    let data = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = taken.local_addr().unwrap();
    let folder = data.path().join("never-made");
    let text = format!(
        "data_dir = \"{}\"\n[admin]\nlisten = \"{admin}\"\n[[interface]]\nname = \"nosuch0\"\n\
         [[interface]]\nname = \"lo\"\nmode = \"dhcp\"\naddress = \"192.0.2.1\"\n",
        folder.display()
    );
    let error = farrier_server::run(Config::parse(&text).unwrap())
        .await
        .unwrap_err();
    let faults = error
        .downcast_ref::<Faults>()
        .expect("faults of the configuration");
    assert_eq!(faults.faults.len(), 3, "{faults}");
    for (key, word) in [
        ("interface[0].name", "nosuch0"),
        ("interface[1].address", "192.0.2.1"),
        ("admin.listen", "taken"),
    ] {
        let fault = faults
            .faults
            .iter()
            .find(|fault| fault.key == key)
            .unwrap_or_else(|| panic!("no {key} in {faults}"));
        assert!(
            fault.what.contains(word) && !fault.remedy.is_empty(),
            "{faults}"
        );
    }
    assert!(!folder.exists(), "nothing was begun");

    // `cargo xtask test` names the program it built.
    let Some(program) = std::env::var_os("FARRIER_BIN") else {
        return;
    };
    let file = data.path().join("farrier.toml");
    std::fs::write(&file, &text).unwrap();
    let ended = std::process::Command::new(program)
        .arg("serve")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    for key in ["interface[0].name", "interface[1].address", "admin.listen"] {
        assert!(said.contains(key), "no {key} in {said}");
    }
}
