//! What is told of files: which were asked for in vain, which went out, which were not run.

use std::sync::Arc;
use std::time::Duration;

use farrier_engine::catalogue::LoaderKind;
use farrier_engine::silence::Awaited;
use farrier_engine::timeline::{Entry, Kind, Transfer, TransferEnd};
use farrier_engine::tls::Trouble;
use farrier_proto::MacAddr;
use farrier_proto::session::tftp_transfer::{Event, Phase};
use farrier_proto::wire::tftp::TransferOptions;

use super::{Asker, BootTree, Channel, Missing, Served};
use crate::core::{Core, now};
use crate::loaders;
use crate::sightings::SMALL_BLOCK;

impl BootTree {
    /// Records a name that is not there. Loaders probe for many; only what is not expected is news.
    pub fn missed(&self, name: &str, asker: Asker, missing: &Missing) {
        if *missing == Missing::Expected {
            return;
        }
        if let Missing::Unfit(why) = missing {
            let why = why.clone();
            return self.record(asker, |machine| {
                Entry::new(machine, now(), Kind::Warning, why)
            });
        }
        self.record(asker, |machine| {
            let lacking = Transfer {
                by: "TFTP",
                name,
                bytes: 0,
                sha256: None,
                took: Duration::ZERO,
                end: TransferEnd::NotFound,
                said: None,
            };
            Entry::transfer(machine, now(), &lacking)
        });
    }

    /// Counts a handshake that came to nothing, and tells of it.
    pub fn https_failed(&self, asker: Asker, trouble: Trouble) {
        // It came for what it was offered, whatever became of it.
        self.asked_by_http(asker.ip);
        self.core.counters.ignored(trouble.reason, now());
        self.record(asker, |machine| trouble.entry(machine, now()));
    }

    /// Records the end of a TFTP transfer.
    pub fn transferred(&self, served: &Served, asker: Asker, event: &Event) {
        self.transferred_by("TFTP", served, asker, event);
    }

    /// The same for a transfer by another name.
    pub fn transferred_by(&self, by: &'static str, served: &Served, asker: Asker, event: &Event) {
        let (end, bytes, took, said) = match event {
            Event::Done {
                bytes, duration, ..
            } => (TransferEnd::Done, *bytes, *duration, None),
            Event::Probe => return,
            Event::ClientError { text, .. } => {
                (TransferEnd::Aborted, 0, Duration::ZERO, Some(text.as_str()))
            }
            // Only the last ACK is missing: loaders that start at once do not send it.
            Event::TimedOut {
                phase: Phase::Closing,
            } => (
                TransferEnd::Done,
                served.content.len() as u64,
                Duration::ZERO,
                None,
            ),
            Event::TimedOut { .. } => (TransferEnd::TimedOut, 0, Duration::ZERO, None),
        };
        if end == TransferEnd::Done && served.loader {
            if asker.by == Channel::Tftp {
                self.core.disk_starts.begins_anew(asker.ip, now());
            }
            self.loaded(asker, served);
        }
        self.record(asker, |machine| {
            let transfer = Transfer {
                by,
                name: &served.name,
                bytes,
                sha256: served.sha256.as_deref(),
                took,
                end,
                said,
            };
            Entry::transfer(machine, now(), &transfer)
        });
        if end == TransferEnd::Done {
            self.warn_of(served, asker);
        }
    }

    /// Warns of what is wrong with something that went out whole.
    pub fn warn_of(&self, served: &Served, asker: Asker) {
        if let Some(why) = served.warning.clone() {
            self.record(asker, |machine| {
                Entry::new(machine, now(), Kind::Warning, why)
            });
        }
    }

