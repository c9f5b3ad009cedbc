//! Machines nobody made: T10.

use std::time::{Duration, Instant};

use farrier_engine::model::Registration;
use farrier_engine::task::Work;
use farrier_server::core::now;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::LOOPBACK;
use super::http::{LIMITS, http};
use crate::site::Site;
use crate::site::wire::read_answer;

/// Invented hardware addresses that fetch scripts, a thousand and more: few become machines, and who is on
/// record notices nothing.
#[tokio::test]
async fn t10_invented_addresses_do_not_fill_the_database() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (at, _stop) = http(&site, vec![LOOPBACK], LIMITS).await;
    let known = "52:54:00:00:00:01";
    site.script(known).await;
    site.set_registration(site.machine_of(known), Registration::Approved)
        .await;
    let usual = site.script(known).await;
    let start = Instant::now();
    let mut stream = TcpStream::connect(at).await.unwrap();
    let mut turned_away = 0;
    for n in 0..5000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let mac = format!("02:00:00:{a:02x}:{b:02x}:{c:02x}");
        let asked = format!(
            "GET /boot/script?mac={mac}&platform=efi&buildarch=x86_64 HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await.unwrap();
        assert_eq!(answer.status, 200);
        turned_away += usize::from(answer.text().contains("Too many unknown machines"));
        if n % 500 == 499 {
            let asked = Instant::now();
            let script = site.script(known).await;
            assert_eq!(script.lines().count(), usual.lines().count(), "{script}");
            assert!(asked.elapsed() < Duration::from_secs(1));
        }
    }
    // Work for it starts its agent, from the very address where all the others asked.
    site.order(site.machine_of(known), Work::Inventory).await;
    let script = site.script(known).await;
    assert!(script.contains("farrier.token="), "{script}");
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    let machines = site.core.fleet.machine_count();
    println!(
        "T10: 5000 invented addresses in {seconds} s: {machines} machines, {turned_away} turned away"
    );
    assert!(machines <= 1 + 256 + 4 * seconds, "{machines} machines");
    assert_eq!(machines - 1 + turned_away, 5000);
    let counted = site.core.counters.values();
    assert!(
        counted.contains(&("too_many_strangers", turned_away as u64)),
        "{counted:?}"
    );
    let told = site.core.sightings.strangers();
    assert!(told.len() <= 4096);
    assert!(
        told[0].1.text.contains("Too many unknown machines"),
        "{:?}",
        told[0]
    );
}

/// Where no more unconfirmed machines fit, one that was seen once and long ago makes room.
#[tokio::test]
async fn t10_what_was_seen_once_is_forgotten_first() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let hour = Duration::from_secs(3600);
    for (n, mac) in [
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        "02:00:00:00:00:03",
        "02:00:00:00:00:04",
    ]
    .into_iter()
    .enumerate()
    {
        site.script(mac).await;
        let age = hour * u32::try_from(10 - n).unwrap();
        site.core
            .fleet
            .saw_machine(site.machine_of(mac), now() - age);
    }
    let [approved, working, stale, recent] =
        [1, 2, 3, 4].map(|n| site.machine_of(&format!("02:00:00:00:00:0{n}")));
    assert_eq!(site.core.fleet.unconfirmed_count(), 4);
    site.set_registration(approved, Registration::Approved)
        .await;
    site.order(working, Work::Inventory).await;
    assert_eq!(site.core.fleet.unconfirmed_count(), 3);
    assert_eq!(site.core.fleet.stalest(now()), Some(stale));
    assert_eq!(
        site.core.fleet.stalest(now() - hour * 9),
        None,
        "not long enough"
    );
    site.core.fleet.delete_machine(stale).await.unwrap();
    assert_eq!(site.core.fleet.stalest(now()), Some(recent));
}
