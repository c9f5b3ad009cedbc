//! The contract of the door, held against SQLite. Another engine runs the same bodies.

mod contract;

use farrier_db::{Db, Options};

macro_rules! on_sqlite {
    ($($area:ident::$name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let folder = tempfile::tempdir().unwrap();
            let db = Db::open(&folder.path().join("farrier.db"), Options::default()).await.unwrap();
            contract::$area::$name(&db).await;
            db.close().await;
        }
    )*};
}

on_sqlite! {
    machines::a_machine_comes_back_equal
    machines::a_machine_is_found_by_address_uuid_and_name
    machines::an_address_may_be_shared
    machines::a_stale_change_is_refused
    machines::a_name_is_given_once
    machines::pages_and_counts_agree
    machines::all_of_them_are_handed_over_at_a_start
    machines::deleting_takes_along_what_hangs_on_it
    leases::a_lease_comes_back_equal
    leases::the_last_lease_of_an_address_counts
    leases::pages_go_by_address
    tasks::a_task_comes_back_equal
    tasks::a_stale_change_is_refused_for_tasks
    tasks::due_and_unfinished_follow_state_and_expiry
    tasks::pages_are_newest_first
    tasks::a_task_needs_its_machine
    tasks::starts_of_the_agent_are_kept_for_a_while
    timeline::pages_are_newest_first_per_machine_and_over_all
    timeline::entries_of_deleted_machines_are_left_out
    timeline::a_timeline_stays_bounded
    site::settings_are_changed_by_who_read_the_newest
    site::identity_is_made_once
    site::values_are_kept_by_key
    site::a_policy_book_is_changed_by_one_at_a_time
    tokens::t12_a_boot_token_is_granted_once
    tokens::t12_of_many_callers_one_is_granted
    tokens::t12_expired_and_unknown_tokens_are_told_apart
    tokens::old_boot_tokens_are_forgotten
    agents::t3_a_key_speaks_for_one_machine
    agents::sessions_are_heard_and_end
    access::a_user_comes_back_equal
    access::the_last_administrator_stays
    access::a_new_password_ends_the_sessions
    access::sessions_end_by_idleness_and_age
    access::api_tokens_expire_and_are_revoked
    access::the_setup_token_makes_one_administrator
    audit::the_audit_log_is_read_backwards
    concurrency::sixty_four_writers_lose_nothing
    concurrency::a_failing_write_fails_no_other
}

/// Arbitrary text, control characters and quotes included, is data and nothing else.
#[test]
fn t4_hostile_text_comes_back_equal() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let db = runtime
        .block_on(Db::open(
            &folder.path().join("farrier.db"),
            Options::default(),
        ))
        .unwrap();
    contract::hostile::text_comes_back_equal(&runtime, &db);
    runtime.block_on(db.close());
}
