//! Evidence that contradicts itself: one address on two machines, one machine with several, UUIDs that many
//! boards share.

mod site;

use std::time::Duration;

use farrier_engine::model::Registration;
use farrier_engine::task::Work;
use farrier_engine::timeline::Kind;
use site::{Site, new_key};

const ONE: &str = "52:54:00:00:00:01";
const OTHER: &str = "52:54:00:00:00:02";
const UUID: &str = "11111111-2222-3333-4444-555555555551";
const ANOTHER: &str = "99999999-8888-7777-6666-555555555552";

async fn boots(site: &Site, mac: &str, uuid: &str) -> String {
    let says = [
        ("mac", mac),
        ("uuid", uuid),
        ("platform", "efi"),
        ("buildarch", "x86_64"),
    ];
    site.script_for(&says).await
}

/// R9: a second machine shows up under the hardware address of a first that has work. It gets none of it, it
/// reads why on its screen, the first one's timeline says so, and the first goes on working.
#[tokio::test]
async fn r9_one_address_on_two_machines_gives_the_second_no_work() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    boots(&site, ONE, UUID).await;
    let machine = site.machine_of(ONE);
    site.set_registration(machine, Registration::Approved).await;
    site.order(machine, Work::Inventory).await;
    assert!(boots(&site, ONE, UUID).await.contains("farrier.token="));

    let script = boots(&site, ONE, ANOTHER).await;
    assert!(!script.contains("farrier.token="), "{script}");
    assert!(script.contains("fits more than one machine"), "{script}");
    assert_eq!(site.core.fleet.machine_count(), 1, "no guess is stored");
    site.told(machine, Kind::Warning, "fits more than one machine")
        .await;

    let first = boots(&site, ONE, UUID).await;
    assert!(first.contains("farrier.token="), "{first}");
}

/// X2: a loader that lost patience asks again while its first request is being answered.
#[tokio::test]
async fn x2_a_stranger_that_asks_several_times_at_once_is_one_machine() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let ask = || boots(&site, ONE, UUID);
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    assert_eq!(site.core.fleet.machine_count(), 1);
    for script in [first, second, third] {
        assert!(script.contains("farrier.token="), "{script}");
    }
}

/// X2: the same where the loader hangs up first: what it caused to be stored is stored.
#[tokio::test]
async fn x2_a_stranger_that_hangs_up_and_asks_again_is_one_machine() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let hung_up = tokio::time::timeout(Duration::ZERO, boots(&site, ONE, UUID)).await;
    assert!(hung_up.is_err(), "it was answered at once");
    let script = boots(&site, ONE, UUID).await;
    assert!(script.contains("farrier.token="), "{script}");
    assert_eq!(site.core.fleet.machine_count(), 1);
    assert_eq!(site.core.db.machine_total().await.unwrap(), 1);
}

/// R9: a dock or card of one machine in another, which its UUID tells: it does not lend the first one's work.
#[tokio::test]
async fn r9_an_address_that_was_lent_does_not_lend_its_machines_work() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    boots(&site, ONE, UUID).await;
    boots(&site, OTHER, ANOTHER).await;
    for mac in [ONE, OTHER] {
        site.set_registration(site.machine_of(mac), Registration::Approved)
            .await;
    }
    site.order(site.machine_of(ONE), Work::Inventory).await;
    let script = boots(&site, ONE, ANOTHER).await;
    assert!(!script.contains("farrier.token="), "{script}");
    assert!(boots(&site, ONE, UUID).await.contains("farrier.token="));
    site.order(site.machine_of(OTHER), Work::Inventory).await;
    let script = boots(&site, ONE, ANOTHER).await;
    assert!(
        script.contains("farrier.token="),
        "its own work it gets: {script}"
    );
    assert_eq!(site.core.fleet.machine_count(), 2);
}

/// F10: docks and second cards: several addresses with one UUID are one machine.
#[tokio::test]
async fn r9_several_addresses_with_one_uuid_are_one_machine() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    boots(&site, ONE, UUID).await;
    let machine = site.machine_of(ONE);
    let script = boots(&site, OTHER, UUID).await;
    assert!(!script.contains("fits more than one machine"), "{script}");
    assert_eq!(site.core.fleet.machine_count(), 1);
    // Its agent gets in under the address it was known by.
    let boot = site.boot(ONE).await;
    assert_eq!(boot.enrolled(&new_key()).await.machine, machine);
}

/// Boards that all carry the same UUID, or none, are told apart by their addresses.
#[tokio::test]
async fn r9_uuids_that_many_boards_share_are_no_evidence() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let shared = [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        "44444444-4444-4444-4444-444444444444",
    ];
    for (n, uuid) in shared.iter().enumerate() {
        for board in 0..3 {
            let mac = format!("52:54:00:00:{n:02x}:{board:02x}");
            let script = boots(&site, &mac, uuid).await;
            assert!(
                !script.contains("fits more than one machine"),
                "{uuid}: {script}"
            );
            let machine = site.core.fleet.machine(site.machine_of(&mac)).unwrap();
            assert_eq!(machine.uuid, None, "{uuid}");
        }
    }
    assert_eq!(site.core.fleet.machine_count(), 15);
}
