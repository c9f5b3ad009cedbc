//! A small site to test against: people of each role, machines with nasty texts, an image, tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use farrier_db::{ApiToken, Secret, User, WebSession};
use farrier_engine::WallTime;
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::model::{
    Arch, CpuInfo, Disk, FirmwareKind, HostName, Inventory, MacText, Machine, MachineId, Nic,
    Registration, Role, SystemInfo, TaskId, UserId,
};
use farrier_engine::policy::Settings;
use farrier_engine::task::{Bottleneck, DiskSelector, Progress, State, Task, Then, Work};
use farrier_engine::timeline::{Entry, Kind};
use farrier_image::chunk::{CHUNK_SIZE, StoredChunk};
use farrier_image::manifest::{DiskShape, FORMAT, Manifest, Run, Table, Volume, VolumeKind};
use farrier_server::auth::token;
use farrier_server::config::Config;
use farrier_server::core::{Core, new_id, now};
use farrier_server::http::admin;
use farrier_server::service::Door;
use uuid::Uuid;

/// What strangers call themselves.
pub const SCRIPT: &str = "<script>alert(1)</script>";
pub const BIDI: &str = "innocent\u{202e}gnp.exe";
pub const IMG: &str = "\"><img src=x onerror=alert(1)>";

pub struct World {
    pub core: Arc<Core>,
    pub door: Arc<Door>,
    pub router: Router,
    pub machine: Uuid,
    pub pending: Uuid,
    pub task: Uuid,
    pub ended: Uuid,
    pub folder: Option<tempfile::TempDir>,
}

/// A world in a folder of its own.
pub async fn world() -> World {
    let data = tempfile::tempdir().unwrap();
    let mut world = empty(data.path()).await;
    seed(&mut world).await;
    world.folder = Some(data);
    world
}

/// A server that was just started for the first time.
pub async fn fresh() -> World {
    let data = tempfile::tempdir().unwrap();
    let mut world = empty(data.path()).await;
    world.folder = Some(data);
    world
}

pub async fn empty(data: &Path) -> World {
    let config = Config {
        data_dir: data.to_owned(),
        boot_http_port: 8067,
        end_ipv6_wait: true,
        boot_tls: None,
        tftp: farrier_server::config::TftpConfig::default(),
        agent_port: 8444,
        admin: "127.0.0.1:8443".parse().unwrap(),
        admin_names: Vec::new(),
        interfaces: Vec::new(),
        subnets: Vec::new(),
        classes: Vec::new(),
        subnets6: Vec::new(),
    };
    let (core, _) = farrier_server::run::open(config).await.unwrap();
    let door = Arc::new(Door::new(Arc::clone(&core), None));
    let router = admin::build(Arc::clone(&door));
    let nobody = Uuid::nil();
    World {
        core,
        door,
        router,
        machine: nobody,
        pending: nobody,
        task: nobody,
        ended: nobody,
        folder: None,
    }
}

pub async fn seed(world: &mut World) {
    let core = Arc::clone(&world.core);
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        credentials(&core, role).await;
    }
    image(&core, "lab-debian", 1).await;
    image(&core, "lab-debian", 2).await;
    image(&core, "frontdesk", 7).await;
    world.machine = machine(
        &core,
        "52:54:00:00:00:01",
        Some("lab-01"),
        Registration::Approved,
        "PF1ABCDE",
    )
    .await;
    world.pending = machine(
        &core,
        "52:54:00:00:00:02",
        None,
        Registration::Pending,
        SCRIPT,
    )
    .await;
    machine(
        &core,
        "52:54:00:00:00:03",
        Some("lab-03"),
        Registration::Approved,
        BIDI,
    )
    .await;
    machine(&core, "52:54:00:00:00:04", None, Registration::Seen, IMG).await;
    world.task = task(&core, world.machine, State::Running).await;
    world.ended = task(&core, world.machine, State::Failed).await;
    let lease = Lease {
        ip: "10.0.0.50".parse().unwrap(),
        mac: "52:54:00:00:00:04".parse().unwrap(),
        client_id: None,
        hostname: Some(IMG.to_owned()),
        state: LeaseState::Active,
        starts: now(),
        ends: now() + Duration::from_secs(3600),
    };
    core.db.save_lease(&lease).await.unwrap();
    story(&core, MachineId(world.pending)).await;
}

/// The bearer token of a role.
pub fn bearer(role: Role) -> String {
    format!("farrier_test-{role:?}")
}

