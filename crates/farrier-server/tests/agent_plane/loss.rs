//! T16: a network that loses every fifth packet, in a network namespace of its own.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use farrier_api::agent::{Bottleneck, Outcome, ResultReport, Work as WireWork};
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;
use farrier_image::apply::{self, Mode};
use farrier_image::manifest::{MAX_PLAIN, SignedManifest};
use farrier_image::transport::{Progress, Watch};

use super::many::{captured, remote};
use super::{MAC, begin};
use crate::site::disk::{content, disk};
use crate::site::{Site, deploy_of};

const NAME: &str = "loss::t16_a_deployment_through_a_loss_of_20_percent_is_proven";
const INSIDE: &str = "FARRIER_TEST_INSIDE";
const MIB: usize = 2;

/// The test runs itself once more, inside: its network is then its alone, and so is the loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t16_a_deployment_through_a_loss_of_20_percent_is_proven() {
    if std::env::var_os(INSIDE).is_some() {
        return deploy_through_loss().await;
    }
    let Some(lossy) = Namespace::new() else {
        return;
    };
    let inside = tokio::task::spawn_blocking(move || {
        let mut test = lossy.command(&std::env::current_exe().unwrap().display().to_string());
        test.args([NAME, "--exact", "--nocapture"]).env(INSIDE, "1");
        test.output().unwrap()
    });
    let inside = inside.await.unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    let complained = String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success(), "{said}\n{complained}");
    assert!(said.contains("1 passed"), "{said}");
    let figures = said
        .lines()
        .find(|line| line.contains("every fifth packet"));
    println!("{}", figures.unwrap());
}

async fn deploy_through_loss() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let source = Arc::new(disk(5, MIB));
    let agent = site.agent(MAC).await;
    captured(&site, &agent, &source).await;
    let id = site.order(agent.machine, deploy_of("debian")).await;

    lose(true);
    let started = Instant::now();
    let (task, fence, work) = begin(&agent).await;
    let WireWork::Deploy { version, .. } = work else {
        panic!("{work:?}")
    };
    let bytes = agent.client.manifest("debian", version, MAX_PLAIN);
    let signed = SignedManifest {
        bytes: bytes.await.unwrap(),
    };
    let keys = [site.core.ca.image_verifying_key()];
    let (manifest, _) = signed.open(&keys).unwrap();
    let source_of_chunks = remote(&agent, task, fence);
    let watch = Arc::new(Last::default());
    let watched = Arc::clone(&watch);
    let applied = tokio::task::spawn_blocking(move || {
        let target = disk(6, MIB + 1);
        let plan = apply::plan(&target, &manifest, Mode::Deploy).unwrap();
        let applied =
            apply::apply(&target, &manifest, &plan, &source_of_chunks, &*watched).unwrap();
        (target, applied)
    });
    let (target, applied) = applied.await.unwrap();
    let outcome = Outcome::Done {
        root: Some(applied.root.to_string()),
        disk: Some("sda".to_owned()),
        read_bytes: applied.checked_bytes,
        written_bytes: applied.written_bytes,
        moved_bytes: applied.fetched_bytes,
        bottleneck: Some(watch.bottleneck()),
    };
    let report = ResultReport { fence, outcome };
    agent.client.result(task, &report).await.unwrap();
    let took = started.elapsed();
    let lost = lost();
    lose(false);

    assert!(applied.proven);
    assert!(content(&target)[..MIB << 20] == content(&source)[..]);
    assert_eq!(site.stored(id).await.state, State::Done);
    site.told(agent.machine, Kind::Task, "the network was the limit")
        .await;
    assert!(
        lost > 100,
        "{lost} packets were lost: that was no bad network"
    );
    println!("{MIB} MiB in {took:.1?} through the loss of every fifth packet, {lost} of them");
}

/// What the engine told last.
#[derive(Debug, Default)]
struct Last(Mutex<Progress>);

impl Watch for Last {
    fn progress(&self, progress: &Progress) {
        *self.0.lock().unwrap() = *progress;
    }
}

impl Last {
    fn bottleneck(&self) -> Bottleneck {
        let last = *self.0.lock().unwrap();
        let network = last.network_ms;
        assert!(
            network > last.disk_ms.max(last.cpu_ms),
            "the network is not what took longest: {last:?}"
        );
        Bottleneck::Network
    }
}

/// A network namespace with its loopback, whose frames are as long as those of Ethernet.
struct Namespace(String);

impl Namespace {
    /// None where this is not allowed, which is said aloud.
    fn new() -> Option<Self> {
        let name = format!("farrier-loss-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: making a network namespace needs root");
            return None;
        }
        let made = Self(name);
        let words = "link set lo mtu 1500 gso_max_segs 1 up";
        let up = made.command("ip").args(words.split(' ')).status();
        assert!(up.unwrap().success());
        Some(made)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.0])
            .status();
    }
}

/// Loses every fifth TCP packet by chance, in both directions, as it comes in: what a host drops as it goes out, TCP
/// would know of.
fn lose(on: bool) {
    let rules = if on {
        "add table inet loss
         add chain inet loss in { type filter hook input priority 0 ; }
         add rule inet loss in meta l4proto tcp numgen random mod 100 < 20 counter drop"
    } else {
        "delete table inet loss"
    };
    let done = Command::new("nft").arg(rules).status();
    assert!(done.unwrap().success(), "{rules}");
}

fn lost() -> u64 {
    let mut list = Command::new("nft");
    let shown = list
        .args(["list", "table", "inet", "loss"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout);
    let mut words = shown.split_whitespace().skip_while(|w| *w != "packets");
    words.nth(1).unwrap().parse().unwrap()
}