    /// Counts a boot program that went out whole, and watches whether it is run.
    pub fn loaded(&self, asker: Asker, served: &Served) {
        let Some(mac) = self.mac_of(asker.ip) else {
            return;
        };
        let at = now();
        self.core.sightings.loaded(mac, at);
        if !served.unsigned {
            self.core.silences.expect(mac, Awaited::Loader, at);
            return self.watch_chain(asker, mac, served);
        }
        self.core.sightings.sent_refused(mac, at);
        let (core, name) = (Arc::clone(&self.core), served.name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(SILENCE).await;
            if core.sightings.unheard_since(mac, at) {
                core.sightings.refused_unsigned(mac, at);
                let text = format!(
                    "{name} was fetched whole and did not run. It is not signed, so firmware with Secure Boot \
                     refuses it: the next boot is offered a signed one."
                );
                warn(&core, mac, text);
            }
        });
    }

    /// Tells of a second stage that its shim refuses, when nothing is heard of it. Not before: a shim starts everything
    /// where Secure Boot is off, knows keys that were enrolled in the machine, and may not be told yet to revoke all
    /// that it could.
    fn watch_chain(&self, asker: Asker, mac: MacAddr, served: &Served) {
        let Some((shim, why)) = self.refused_by_shim(asker, served) else {
            return;
        };
        let (core, name, at) = (Arc::clone(&self.core), served.name.clone(), now());
        if has_secure_boot(&core, mac) == Some(false) {
            return;
        }
        core.sightings.sent_refused(mac, at);
        tokio::spawn(async move {
            tokio::time::sleep(SILENCE).await;
            if core.sightings.unheard_since(mac, at) {
                let text = format!(
                    "{name} was fetched whole and did not run. Under Secure Boot {shim} before it refuses it: {why}."
                );
                warn(&core, mac, text);
            }
        });
    }

    /// The shim that was sent before this, and why it refuses it.
    fn refused_by_shim(&self, asker: Asker, served: &Served) -> Option<(String, String)> {
        let (loaders, catalogue) = (&self.core.loaders, self.core.loaders.catalogue());
        let by_hash = |hash: &str| catalogue.iter().find(|loader| loader.sha256 == hash);
        let sent = served.sha256.as_deref().and_then(by_hash);
        if sent.is_some_and(|sent| sent.kind == LoaderKind::Shim) {
            return None;
        }
        let id = self.shim_before(asker)?;
        let shim = catalogue.by_id(&id)?;
        // On a RAM disk both come at once.
        let second = sent.or_else(|| catalogue.second_stage(shim))?;
        let why = loaders::verdict(loaders, shim, second).ok()?.refusal()?;
        Some((id, why))
    }

    /// Puts something on the timeline of whoever has this address.
    pub fn record(
        &self,
        asker: Asker,
        entry: impl FnOnce(farrier_engine::model::MachineId) -> Entry,
    ) {
        let Some(mac) = self.mac_of(asker.ip) else {
            return;
        };
        let machines = self.core.fleet.candidates(&[mac], None);
        let machine = if machines.len() == 1 {
            machines.first()
        } else {
            None
        };
        self.core.tell_of(mac, machine.map(AsRef::as_ref), entry);
    }

    /// A transfer was agreed on and not one block of it arrived: the next one gets what every path carries.
    pub fn stalled(&self, served: &Served, asker: Asker, agreed: &TransferOptions) {
        let (blksize, windowsize) = (agreed.blksize.unwrap_or(SMALL_BLOCK), agreed.windowsize);
        let window = windowsize.filter(|blocks| *blocks > 1);
        if blksize <= SMALL_BLOCK && window.is_none() {
            return;
        }
        if let Some(mac) = self.mac_of(asker.ip) {
            self.core.sightings.stalled(mac, now());
        }
        let window = window.map_or_else(String::new, |blocks| format!(", {blocks} at a time"));
        let text = format!(
            "The transfer of {} stalled at blocks of {blksize} bytes{window}: none arrived. The next ones have \
             {SMALL_BLOCK} bytes, one at a time.",
            served.name
        );
        self.record(asker, |machine| Entry {
            machine,
            at: now(),
            kind: Kind::Warning,
            text: text.into(),
            details: Vec::new(),
        });
    }
}

/// As its agent found it, if one ever did.
fn has_secure_boot(core: &Core, mac: MacAddr) -> Option<bool> {
    match core.fleet.candidates(&[mac], None).as_slice() {
        [machine] => machine.inventory.as_ref()?.secure_boot,
        _ => None,
    }
}

/// What a person sees on the screen for a moment only, if at all.
fn warn(core: &Core, mac: MacAddr, text: String) {
    let machines = core.fleet.candidates(&[mac], None);
    let machine = machines.first().filter(|_| machines.len() == 1);
    core.tell_of(mac, machine.map(AsRef::as_ref), |machine| Entry {
        machine,
        at: now(),
        kind: Kind::Warning,
        text: text.into(),
        details: Vec::new(),
    });
}

/// A loader says its first word within a second or two; emulated ones need ten.
const SILENCE: Duration = Duration::from_secs(20);
