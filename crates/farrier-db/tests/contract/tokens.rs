use std::time::Duration;

use farrier_db::{BootToken, Db, DbError, Redeemed, TokenHash};

use super::{NOW, machine_id, stored_machine, task};

async fn stored_token(db: &Db, hash: u8) -> BootToken {
    let machine = match db.machine(machine_id(1)).await.unwrap() {
        Some(machine) => machine.id,
        None => stored_machine(db, 1).await.id,
    };
    let token = BootToken {
        hash: TokenHash([hash; 32]),
        machine,
        task: None,
        intent: "register".into(),
        created: NOW,
        expires: NOW + Duration::from_secs(60),
    };
    db.create_boot_token(&token).await.unwrap();
    token
}

pub(crate) async fn t12_a_boot_token_is_granted_once(db: &Db) {
    let plain = stored_token(db, 1).await;
    let task = db.create_task(&task(1, plain.machine)).await.unwrap();
    let bound = BootToken {
        hash: TokenHash([2; 32]),
        task: Some(task.id),
        ..plain.clone()
    };
    db.create_boot_token(&bound).await.unwrap();
    for token in [plain, bound] {
        assert_eq!(
            db.redeem_boot_token(token.hash, NOW).await.unwrap(),
            Redeemed::Granted(token.clone())
        );
        assert_eq!(
            db.redeem_boot_token(token.hash, NOW).await.unwrap(),
            Redeemed::AlreadyUsed
        );
        let long_after = NOW + Duration::from_secs(1_000_000);
        assert_eq!(
            db.redeem_boot_token(token.hash, long_after).await.unwrap(),
            Redeemed::AlreadyUsed
        );
    }
    let stray = BootToken {
        hash: TokenHash([3; 32]),
        machine: machine_id(404),
        ..stored_token(db, 4).await
    };
    let missing = db.create_boot_token(&stray).await.unwrap_err();
    assert!(matches!(missing, DbError::Missing { .. }), "{missing}");
}

pub(crate) async fn t12_of_many_callers_one_is_granted(db: &Db) {
    for round in 1..=8 {
        let token = stored_token(db, round).await;
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let db = db.clone();
                tokio::spawn(async move { db.redeem_boot_token(token.hash, NOW).await.unwrap() })
            })
            .collect();
        let mut granted = 0;
        for caller in callers {
            match caller.await.unwrap() {
                Redeemed::Granted(_) => granted += 1,
                other => assert_eq!(other, Redeemed::AlreadyUsed),
            }
        }
        assert_eq!(granted, 1);
    }
}

pub(crate) async fn t12_expired_and_unknown_tokens_are_told_apart(db: &Db) {
    let token = stored_token(db, 1).await;
    assert_eq!(
        db.redeem_boot_token(token.hash, token.expires)
            .await
            .unwrap(),
        Redeemed::Expired
    );
    assert_eq!(
        db.redeem_boot_token(TokenHash([9; 32]), NOW).await.unwrap(),
        Redeemed::Unknown
    );
    // Being asked too late does not use it up: the clock may have been wrong.
    assert!(
        db.redeem_boot_token(token.hash, NOW)
            .await
            .unwrap()
            .granted()
            .is_some()
    );
}

pub(crate) async fn old_boot_tokens_are_forgotten(db: &Db) {
    let old = stored_token(db, 1).await;
    let young = BootToken {
        hash: TokenHash([2; 32]),
        expires: old.expires + Duration::from_millis(1),
        ..old.clone()
    };
    db.create_boot_token(&young).await.unwrap();
    assert_eq!(db.purge_boot_tokens(young.expires).await.unwrap(), 1);
    assert_eq!(
        db.redeem_boot_token(old.hash, NOW).await.unwrap(),
        Redeemed::Unknown
    );
    assert_eq!(
        db.redeem_boot_token(young.hash, NOW).await.unwrap(),
        Redeemed::Granted(young)
    );
}
