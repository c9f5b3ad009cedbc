//! A whole server on loopback: the real core, the real listeners, keys and folders of its own.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses another part of it"
)]
#![allow(clippy::print_stderr, reason = "a skipped test must be seen")]

pub mod dhcp;
pub mod disk;
pub mod tftp;
pub mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use farrier_api::agent::{EnrolAnswer, EnrolRequest};
use farrier_api::client::{AgentClient, AgentClientError, CaPin, Identity, ServerAddress};
use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::model::{Arch, FirmwareKind, MachineId, Registration, TaskId};
use farrier_engine::policy::{Enrolment, IpxeVariant, Settings};
use farrier_engine::task::{DiskSelector, State, Task, Then, Work};
use farrier_engine::timeline::{Entry, Kind};
use farrier_net::interface;
use farrier_net::link::LinkSender;
use farrier_server::agent_image::{AgentImage, FileRecord};
use farrier_server::boot::BootPort;
use farrier_server::boot_tree::{Asker, Channel};
use farrier_server::ca;
use farrier_server::config::{Config, Mode};
use farrier_server::core::{Core, new_id, now};
use farrier_server::http::agent;
use farrier_server::http::serve::{Limits, serve};
use farrier_server::vacancy::Vacancy;
use farrier_server::{run, script};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Who the scripts are asked for by.
pub const LOADER: Asker = Asker {
    ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    server: IpAddr::V4(Ipv4Addr::LOCALHOST),
    by: Channel::Http,
};

/// The name of the script that an answer sends the loader to.
pub fn named_in(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("/boot/named/")?;
    rest.split(' ').next()
}

/// One server and its agent plane.
pub struct Site {
    pub core: Arc<Core>,
    pub agents: SocketAddr,
    stop: watch::Sender<bool>,
    plane: JoinHandle<()>,
    storing: JoinHandle<()>,
}

impl Site {
    pub async fn open(data: &Path) -> Self {
        Self::configured(data, "").await
    }