/// The session token of a role.
pub fn session(role: Role) -> String {
    format!("session-{role:?}")
}

pub const CSRF: &str = "csrf-of-the-session";
/// Of a session that is over, of one whose user was disabled, and of an API token that is over.
pub const ENDED: [&str; 2] = ["session-over", "session-disabled"];
pub const ENDED_TOKEN: &str = "farrier_over";

async fn credentials(core: &Core, role: Role) {
    let at = now();
    let api = |name: String, secret: &str, expires| ApiToken {
        hash: token::hash(secret),
        name,
        role,
        created: at,
        expires,
        last_used: None,
    };
    core.db
        .create_api_token(&api(format!("t-{role:?}"), &bearer(role), None))
        .await
        .unwrap();
    let id = person(core, &format!("{role:?}").to_lowercase(), role, false).await;
    sign_in(core, id, &session(role), at + Duration::from_secs(3600)).await;
    if role != Role::Admin {
        return;
    }
    let over = Some(WallTime(at.0 - 1));
    core.db
        .create_api_token(&api("over".to_owned(), ENDED_TOKEN, over))
        .await
        .unwrap();
    sign_in(core, id, ENDED[0], WallTime(at.0 - 1)).await;
    let disabled = person(core, "gone", Role::Admin, true).await;
    sign_in(core, disabled, ENDED[1], at + Duration::from_secs(3600)).await;
}

async fn person(core: &Core, name: &str, role: Role, disabled: bool) -> UserId {
    let id = UserId(new_id());
    // A hash of nothing anybody types; tests of passwords make their own user.
    let password =
        Secret("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA".to_owned());
    let user = User {
        id,
        name: name.to_owned(),
        password,
        role,
        disabled,
        created: now(),
    };
    core.db.create_user(&user).await.unwrap();
    id
}

async fn sign_in(core: &Core, user: UserId, secret: &str, ends: WallTime) {
    let session = WebSession {
        hash: token::hash(secret),
        user,
        csrf: Secret(CSRF.to_owned()),
        created: now(),
        idle_until: ends,
        ends,
    };
    core.db.create_web_session(&session).await.unwrap();
}

pub async fn machine(
    core: &Core,
    mac: &str,
    name: Option<&str>,
    registration: Registration,
    serial: &str,
) -> Uuid {
    let id = MachineId(new_id());
    let disk = |name: &str, serial: &str, size_bytes| Disk {
        name: name.to_owned(),
        size_bytes,
        logical_sector: 512,
        physical_sector: 4096,
        model: "Samsung PM9A1".to_owned(),
        serial: serial.to_owned(),
        wwn: String::new(),
        bus: "nvme".to_owned(),
        rotational: false,
        removable: false,
        table: Some("gpt".to_owned()),
    };
    let inventory = Inventory {
        system: SystemInfo {
            manufacturer: "LENOVO".to_owned(),
            product: "ThinkCentre M70q Gen 3".to_owned(),
            serial: serial.to_owned(),
            bios_vendor: "LENOVO".to_owned(),
            bios_version: "M3JKT43A".to_owned(),
            ..SystemInfo::default()
        },
        cpu: CpuInfo {
            model: "Intel Core i5-12400T".to_owned(),
            sockets: 1,
            cores: 6,
            threads: 12,
        },
        memory_bytes: 16 << 30,
        nics: vec![Nic {
            name: "eth0".to_owned(),
            mac: MacText(mac.parse().unwrap()),
            pci_id: "8086:1a1d".to_owned(),
            driver: "e1000e".to_owned(),
            link_up: true,
            boot: true,
        }],
        disks: vec![
            disk("nvme0n1", "S676NX0R", 512_110_190_592),
            disk("nvme1n1", "S676NX0T", 1_024_209_543_168),
        ],
        uefi: true,
        secure_boot: Some(true),
        tpm: Some("2.0".to_owned()),
        pci_without_driver: vec!["8086:51f1".to_owned()],
    };
    let machine = Machine {
        id,
        name: name.map(|n| HostName::try_from(n.to_owned()).unwrap()),
        registration,
        macs: vec![mac.parse().unwrap()],
        uuid: Some(new_id()),
        firmware: Some(FirmwareKind::Uefi),
        arch: Some(Arch::X86_64),
        group: None,
        settings: Settings::default(),
        intent: None,
        learned: None,
        inventory: Some(inventory),
        first_seen: WallTime(now().0 - 86_400_000),
        last_seen: WallTime(now().0 - 90_000),
        revision: 0,
    };
    core.fleet.add_machine(machine).await.unwrap();
    id.0
}

