use farrier_db::{Db, DbError, Identity, SiteSettings};
use farrier_engine::policy::{Enrolment, PolicyBook, Rule, Settings, UnknownMachine};
use uuid::Uuid;

pub(crate) async fn settings_are_changed_by_who_read_the_newest(db: &Db) {
    let empty = db.site_settings().await.unwrap();
    assert_eq!(
        empty,
        SiteSettings {
            revision: 0,
            settings: Settings::default()
        }
    );
    let settings = Settings {
        enrolment: Some(Enrolment::Approve),
        ..Settings::default()
    };
    let first = db
        .set_site_settings(&settings, empty.revision)
        .await
        .unwrap();
    assert_eq!(first.revision, 1);
    assert_eq!(db.site_settings().await.unwrap(), first);

    let refused = db.set_site_settings(&empty.settings, 0).await.unwrap_err();
    assert!(matches!(refused, DbError::Conflict { .. }), "{refused}");
    let settings = Settings {
        unknown_machine: Some(UnknownMachine::Ignore),
        ..first.settings.clone()
    };
    let second = db
        .set_site_settings(&settings, first.revision)
        .await
        .unwrap();
    assert_eq!(second.revision, 2);
    assert_eq!(db.site_settings().await.unwrap(), second);
}

pub(crate) async fn identity_is_made_once(db: &Db) {
    let first = db.identity(Uuid::from_u128(1)).await.unwrap();
    assert_eq!(
        first,
        Identity {
            server: Uuid::from_u128(1),
            epoch: 1
        }
    );
    assert_eq!(db.identity(Uuid::from_u128(2)).await.unwrap(), first);
}

pub(crate) async fn values_are_kept_by_key(db: &Db) {
    db.identity(Uuid::from_u128(1)).await.unwrap();
    assert_eq!(db.value("epoch").await.unwrap(), None);
    db.set_value("epoch", "mine").await.unwrap();
    db.set_value("epoch", "mine too").await.unwrap();
    assert_eq!(
        db.value("epoch").await.unwrap().as_deref(),
        Some("mine too")
    );
    assert_eq!(db.identity(Uuid::from_u128(2)).await.unwrap().epoch, 1);
}

pub(crate) async fn a_policy_book_is_changed_by_one_at_a_time(db: &Db) {
    assert_eq!(
        db.policy_book().await.unwrap(),
        farrier_db::StoredBook::default()
    );
    let book = PolicyBook {
        groups: [("lab".to_owned().try_into().unwrap(), Settings::default())].into(),
        rules: vec![Rule {
            name: "no-usb".to_owned().try_into().unwrap(),
            when: "facts.product == '\\'; DROP TABLE site; \u{1F600}'".to_owned(),
            settings: Settings::default(),
            refuse_boot: true,
            refuse_tasks: false,
        }],
    };
    let first = db.set_policy_book(&book, 0).await.unwrap();
    assert_eq!((first.revision, &first.book), (1, &book));
    assert!(matches!(
        db.set_policy_book(&PolicyBook::default(), 0).await,
        Err(DbError::Conflict { .. })
    ));
    assert_eq!(db.policy_book().await.unwrap(), first);
    let second = db.set_policy_book(&PolicyBook::default(), 1).await.unwrap();
    assert_eq!(db.policy_book().await.unwrap(), second);
}