    /// With more text in the configuration.
    pub async fn configured(data: &Path, more: &str) -> Self {
        run::install_crypto();
        agent_files(&data.join("agent"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agents = listener.local_addr().unwrap();
        let text = format!(
            "data_dir = \"{}\"\n[agent]\nport = {}\n[[interface]]\nname = \"lo\"\n{more}",
            data.display(),
            agents.port()
        );
        let (core, storing) = run::open(Config::parse(&text).unwrap()).await.unwrap();
        let tls = core.ca.agent_tls(&ca::names([agents.ip()], &[])).unwrap();
        let (stop, stopped) = watch::channel(false);
        let limits = Limits {
            total: 256,
            per_address: 128,
            bodies: 256 << 20,
        };
        let plane = tokio::spawn(serve(
            listener,
            Some(tls),
            agent::router(Arc::clone(&core)),
            limits,
            stopped,
        ));
        Self {
            core,
            agents,
            stop,
            plane,
            storing,
        }
    }

    /// As after `kill -9`: nothing is said to anybody, what was acknowledged is on the disk.
    pub async fn kill(self) {
        self.plane.abort();
        self.storing.abort();
        drop(self.stop);
        // The store's lock and the database go with the last of their users.
        let core = Arc::downgrade(&self.core);
        let db = self.core.db.clone();
        let lock = self.core.config.data_dir.join("farrier.db.lock");
        drop(self.core);
        for _ in 0..100 {
            if core.strong_count() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        db.close().await;
        // A program that another test is just starting holds what was open here until it runs.
        let lock = std::fs::File::open(lock).unwrap();
        for _ in 0..200 {
            if lock.try_lock().is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the database is still locked");
    }

    /// Lets machines in without a person.
    pub async fn let_everybody_in(&self) {
        let settings = Settings {
            enrolment: Some(Enrolment::Automatic),
            ..Settings::default()
        };
        self.core.set_site(settings).await.unwrap();
    }

    /// The boot plane of the loopback interface, as if it had come to this port.
    pub async fn boot_port(&self, port: u16, mode: Mode) -> BootPort {
        let index = interface::by_name("lo").unwrap().unwrap().index;
        let sender = Arc::new(LinkSender::open(index).expect("needs CAP_NET_RAW"));
        BootPort {
            core: Arc::clone(&self.core),
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            port,
            mode,
            address: Ipv4Addr::LOCALHOST,
            vacancy: Arc::new(Vacancy::new(index, None, Arc::clone(&sender))),
            sender,
        }
    }

    /// What a loader of this hardware address gets.
    pub async fn script(&self, mac: &str) -> String {
        self.script_for(&[("mac", mac), ("platform", "efi"), ("buildarch", "x86_64")])
            .await
    }

    pub async fn script_for(&self, says: &[(&str, &str)]) -> String {
        let answer = self.answer_for(says).await;
        match named_in(&answer) {
            Some(name) => script::named(&self.core, LOADER, name).await.unwrap(),
            None => answer,
        }
    }

    /// The answer itself, which may be the name of a script.
    pub async fn answer_for(&self, says: &[(&str, &str)]) -> String {
        let says: Vec<_> = says
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        script::render(&self.core, LOADER, &says).await
    }

    /// What the agent is told by the script that starts it. Somebody at the machine chose it.
    pub async fn boot(&self, mac: &str) -> Boot {
        let says = [
            ("mac", mac),
            ("platform", "efi"),
            ("buildarch", "x86_64"),
            ("choice", "register"),
        ];
        let text = self.script_for(&says).await;
        let argument = |name: &str| {
            let found = text
                .split_whitespace()
                .find_map(|word| word.strip_prefix(&format!("farrier.{name}=")));
            found
                .unwrap_or_else(|| panic!("no {name} in {text}"))
                .to_owned()
        };
        let [server, ca, token, mac] = ["server", "ca", "token", "mac"].map(argument);
        Boot {
            server: server.parse().unwrap(),
            ca: ca.parse().unwrap(),
            token,
            mac,
        }
    }

    /// Boots a machine and lets its agent in.
    pub async fn agent(&self, mac: &str) -> Agent {
        let boot = self.boot(mac).await;
        boot.enrolled(&new_key()).await
    }

    pub fn machine_of(&self, mac: &str) -> MachineId {
        let found = self.core.fleet.candidates(&[mac.parse().unwrap()], None);
        assert_eq!(found.len(), 1, "{mac}");
        found[0].id
    }

    pub async fn set_registration(&self, machine: MachineId, registration: Registration) {
        self.core
            .fleet
            .change_machine(machine, |m| m.registration = registration)
            .await
            .unwrap();
    }

    pub async fn order(&self, machine: MachineId, work: Work) -> TaskId {
        let task = Task {
            id: TaskId(new_id()),
            machine,
            work,
            state: State::Queued,
            fence: 0,
            attempts: 0,
            max_attempts: 5,
            created: now(),
            created_by: "ada".to_owned(),
            by_policy: false,
            expires: now() + Duration::from_secs(3600),
            heard: None,
            progress: farrier_engine::task::Progress::default(),
            reason: None,
            ended: None,
            then: Then::LocalBoot,
            revision: 0,
        };
        self.core.fleet.add_task(task).await.unwrap().id
    }

    /// The task as the database has it.
    pub async fn stored(&self, task: TaskId) -> Task {
        self.core.db.task(task).await.unwrap().unwrap()
    }

    /// The machine's timeline, newest first, once it holds an entry of `kind` that contains `part`.
    pub async fn told(&self, machine: MachineId, kind: Kind, part: &str) -> Entry {
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen = self.core.db.timeline(machine, None, 200).await.unwrap();
            if let Some(found) = seen
                .iter()
                .find(|e| e.value.kind == kind && e.value.text.contains(part))
            {
                return found.value.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "no {kind:?} with {part:?} among {:?}",
            seen.iter().map(|e| &e.value.text).collect::<Vec<_>>()
        );
    }
}

/// What a boot script tells the agent.
#[derive(Clone, Debug)]
pub struct Boot {
    pub server: ServerAddress,
    pub ca: CaPin,
    pub token: String,
    pub mac: String,
}

impl Boot {
    pub fn request(&self, key: &KeyPair) -> EnrolRequest {
        EnrolRequest {
            token: self.token.clone(),
            csr: CertificateParams::default()
                .serialize_request(key)
                .unwrap()
                .pem()
                .unwrap(),
            mac: self.mac.clone(),
            smbios_uuid: None,
            serial: "PF1ABCDE".to_owned(),
            agent_version: "0.1.0".to_owned(),
        }
    }

    pub async fn enrol(&self, key: &KeyPair) -> Result<EnrolAnswer, AgentClientError> {
        AgentClient::new(self.server, self.ca, None)
            .unwrap()
            .enrol(&self.request(key))
            .await
    }

    pub async fn enrolled(&self, key: &KeyPair) -> Agent {
        match self.enrol(key).await.unwrap() {
            EnrolAnswer::Enrolled {
                machine,
                certificate,
                ..
            } => {
                let identity = identity(&certificate, key);
                let client = AgentClient::new(self.server, self.ca, Some(identity)).unwrap();
                Agent {
                    boot: self.clone(),
                    machine: MachineId(machine),
                    certificate,
                    key: key.serialize_der(),
                    client,
                }
            }
            pending @ EnrolAnswer::Pending { .. } => panic!("{pending:?}"),
        }
    }
}

/// An agent that was let in.
#[derive(Clone, Debug)]
pub struct Agent {
    pub boot: Boot,
    pub machine: MachineId,
    pub client: AgentClient,
    certificate: String,
    key: Vec<u8>,
}

impl Agent {
    pub fn identity(&self) -> Identity {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        Identity {
            chain: chain(&self.certificate),
            key,
        }
    }

    /// The same agent, told of another address of the server.
    pub fn at(&self, server: SocketAddr) -> Self {
        let boot = Boot {
            server: ServerAddress(server),
            ..self.boot.clone()
        };
        let client = AgentClient::new(boot.server, boot.ca, Some(self.identity())).unwrap();
        Self {
            boot,
            client,
            ..self.clone()
        }
    }
}

pub fn capture_of(image: &str) -> Work {
    Work::Capture {
        image: image.to_owned(),
        disk: DiskSelector::default(),
    }
}

pub fn deploy_of(image: &str) -> Work {
    Work::Deploy {
        image: image.to_owned(),
        version: None,
        disk: DiskSelector::default(),
    }
}

/// An iPXE that nobody signed, in a few bytes.
pub fn ipxe(id: &str, file_name: &str, firmware: FirmwareKind) -> (Loader, Vec<u8>) {
    let bytes = format!("the bytes of {id}").into_bytes();
    let sha256 = digest::digest(&digest::SHA256, &bytes);
    let loader = Loader {
        id: id.into(),
        file_name: file_name.into(),
        arch: Arch::X86_64,
        firmware,
        kind: LoaderKind::Ipxe {
            variant: IpxeVariant::SnpOnly,
        },
        version: "1".into(),
        signer: None,
        sha256: sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
        size: bytes.len() as u64,
        source_package: "test".into(),
    };
    (loader, bytes)
}

/// One for PCs with BIOS and one for those with UEFI.
pub fn add_ipxe(core: &Core) {
    let loaders = vec![
        ipxe("undionly", "undionly.kpxe", FirmwareKind::Bios),
        ipxe("snponly", "snponly.efi", FirmwareKind::Uefi),
    ];
    core.loaders.add(loaders).unwrap();
    core.refresh();
}

pub fn new_key() -> KeyPair {
    KeyPair::generate().unwrap()
}

pub fn identity(certificate: &str, key: &KeyPair) -> Identity {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Identity {
        chain: chain(certificate),
        key,
    }
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(Result::unwrap)
        .collect()
}

/// The status of a refusal.
#[track_caller]
pub fn status<T: std::fmt::Debug>(result: Result<T, AgentClientError>) -> u16 {
    let error = result.unwrap_err();
    error
        .status()
        .unwrap_or_else(|| panic!("not a refusal: {error}"))
}

/// A kernel and an initial RAM disk, as `farrier agent build` leaves them, only smaller.
fn agent_files(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let file = |name: &str, content: &[u8]| {
        std::fs::write(folder.join(name), content).unwrap();
        let sha256 = digest::digest(&digest::SHA256, content)
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        FileRecord {
            name: name.to_owned(),
            bytes: content.len() as u64,
            sha256,
        }
    };
    let image = AgentImage {
        kernel_release: "6.1.0".to_owned(),
        vmlinuz: file("vmlinuz", &[0x4d; 100_000]),
        initrd: file("initrd.img", &[0x28; 3000]),
        unpacked_bytes: 1,
        agent: FileRecord {
            name: "farrier-agent".to_owned(),
            bytes: 1,
            sha256: String::new(),
        },
        modules: Vec::new(),
        firmware: Vec::new(),
    };
    std::fs::write(
        folder.join("agent-image.json"),
        serde_json::to_vec(&image).unwrap(),
    )
    .unwrap();
}

/// A small file system of its own at `path`, to be filled up; gone with the value.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this is not allowed, which is said aloud.
    pub fn mount(path: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let done = std::process::Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={bytes}"),
                "farrier-test",
            ])
            .arg(path)
            .status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(path.to_owned()));
        }
        eprintln!("SKIPPED: mounting a small file system needs root");
        None
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let ballast = self.0.join("ballast");
        for size in [1 << 16, 1 << 12, 1] {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&ballast)
                .unwrap();
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may still have files open.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}
