use farrier_db::{AuditEntry, Db};

use super::NOW;

pub(crate) async fn the_audit_log_is_read_backwards(db: &Db) {
    let entries: Vec<AuditEntry> = (0..5)
        .map(|n| AuditEntry {
            at: NOW,
            who: format!("user {n}"),
            from: (n % 2 == 0).then(|| "192.0.2.1".into()),
            what: "task.create".into(),
            target: "pc-1\n'".into(),
            allowed: n != 3,
        })
        .collect();
    for entry in &entries {
        db.append_audit(entry).await.unwrap();
    }
    let page = db.audit(None, 3).await.unwrap();
    assert_eq!(page[0].value, entries[4]);
    let rest = db.audit(Some(page[2].seq), 3).await.unwrap();
    let read: Vec<_> = page
        .into_iter()
        .chain(rest)
        .rev()
        .map(|stored| stored.value)
        .collect();
    assert_eq!(read, entries);
}
