//! `farrier lease`: addresses that are lent.

use clap::Subcommand;
use farrier_api::admin::{Lease, LeaseQuery};
use serde_json::Value;

use crate::connection::Session;
use crate::output::{Table, time};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List leases by address.
    List {
        /// Only those in this network, such as 10.0.0.0/24.
        #[arg(long)]
        subnet: Option<String>,
        /// Only these: active, declined or free.
        #[arg(long)]
        state: Option<String>,
        /// Only those of this hardware address.
        #[arg(long)]
        mac: Option<String>,
    },
    /// Give an address back to the pool.
    Release {
        ip: std::net::Ipv4Addr,
        /// Do it; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List { subnet, state, mac } => {
            let query = LeaseQuery { subnet, state, mac };
            session.show(
                &session.client.ask(&["leases"], &query).await?,
                |leases: &Vec<Lease>| list(leases),
            )
        }
        Verb::Release { ip, yes } => {
            let ip = ip.to_string();
            let path = ["leases", &ip, "release"];
            let confirm = session.confirmed(&path, yes).await?;
            session.client.post::<Value>(&path, &confirm).await?;
            session.done(&format!("{ip} is free"))
        }
    }
}

fn list(leases: &[Lease]) -> String {
    let mut table = Table::new(["ADDRESS", "MAC", "HOST NAME", "STATE", "SINCE", "UNTIL"]);
    for lease in leases {
        table.row([
            lease.ip.clone(),
            lease.mac.clone(),
            lease.hostname.clone().unwrap_or_default(),
            lease.state.clone(),
            time(lease.starts),
            time(lease.ends),
        ]);
    }
    table.to_string()
}
