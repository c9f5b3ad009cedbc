//! A disk is captured, deployed and repaired, as the agent does it.

use std::sync::Arc;

use farrier_api::agent::Work as WireWork;
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;
use farrier_image::apply::{self, Mode};
use farrier_image::capture::{self, CaptureOptions};
use farrier_image::device::BlockDevice;
use farrier_image::manifest::{MAX_PLAIN, SignedManifest};
use farrier_image::transport::Unwatched;
use tokio::runtime::Handle;

use super::{MAC, begin, done, repair};
use crate::site::disk::{Remote, content, disk, noise};
use crate::site::{Site, capture_of, deploy_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_disk_is_captured_deployed_and_repaired_over_the_network() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    let source = Arc::new(disk(5, 8));

    let id = site.order(agent.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(&agent).await;
    let remote = Remote {
        client: agent.client.clone(),
        task,
        fence,
        handle: Handle::current(),
    };
    let captured = tokio::task::spawn_blocking({
        let source = Arc::clone(&source);
        move || {
            let plan =
                capture::plan(&*source, &CaptureOptions::new("debian".parse().unwrap())).unwrap();
            capture::capture(&*source, &plan, &remote, &Unwatched).unwrap()
        }
    });
    let captured = captured.await.unwrap();
    let keys = [site.core.ca.image_verifying_key()];
    let (_, root) = captured.signed.open(&keys).unwrap();
    agent
        .client
        .result(task, &done(fence, Some(root.to_string())))
        .await
        .unwrap();
    assert_eq!(site.stored(id).await.state, State::Done);
    site.told(agent.machine, Kind::Task, "debian version 1 was captured")
        .await;

    let target = Arc::new(disk(6, 9));
    for (work, mode) in [
        (deploy_of("debian"), Mode::Deploy),
        (repair("debian"), Mode::Repair),
    ] {
        if mode == Mode::Repair {
            target.write_at(1 << 20, &noise(7, 4096)).unwrap();
        }
        let id = site.order(agent.machine, work).await;
        let (task, fence, work) = begin(&agent).await;
        let (WireWork::Deploy { version, root, .. } | WireWork::Repair { version, root, .. }) =
            work
        else {
            panic!("{work:?}")
        };
        let signed = SignedManifest {
            bytes: agent
                .client
                .manifest("debian", version, MAX_PLAIN)
                .await
                .unwrap(),
        };
        let (manifest, signed_root) = signed.open(&keys).unwrap();
        assert_eq!(signed_root.to_string(), root);
        let remote = Remote {
            client: agent.client.clone(),
            task,
            fence,
            handle: Handle::current(),
        };
        let applied = tokio::task::spawn_blocking({
            let target = Arc::clone(&target);
            move || {
                let plan = apply::plan(&*target, &manifest, mode).unwrap();
                apply::apply(&*target, &manifest, &plan, &remote, &Unwatched).unwrap()
            }
        });
        let applied = applied.await.unwrap();
        assert!(applied.proven);
        if mode == Mode::Repair {
            assert_eq!(
                (applied.different.len(), applied.fetched_chunks),
                (1, 1),
                "only what differs moves"
            );
            let (patched, moved) = (applied.patched_chunks, applied.fetched_bytes);
            assert!(
                patched == 1 && moved < 3 * 4096,
                "{moved} bytes moved for one block of noise"
            );
        }
        agent
            .client
            .result(task, &done(fence, Some(applied.root.to_string())))
            .await
            .unwrap();
        assert_eq!(site.stored(id).await.state, State::Done);
        assert!(
            content(&target)[..8 << 20] == content(&source)[..],
            "{mode:?}"
        );
    }
}
