use std::time::Duration;

use farrier_db::{ApiToken, Db, DbError, Redeemed, Secret, TokenHash, User, WebSession};
use farrier_engine::WallTime;
use farrier_engine::model::{Role, UserId};
use uuid::Uuid;

use super::NOW;

fn user(n: u128, name: &str, role: Role) -> User {
    User {
        id: UserId(Uuid::from_u128(n)),
        name: name.into(),
        password: Secret("$argon2id$v=19$...".into()),
        role,
        disabled: false,
        created: NOW,
    }
}

fn later(seconds: u64) -> WallTime {
    NOW + Duration::from_secs(seconds)
}

fn session(user: &User, hash: u8) -> WebSession {
    WebSession {
        hash: TokenHash([hash; 32]),
        user: user.id,
        csrf: Secret("csrf".into()),
        created: NOW,
        idle_until: later(10),
        ends: later(100),
    }
}

pub(crate) async fn a_user_comes_back_equal(db: &Db) {
    let anna = user(1, "anna", Role::Admin);
    let ben = User {
        disabled: true,
        ..user(2, "Ben'; --", Role::Viewer)
    };
    for user in [&anna, &ben] {
        db.create_user(user).await.unwrap();
        assert_eq!(db.user(user.id).await.unwrap().as_ref(), Some(user));
        assert_eq!(
            db.user_by_name(&user.name).await.unwrap().as_ref(),
            Some(user)
        );
    }
    assert_eq!(db.users().await.unwrap(), [ben.clone(), anna.clone()]);
    assert_eq!(db.user_by_name("ANNA").await.unwrap(), None);
    let taken = db
        .create_user(&user(3, "anna", Role::Viewer))
        .await
        .unwrap_err();
    assert!(matches!(taken, DbError::Taken { .. }), "{taken}");
    assert!(!format!("{anna:?}").contains("argon2"));

    let ben = User {
        name: "ben".into(),
        role: Role::Operator,
        disabled: false,
        ..ben
    };
    db.update_user(&ben).await.unwrap();
    assert_eq!(db.user(ben.id).await.unwrap(), Some(ben.clone()));
    db.delete_user(ben.id).await.unwrap();
    assert_eq!(db.user(ben.id).await.unwrap(), None);
    assert!(matches!(
        db.delete_user(ben.id).await.unwrap_err(),
        DbError::Missing { .. }
    ));
    assert!(matches!(
        db.update_user(&ben).await.unwrap_err(),
        DbError::Missing { .. }
    ));
}

pub(crate) async fn the_last_administrator_stays(db: &Db) {
    let anna = user(1, "anna", Role::Admin);
    let ben = user(2, "ben", Role::Viewer);
    db.create_user(&anna).await.unwrap();
    db.create_user(&ben).await.unwrap();
    for change in [
        User {
            role: Role::Operator,
            ..anna.clone()
        },
        User {
            disabled: true,
            ..anna.clone()
        },
    ] {
        assert!(matches!(
            db.update_user(&change).await.unwrap_err(),
            DbError::LastAdmin
        ));
    }
    assert!(matches!(
        db.delete_user(anna.id).await.unwrap_err(),
        DbError::LastAdmin
    ));
    assert_eq!(db.user(anna.id).await.unwrap(), Some(anna.clone()));

    db.update_user(&User {
        role: Role::Admin,
        ..ben
    })
    .await
    .unwrap();
    db.delete_user(anna.id).await.unwrap();
}

pub(crate) async fn a_new_password_ends_the_sessions(db: &Db) {
    let anna = user(1, "anna", Role::Admin);
    db.create_user(&anna).await.unwrap();
    db.create_user(&user(2, "ben", Role::Admin)).await.unwrap();
    let renamed = User {
        name: "Anna".into(),
        ..anna.clone()
    };
    let new_password = User {
        password: Secret("other".into()),
        ..renamed.clone()
    };
    let disabled = User {
        disabled: true,
        ..new_password.clone()
    };
    for (hash, change, stays) in [
        (1, renamed, true),
        (2, new_password, false),
        (3, disabled, false),
    ] {
        let session = session(&anna, hash);
        db.create_web_session(&session).await.unwrap();
        db.update_user(&change).await.unwrap();
        assert_eq!(
            db.web_session(session.hash, NOW).await.unwrap().is_some(),
            stays,
            "{change:?}"
        );
    }
    let stray = WebSession {
        user: UserId(Uuid::from_u128(404)),
        ..session(&anna, 9)
    };
    assert!(matches!(
        db.create_web_session(&stray).await.unwrap_err(),
        DbError::Missing { .. }
    ));
}