pub async fn task(core: &Core, machine: Uuid, state: State) -> Uuid {
    let id = TaskId(new_id());
    let ended = state.is_ended();
    let task = Task {
        id,
        machine: MachineId(machine),
        work: Work::Deploy {
            image: "lab-debian".to_owned(),
            version: Some(2),
            disk: DiskSelector {
                serial: Some("S676NX0R".to_owned()),
                ..DiskSelector::default()
            },
        },
        state,
        fence: 1,
        attempts: 1,
        max_attempts: 3,
        created: WallTime(now().0 - 60_000),
        created_by: "ada".to_owned(),
        by_policy: false,
        expires: now() + Duration::from_secs(3600),
        heard: Some(now()),
        progress: Progress {
            phase: "writing the disk".to_owned(),
            done_bytes: 11 << 30,
            total_bytes: 24 << 30,
            bytes_per_second: 312 << 20,
            bottleneck: Some(Bottleneck::Network),
        },
        reason: ended.then(|| "The disk S676NX0R is too small: choose a larger one.".to_owned()),
        ended: ended.then(now),
        then: Then::LocalBoot,
        revision: 0,
    };
    core.fleet.add_task(task).await.unwrap();
    id.0
}

/// A version of an image whose content is made from `seed`.
pub async fn image(core: &Core, name: &str, seed: u8) {
    let chunks: Vec<_> = (0..24u8)
        .map(|n| StoredChunk::pack(&content(seed, n), 3))
        .collect();
    let ids: Vec<_> = chunks.iter().map(|c| Some(c.id)).collect();
    core.store.put(chunks).await.unwrap();
    let len = 24 * CHUNK_SIZE as u64;
    let manifest = Manifest {
        format: FORMAT,
        image: name.parse().unwrap(),
        version: 0,
        created_ms: 0,
        source: "lab-01, nvme0n1".to_owned(),
        disk: DiskShape {
            size_bytes: len,
            logical_sector: 512,
        },
        table: Table::None,
        volumes: vec![Volume {
            kind: VolumeKind::Raw,
            partition: None,
            start_bytes: 0,
            len_bytes: len,
            label: "root".to_owned(),
            fs_uuid: String::new(),
            block_bytes: 4096,
            used: vec![Run {
                first: 0,
                count: len / 4096,
            }],
            chunks: ids,
        }],
    };
    core.store.commit(manifest, now().0).await.unwrap();
}

/// Half of the chunks are the same whatever the seed; all of them compress, as disks do.
fn content(seed: u8, n: u8) -> Vec<u8> {
    let mut state = u64::from(n)
        + 1
        + if n.is_multiple_of(2) {
            0
        } else {
            u64::from(seed) * 1000
        };
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..CHUNK_SIZE / 32)
        .flat_map(|_| next().into_iter().chain([0; 24]))
        .collect()
}

async fn story(core: &Core, machine: MachineId) {
    let entry = |ago: i64, kind, text: &str, details: &[(&str, &str)]| Entry {
        machine,
        at: WallTime(now().0 - ago * 1000),
        kind,
        text: text.to_owned().into(),
        details: details
            .iter()
            .map(|(a, b)| ((*a).to_owned().into(), (*b).to_owned().into()))
            .collect(),
    };
    let entries = [
        entry(
            95,
            Kind::Seen,
            "It asks for an address and a boot program (DHCPDISCOVER, UEFI x86-64).",
            &[("interface", "eth0"), ("host name", IMG)],
        ),
        entry(
            94,
            Kind::Answered,
            "We named the boot program ipxe-snponly-x86_64.efi.",
            &[("from", "10.0.0.2")],
        ),
        entry(
            92,
            Kind::Transfer,
            "It fetched ipxe-snponly-x86_64.efi by TFTP, 241 KiB in 0.4 s.",
            &[("block size", "1468")],
        ),
        entry(
            90,
            Kind::Refused,
            "It asks to keep an address that we have no record of.",
            &[],
        ),
        entry(
            88,
            Kind::Agent,
            &format!("Its agent calls itself {SCRIPT} and waits; its code is 4711."),
            &[("agent", BIDI)],
        ),
        entry(
            20,
            Kind::Warning,
            "Another DHCP server answers boot clients here: 10.0.0.9. Switch its boot options off.",
            &[],
        ),
    ];
    core.db.append_timeline(&entries).await.unwrap();
}
