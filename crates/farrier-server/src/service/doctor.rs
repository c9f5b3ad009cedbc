//! What `farrier doctor` sees from inside: data, store, loaders, clock, certificates, and who else is there.

use std::sync::Arc;

use farrier_api::admin::{Check, Doctor, Served, ServedHttps, Verdict};
use farrier_engine::task::State;

use super::{Desk, Refusal};
use crate::auth::Action;
use crate::bind::{BOOT_SERVER_PORT, DHCP_PORT, TFTP_PORT};
use crate::ca::chain;
use crate::config::Mode;
use crate::core::now;
use crate::loaders::Loaders;
use crate::ui::text::bytes;

impl Desk {
    /// Checks what can be checked from inside: data, loaders, clock, space; and who else is on the networks.
    pub async fn doctor(&self) -> Result<Doctor, Refusal> {
        self.allow(Action::CheckServer)?;
        let mut checks = vec![
            self.check_database().await,
            self.check_store(),
            self.check_clock(),
        ];
        checks.push(self.check_certificates());
        checks.extend(self.check_boot_certificate());
        let core = Arc::clone(&self.core);
        let loaders = tokio::task::spawn_blocking(move || check_loaders(&core.loaders)).await;
        checks.push(loaders.unwrap_or_else(|error| {
            bad(
                "loaders",
                error.to_string(),
                "report this as a fault of Farrier",
            )
        }));
        checks.extend(self.check_boot_plane());
        checks.push(self.check_machines());
        checks.push(self.check_others().await);
        let catalogue = self.core.loaders.catalogue();
        let has = |file: &str| {
            let name = file.rsplit('/').next();
            name.is_some_and(|name| catalogue.by_file_name(name).is_some())
        };
        checks.extend(crate::probe::check(&self.core.config.interfaces, &has).await);
        Ok(Doctor {
            checks,
            served: self.served(),
        })
    }

    fn served(&self) -> Vec<Served> {
        let config = &self.core.config;
        let address = |name: &str| {
            let found = farrier_net::interface::by_name(name).ok()??;
            found.addresses.first().map(|(address, _)| *address)
        };
        let served = config.interfaces.iter().filter_map(|interface| {
            Some(Served {
                address: address(&interface.name)?.to_string(),
                interface: interface.name.clone(),
                tftp_port: TFTP_PORT,
                dhcp_port: (interface.mode != Mode::Port4011).then_some(DHCP_PORT),
                http_port: config.boot_http_port,
                https: self.served_https(),
                boot_server_port: BOOT_SERVER_PORT,
                agent_port: Some(config.agent_port),
            })
        });
        served.collect()
    }

    fn served_https(&self) -> Option<ServedHttps> {
        let written = self.core.config.boot_tls.as_ref()?;
        let chain = self.core.boot_tls.get()?.chain();
        Some(ServedHttps {
            port: written.port,
            host: written.host.clone(),
            certificate: chain::fingerprint(chain.first()?),
        })
    }

    /// What of the certificate for firmware is not seen from outside: that a renewed one is not in use.
    fn check_boot_certificate(&self) -> Option<Check> {
        let tls = self.core.boot_tls.get()?;
        let days = chain::good_for(&tls.chain(), now()).as_secs() / 86_400;
        Some(match tls.refused() {
            Some(why) => bad(
                "HTTPS certificate",
                format!("the new one is refused: {why}; the old one is good for {days} more days"),
                "put a certificate and its key there that fit; they are read anew when they change",
            ),
            None => good("HTTPS certificate", format!("good for {days} more days")),
        })
    }

    /// The leaves are made anew at each start; what can run out is the root that agents pin, and the leaves of a
    /// server that was not restarted for years.
    fn check_certificates(&self) -> Check {
        let at = now();
        let left = self.core.ca.root_ends().since(at);
        if left < CERTIFICATE_WARNING {
            let found = format!(
                "the site's root certificate ends in {} days",
                left.as_secs() / 86_400
            );
            return bad(
                "certificates",
                found,
                "move the ca folder away and restart: agents get the new root at their next boot",
            );
        }
        if at.since(self.core.started) + CERTIFICATE_WARNING > crate::ca::SERVER_LIFE {
            return bad(
                "certificates",
                "the server's own end soon".to_owned(),
                "restart the server: it makes new ones",
            );
        }
        good(
            "certificates",
            format!(
                "the site's root is good for {} more days",
                left.as_secs() / 86_400
            ),
        )
    }

