use std::time::Duration;

use farrier_db::{Db, Stored};
use farrier_engine::model::MachineId;
use farrier_engine::timeline::{Entry, Kind};

use super::{NOW, machine_id, stored_machine};

fn entry(machine: MachineId, text: &str) -> Entry {
    let details = vec![
        ("xid".into(), "0x1234".into()),
        ("iface".into(), "lan'0".into()),
    ];
    Entry {
        machine,
        at: NOW,
        kind: Kind::Answered,
        text: text.to_owned().into(),
        details,
    }
}

fn texts(page: &[Stored<Entry>]) -> Vec<&str> {
    page.iter().map(|stored| &*stored.value.text).collect()
}

pub(crate) async fn pages_are_newest_first_per_machine_and_over_all(db: &Db) {
    let one = stored_machine(db, 1).await.id;
    let two = stored_machine(db, 2).await.id;
    let batch = [
        entry(one, "a"),
        entry(two, "b"),
        entry(one, "c"),
        entry(one, "d"),
    ];
    assert_eq!(db.append_timeline(&batch).await.unwrap(), 4);
    assert_eq!(db.append_timeline(&[]).await.unwrap(), 0);

    let page = db.timeline(one, None, 2).await.unwrap();
    assert_eq!(texts(&page), ["d", "c"]);
    assert_eq!(page[0].value, batch[3]);
    assert_eq!(
        texts(&db.timeline(one, Some(page[1].seq), 2).await.unwrap()),
        ["a"]
    );

    let all = db.latest_timeline(None, 3).await.unwrap();
    assert_eq!(texts(&all), ["d", "c", "b"]);
    assert_eq!(
        texts(&db.latest_timeline(Some(all[2].seq), 3).await.unwrap()),
        ["a"]
    );
}

pub(crate) async fn entries_of_deleted_machines_are_left_out(db: &Db) {
    let one = stored_machine(db, 1).await.id;
    let batch = [entry(machine_id(404), "gone"), entry(one, "here")];
    assert_eq!(db.append_timeline(&batch).await.unwrap(), 1);
    assert_eq!(texts(&db.latest_timeline(None, 9).await.unwrap()), ["here"]);
}

pub(crate) async fn a_timeline_stays_bounded(db: &Db) {
    let loud = stored_machine(db, 1).await.id;
    let quiet = stored_machine(db, 2).await.id;
    db.append_timeline(&[entry(quiet, "only")]).await.unwrap();
    let kept = Db::TIMELINE_KEPT as usize;
    let batch: Vec<Entry> = (0..500).map(|n| entry(loud, &n.to_string())).collect();
    for _ in 0..8 {
        db.append_timeline(&batch).await.unwrap();
    }
    // Pruning is behind the back of the writers: it may take a moment.
    let mut left = usize::MAX;
    for _ in 0..200 {
        left = db.timeline(loud, None, u32::MAX).await.unwrap().len();
        if left < kept + 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        (kept..kept + 200).contains(&left),
        "{left} entries are left"
    );
    let newest = db.timeline(loud, None, 1).await.unwrap();
    assert_eq!(texts(&newest), ["499"]);
    assert_eq!(texts(&db.timeline(quiet, None, 9).await.unwrap()), ["only"]);
}