pub(crate) async fn sessions_end_by_idleness_and_age(db: &Db) {
    let anna = user(1, "anna", Role::Admin);
    db.create_user(&anna).await.unwrap();
    let web = session(&anna, 1);
    db.create_web_session(&web).await.unwrap();
    assert_eq!(
        db.web_session(web.hash, later(9)).await.unwrap(),
        Some((web.clone(), anna.clone()))
    );
    assert_eq!(db.web_session(web.hash, later(10)).await.unwrap(), None);

    assert!(db.extend_web_session(web.hash, later(1000)).await.unwrap());
    assert!(db.web_session(web.hash, later(99)).await.unwrap().is_some());
    assert_eq!(db.web_session(web.hash, later(100)).await.unwrap(), None);

    db.create_web_session(&session(&anna, 2)).await.unwrap();
    assert_eq!(db.purge_web_sessions(later(10)).await.unwrap(), 1);
    assert!(db.delete_web_session(web.hash).await.unwrap());
    assert!(!db.delete_web_session(web.hash).await.unwrap());
    assert!(!db.extend_web_session(web.hash, later(5)).await.unwrap());
}

pub(crate) async fn api_tokens_expire_and_are_revoked(db: &Db) {
    let forever = ApiToken {
        hash: TokenHash([1; 32]),
        name: "ci".into(),
        role: Role::Operator,
        created: NOW,
        expires: None,
        last_used: None,
    };
    let short = ApiToken {
        hash: TokenHash([2; 32]),
        name: "a".into(),
        expires: Some(later(5)),
        ..forever.clone()
    };
    db.create_api_token(&forever).await.unwrap();
    db.create_api_token(&short).await.unwrap();
    let taken = db
        .create_api_token(&ApiToken {
            hash: TokenHash([3; 32]),
            ..forever.clone()
        })
        .await
        .unwrap_err();
    assert!(matches!(taken, DbError::Taken { .. }), "{taken}");

    assert_eq!(
        db.api_token(short.hash, later(4)).await.unwrap(),
        Some(short.clone())
    );
    assert_eq!(db.api_token(short.hash, later(5)).await.unwrap(), None);
    db.api_token_used(forever.hash, later(7)).await.unwrap();
    db.api_token_used(forever.hash, later(3)).await.unwrap();
    let used = ApiToken {
        last_used: Some(later(7)),
        ..forever.clone()
    };
    assert_eq!(
        db.api_token(forever.hash, later(1 << 40)).await.unwrap(),
        Some(used.clone())
    );
    assert_eq!(db.api_tokens().await.unwrap(), [short, used]);

    assert!(db.delete_api_token("ci").await.unwrap());
    assert!(!db.delete_api_token("ci").await.unwrap());
    assert_eq!(db.api_token(forever.hash, NOW).await.unwrap(), None);
}

pub(crate) async fn the_setup_token_makes_one_administrator(db: &Db) {
    let (old, new) = (TokenHash([1; 32]), TokenHash([2; 32]));
    let anna = User {
        disabled: true,
        ..user(1, "anna", Role::Viewer)
    };
    assert_eq!(
        db.create_first_admin(old, NOW, &anna).await.unwrap(),
        Redeemed::Unknown
    );
    db.set_setup_token(old, later(60)).await.unwrap();
    db.set_setup_token(new, later(60)).await.unwrap();
    assert_eq!(
        db.create_first_admin(old, NOW, &anna).await.unwrap(),
        Redeemed::Unknown
    );
    assert_eq!(
        db.create_first_admin(new, later(60), &anna).await.unwrap(),
        Redeemed::Expired
    );
    assert_eq!(db.users().await.unwrap(), []);

    assert_eq!(
        db.create_first_admin(new, NOW, &anna).await.unwrap(),
        Redeemed::Granted(())
    );
    assert_eq!(db.users().await.unwrap(), [user(1, "anna", Role::Admin)]);
    let ben = user(2, "ben", Role::Admin);
    assert_eq!(
        db.create_first_admin(new, NOW, &ben).await.unwrap(),
        Redeemed::AlreadyUsed
    );
    assert_eq!(db.users().await.unwrap().len(), 1);

    // When the user cannot be made, the token is not used up.
    db.set_setup_token(old, later(60)).await.unwrap();
    assert!(matches!(
        db.create_first_admin(old, NOW, &anna).await.unwrap_err(),
        DbError::Taken { .. }
    ));
    assert_eq!(
        db.create_first_admin(old, NOW, &ben).await.unwrap(),
        Redeemed::Granted(())
    );
}