    async fn check_database(&self) -> Check {
        match self.core.db.set_value("doctor", &now().0.to_string()).await {
            Ok(()) => good(
                "database",
                format!("{} takes writes", self.core.db.path().display()),
            ),
            Err(error) => bad(
                "database",
                error.to_string(),
                "free space or restore a backup: farrier db restore",
            ),
        }
    }

    fn check_store(&self) -> Check {
        let status = self.store_status();
        match status.free_bytes {
            Some(free) if free < LITTLE_SPACE => Check {
                verdict: Verdict::Warning,
                remedy: Some(
                    "free space, or delete image versions and prune: farrier image prune"
                        .to_owned(),
                ),
                ..good("image store", format!("{} free", bytes(free)))
            },
            _ => good(
                "image store",
                format!(
                    "{} images, {} stored",
                    status.images,
                    bytes(status.stored_bytes)
                ),
            ),
        }
    }

    fn check_clock(&self) -> Check {
        if now().0 > CLOCK_FLOOR {
            return good("clock", "the date is plausible".to_owned());
        }
        bad(
            "clock",
            "the date is before this program was made".to_owned(),
            "set the clock: certificates depend on it",
        )
    }

    fn check_machines(&self) -> Check {
        let silent = self
            .core
            .fleet
            .unfinished()
            .iter()
            .filter(|t| t.state == State::Lost)
            .count();
        if silent == 0 {
            return good("agents", "no task waits for a silent agent".to_owned());
        }
        Check {
            verdict: Verdict::Warning,
            remedy: Some(
                "look at the machines' own screens: farrier task list --state lost".to_owned(),
            ),
            ..good(
                "agents",
                format!("{silent} task(s) wait for a silent agent"),
            )
        }
    }

    /// Other servers that answer boot clients make themselves known on the timeline.
    async fn check_others(&self) -> Check {
        match self.warnings().await {
            Ok(warnings) if warnings.is_empty() => good("warnings", "none within a day".to_owned()),
            Ok(warnings) => Check {
                verdict: Verdict::Warning,
                remedy: Some("look at the dashboard".to_owned()),
                ..good(
                    "warnings",
                    format!(
                        "{} within a day, the last: {}",
                        warnings.len(),
                        warnings[0].text
                    ),
                )
            },
            Err(error) => bad(
                "warnings",
                error.to_string(),
                "see the check of the database",
            ),
        }
    }
}

/// By the files as they are on the disk, which are read for it.
fn check_loaders(loaders: &Loaders) -> Check {
    let catalogue = loaders.catalogue();
    if catalogue.iter().next().is_none() {
        return bad(
            "loaders",
            "there are none".to_owned(),
            "import them: farrier loader import",
        );
    }
    let lost: Vec<_> = catalogue
        .iter()
        .filter(|l| loaders.on_disk(l).is_err())
        .map(|l| l.id.clone())
        .collect();
    if lost.is_empty() {
        let what = format!(
            "{} in the catalogue, all files there",
            catalogue.iter().count()
        );
        return good("loaders", what);
    }
    bad(
        "loaders",
        format!("files are gone or changed: {}", lost.join(", ")),
        "import them again: farrier loader import",
    )
}

fn good(name: &str, found: String) -> Check {
    Check {
        name: name.to_owned(),
        verdict: Verdict::Good,
        found,
        remedy: None,
    }
}

fn bad(name: &str, found: String, remedy: &str) -> Check {
    Check {
        name: name.to_owned(),
        verdict: Verdict::Bad,
        found,
        remedy: Some(remedy.to_owned()),
    }
}

const CERTIFICATE_WARNING: std::time::Duration = std::time::Duration::from_secs(60 * 86_400);

/// One capture of a small machine.
const LITTLE_SPACE: u64 = 10 << 30;
/// 2026-01-01.
const CLOCK_FLOOR: i64 = 1_767_225_600_000;
