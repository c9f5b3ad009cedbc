//! `farrier db`: copies of the database.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::connection::not_confirmed;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a whole and consistent copy to a new file; the server may run.
    Backup { to: PathBuf },
    /// Put a backup in the place of the database; the server must be stopped.
    Restore {
        from: PathBuf,
        /// Do it; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(data: &Path, verb: Verb) -> anyhow::Result<()> {
    let database = data.join("farrier.db");
    match verb {
        Verb::Backup { to } => {
            farrier_db::backup_file(&database, &to).await?;
            output::data(&format!(
                "{} holds a copy of {}",
                to.display(),
                database.display()
            ))?;
            output::talk(
                "images, loaders and keys are not in it: copy the data folder's other content too",
            );
            Ok(())
        }
        Verb::Restore { from, yes } => restore(&from, &database, yes).await,
    }
}

async fn restore(from: &Path, database: &Path, yes: bool) -> anyhow::Result<()> {
    if !yes {
        let mut plan = format!(
            "Put {} in the place of {}.\n",
            from.display(),
            database.display()
        );
        plan.push_str("  - the backup is checked, every page and every reference\n");
        if database.exists() {
            plan.push_str("  - what is there now is kept beside it as farrier.db.replaced\n");
        }
        plan.push_str(
            "  ! what happened since the backup is forgotten: machines, tasks, leases, users\n",
        );
        output::data(&plan)?;
        return Err(not_confirmed());
    }
    let done = farrier_db::restore(from, database, true).await?;
    if let Some(old) = done.replaced {
        output::talk(&format!("what was there before is {}", old.display()));
    }
    output::data(&format!(
        "{} holds what {} held",
        database.display(),
        from.display()
    ))
}

#[cfg(test)]
mod tests {
    use farrier_db::{Db, Options};

    use super::{Verb, run};

    #[tokio::test]
    async fn a_backup_comes_back_and_only_when_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let write = async |value: &str| {
            let db = Db::open(&data.join("farrier.db"), Options::default())
                .await
                .unwrap();
            db.set_value("doctor", value).await.unwrap();
            db.close().await;
        };
        write("before").await;
        let copy = folder.path().join("copy.db");
        run(&data, Verb::Backup { to: copy.clone() }).await.unwrap();
        write("after").await;
        let restore = |yes| Verb::Restore {
            from: copy.clone(),
            yes,
        };
        let refused = run(&data, restore(false)).await.unwrap_err();
        assert_eq!(refused.to_string(), "nothing was done");
        let value = async || {
            let db = Db::open(&data.join("farrier.db"), Options::default())
                .await
                .unwrap();
            let value = db.value("doctor").await.unwrap();
            db.close().await;
            value
        };
        assert_eq!(value().await.as_deref(), Some("after"));
        run(&data, restore(true)).await.unwrap();
        assert_eq!(value().await.as_deref(), Some("before"));
        assert!(
            run(&data, Verb::Backup { to: copy }).await.is_err(),
            "a backup never replaces a file"
        );
    }
}
