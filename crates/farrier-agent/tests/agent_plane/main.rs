//! The agent against a server in the same process: enrolment and its refusals (trust T12), work and its results.

mod server;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use farrier_agent::arguments::Arguments;
use farrier_agent::enrol::{EnrolError, Enrolled, Hardware, enrol};
use farrier_agent::screen::Screen;
use farrier_agent::work::{self, Agent};
use farrier_api::agent::{DiskSelector, EnrolRequest, Leave, Order, Outcome, Work};
use farrier_api::client::{AgentClient, AgentClientError, CaPin, Patience, ServerAddress};
use server::{Authority, Face, MACHINE, Plane, TOKEN, start};
use tempfile::TempDir;
use uuid::Uuid;

fn arguments(server: ServerAddress, ca: CaPin) -> Arguments {
    let mac = "52:54:00:12:34:56".parse().unwrap();
    Arguments {
        server,
        ca,
        token: TOKEN.into(),
        mac,
        address: None,
        time: None,
    }
}

fn request() -> EnrolRequest {
    EnrolRequest {
        token: TOKEN.into(),
        csr: String::new(),
        mac: String::new(),
        smbios_uuid: None,
        serial: String::new(),
        agent_version: String::new(),
    }
}

async fn refusal(server: ServerAddress, ca: CaPin) -> AgentClientError {
    AgentClient::new(server, ca, None)
        .unwrap()
        .enrol(&request())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn t12_another_authority_is_refused() {
    let plane = Arc::new(Plane::new());
    let server = start(&plane, Face::default()).await;
    let error = refusal(server, Authority::new().pin()).await;
    assert!(
        matches!(error, AgentClientError::Untrusted { .. }),
        "{error:?}"
    );
    assert_eq!(plane.token_used.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn t12_a_certificate_for_another_address_is_refused() {
    let plane = Arc::new(Plane::new());
    let face = Face {
        address_in_certificate: Ipv4Addr::new(127, 0, 0, 2).into(),
        ..Face::default()
    };
    let server = start(&plane, face).await;
    let error = refusal(server, plane.authority.pin()).await;
    assert!(
        matches!(error, AgentClientError::Untrusted { .. }),
        "{error:?}"
    );
}

/// Seen from a clock that is years ahead, the certificate of every server has ended: `init::fix_clock` has to come
/// first.
#[tokio::test]
async fn r10_a_clock_that_is_ahead_ends_certificates() {
    let plane = Arc::new(Plane::new());
    let face = Face {
        last_year: 2020,
        ..Face::default()
    };
    let server = start(&plane, face).await;
    let error = refusal(server, plane.authority.pin()).await;
    assert!(
        matches!(error, AgentClientError::Untrusted { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn t12_a_server_without_tls_1_3_is_refused() {
    let plane = Arc::new(Plane::new());
    let server = start(
        &plane,
        Face {
            version: &rustls::version::TLS12,
            ..Face::default()
        },
    )
    .await;
    let error = refusal(server, plane.authority.pin()).await;
    assert!(
        matches!(error, AgentClientError::Untrusted { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn t12_a_token_works_once() {
    let plane = Arc::new(Plane::new());
    let server = start(&plane, Face::default()).await;
    let arguments = arguments(server, plane.authority.pin());
    let screen = Screen::default();
    let first = enrol(&arguments, &Hardware::default(), &screen)
        .await
        .unwrap();
    assert_eq!(
        (first.machine, first.name.as_deref()),
        (MACHINE, Some("lab-1"))
    );
    let replay = enrol(&arguments, &Hardware::default(), &screen)
        .await
        .unwrap_err();
    assert!(matches!(replay, EnrolError::Refused(_)), "{replay:?}");
    assert!(
        replay.to_string().contains("boot the machine again"),
        "{replay}"
    );
}

#[tokio::test]
async fn t12_without_a_certificate_nothing_but_enrolment_answers() {
    let plane = Arc::new(Plane::new());
    let server = start(&plane, Face::default()).await;
    let client = AgentClient::new(server, plane.authority.pin(), None).unwrap();
    let error = client.work(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert_eq!(plane.uncertified.load(Ordering::SeqCst), 1);
}

/// The server answers late, and with a refusal, since the body is no manifest: whoever waits hears it.
#[tokio::test]
async fn a_commit_may_take_longer_than_any_other_answer() {
    let plane = Arc::new(Plane::new());
    let server = start(&plane, Face::default()).await;
    plane.commit_ms.store(1500, Ordering::SeqCst);
    let ms = Duration::from_millis;
    for (commit, expected) in [(ms(300), None), (ms(20_000), Some(400))] {
        let patience = Patience {
            answer: ms(300),
            commit,
        };
        let (pin, identity) = (plane.authority.pin(), plane.authority.identity());
        let client = AgentClient::with_patience(server, pin, Some(identity), patience).unwrap();
        let error = client
            .commit(MACHINE, 1, vec![0], 1 << 20)
            .await
            .unwrap_err();
        assert_eq!(error.status(), expected, "{commit:?}: {error:?}");
    }
}

/// A machine made of files: two disks, and what the inventory wants to see of them.
struct Machine {
    root: TempDir,
    plane: Arc<Plane>,
    screen: Arc<Screen>,
    agent: Agent,
}

const DISK: usize = 3 << 20;

impl Machine {
    async fn enrolled() -> Self {
        let plane = Arc::new(Plane::new());
        let server = start(&plane, Face::default()).await;
        let root = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..DISK)
            .map(|at| {
                if at < DISK / 2 {
                    ((at * 7) >> 5) as u8
                } else {
                    0
                }
            })
            .collect();
        add_disk(root.path(), "vda", "ONE", &content);
        add_disk(root.path(), "vdb", "TWO", &vec![0xee; DISK]);
        let screen = Arc::new(Screen::default());
        let arguments = arguments(server, plane.authority.pin());
        let enrolled = enrol(&arguments, &Hardware::default(), &screen)
            .await
            .unwrap();
        let Enrolled {
            client, image_keys, ..
        } = enrolled;
        let place = root.path().to_owned();
        let agent = Agent {
            client,
            image_keys,
            mac: arguments.mac,
            root: place,
            screen: Arc::clone(&screen),
        };
        Self {
            root,
            plane,
            screen,
            agent,
        }
    }

    /// Runs `works` to their end and returns the outcomes.
    async fn run(&self, works: impl IntoIterator<Item = Work>) -> Vec<Outcome> {
        let runs = works.into_iter().zip(1..).map(|(work, fence)| Order::Run {
            task: Uuid::from_u128(1),
            fence,
            work,
        });
        self.plane
            .orders
            .lock()
            .unwrap()
            .extend(runs.chain([Order::Leave {
                how: Leave::LocalBoot,
            }]));
        let way = work::run(&self.agent).await.unwrap();
        assert_eq!(way.how, Leave::LocalBoot);
        std::mem::take(&mut *self.plane.outcomes.lock().unwrap())
    }

    fn disk(&self, name: &str) -> Vec<u8> {
        fs::read(self.root.path().join("dev").join(name)).unwrap()
    }

    fn said(&self) -> String {
        self.screen.take_unsent(usize::MAX).join("\n")
    }
}

fn add_disk(root: &Path, name: &str, serial: &str, content: &[u8]) {
    let block = root.join("sys/block").join(name);
    fs::create_dir_all(block.join("queue")).unwrap();
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::write(block.join("size"), (content.len() / 512).to_string()).unwrap();
    fs::write(block.join("serial"), serial).unwrap();
    fs::write(root.join("dev").join(name), content).unwrap();
}

fn serial(serial: &str) -> DiskSelector {
    DiskSelector {
        serial: Some(serial.into()),
        ..DiskSelector::default()
    }
}

fn capture() -> Work {
    Work::Capture {
        image: "golden".into(),
        disk: serial("ONE"),
    }
}

fn root_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done {
            root: Some(root), ..
        } => root.clone(),
        other => panic!("not done: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_disk_comes_back_on_another() {
    let machine = Machine::enrolled().await;
    let captured = machine.run([Work::Inventory, capture()]).await;
    assert_eq!(machine.plane.inventories.lock().unwrap()[0].disks.len(), 2);
    let root = root_of(&captured[1]);
    let deploy = Work::Deploy {
        image: "golden".into(),
        version: 1,
        root: root.clone(),
        disk: serial("TWO"),
    };
    let deployed = machine.run([deploy]).await;
    assert_eq!(root_of(&deployed[0]), root);
    assert_eq!(machine.disk("vdb"), machine.disk("vda"));
    assert_eq!(machine.plane.uncertified.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_server_that_fails_in_between_is_waited_for() {
    let machine = Machine::enrolled().await;
    machine.plane.faults.store(3, Ordering::SeqCst);
    let root = root_of(&machine.run([capture()]).await[0]);
    machine.plane.faults.store(3, Ordering::SeqCst);
    let repair = Work::Repair {
        image: "golden".into(),
        version: 1,
        root,
        disk: serial("TWO"),
    };
    let outcomes = machine.run([repair]).await;
    assert!(matches!(outcomes[0], Outcome::Done { .. }), "{outcomes:?}");
    assert_eq!(machine.disk("vdb"), machine.disk("vda"));
    assert!(machine.said().contains("back after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pains_7_an_ambiguous_disk_is_refused_before_any_write() {
    let machine = Machine::enrolled().await;
    let root = root_of(&machine.run([capture()]).await[0]);
    let before = machine.disk("vdb");
    let any = DiskSelector::default();
    let deploy = Work::Deploy {
        image: "golden".into(),
        version: 1,
        root,
        disk: any,
    };
    let outcomes = machine.run([deploy]).await;
    let Outcome::Failed { reason, retry } = &outcomes[0] else {
        panic!("{outcomes:?}")
    };
    assert!(
        reason.contains("2 disks") && reason.contains("ONE") && reason.contains("TWO"),
        "{reason}"
    );
    assert!(!retry);
    assert_eq!(machine.disk("vdb"), before);
    assert!(machine.said().contains("deploy failed: 2 disks"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_other_than_ordered_is_refused_before_any_write() {
    let machine = Machine::enrolled().await;
    machine.run([capture()]).await;
    let before = machine.disk("vdb");
    let root = "00".repeat(32);
    let deploy = Work::Deploy {
        image: "golden".into(),
        version: 1,
        root,
        disk: serial("TWO"),
    };
    let outcomes = machine.run([deploy]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Failed { reason, .. } if reason.contains("root")),
        "{outcomes:?}"
    );
    assert_eq!(machine.disk("vdb"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_an_image_signed_by_somebody_else_is_refused() {
    let mut machine = Machine::enrolled().await;
    let root = root_of(&machine.run([capture()]).await[0]);
    machine.agent.image_keys = vec![[1; 32]];
    let deploy = Work::Deploy {
        image: "golden".into(),
        version: 1,
        root,
        disk: serial("TWO"),
    };
    let outcomes = machine.run([deploy]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Failed { reason, .. } if reason.contains("not trusted")),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_person_may_have_to_approve() {
    let plane = Arc::new(Plane::new());
    plane.pending.store(1, Ordering::SeqCst);
    let server = start(&plane, Face::default()).await;
    let screen = Screen::default();
    enrol(
        &arguments(server, plane.authority.pin()),
        &Hardware::default(),
        &screen,
    )
    .await
    .unwrap();
    assert!(
        screen
            .take_unsent(9)
            .iter()
            .any(|line| line.contains("K7-42"))
    );
}
