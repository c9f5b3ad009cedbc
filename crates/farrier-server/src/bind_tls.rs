//! The certificate somebody brought for HTTPS of the boot plane: looked at before anything starts, since firmware
//! that refuses it says little.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::bind::fault;
use crate::ca::{BootTls, chain, read_certificate};
use crate::config::{BootCertificate, Config, Fault};
use crate::core::now;

/// The files that somebody brought, and the names that URLs hold.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    chain: PathBuf,
    key: PathBuf,
    wanted: Vec<String>,
}

/// Loads it, if there is one to load.
pub(crate) fn own_certificate(
    config: &Config,
    addresses: &[IpAddr],
    faults: &mut Vec<Fault>,
) -> Option<BootTls> {
    match Brought::of(config, addresses)?.read() {
        Ok(certified) => Some(BootTls::with(certified)),
        Err(found) => {
            faults.extend(found);
            None
        }
    }
}

impl Brought {
    /// None where the certificate is one of ours, or HTTPS is off.
    pub(crate) fn of(config: &Config, addresses: &[IpAddr]) -> Option<Self> {
        let tls = config.boot_tls.as_ref()?;
        let BootCertificate::Files { chain, key } = &tls.certificate else {
            return None;
        };
        let wanted = match &tls.host {
            Some(host) => vec![host.clone()],
            None => addresses.iter().map(ToString::to_string).collect(),
        };
        Some(Self {
            chain: chain.clone(),
            key: key.clone(),
            wanted,
        })
    }

    fn read(&self) -> Result<CertifiedKey, Vec<Fault>> {
        let wrong = |what, remedy| fault("boot.tls.certificate", what, remedy);
        let certified = read_certificate(&self.chain, &self.key).map_err(|what| {
            let remedy = "Name PEM files of one certificate and its key that this user can read.";
            vec![wrong(what, remedy)]
        })?;
        let leaf = &certified.cert[0];
        let unnamed = self.wanted.iter().filter(|name| !chain::names(leaf, name));
        let mut faults: Vec<Fault> = unnamed
            .map(|name| {
                let remedy = "Use one that does, or set boot.tls.host to a name in it that machines find by DNS.";
                wrong(format!("does not name {name}, which URLs hold"), remedy)
            })
            .collect();
        if let Some(what) = chain::out_of_date(leaf, now()) {
            faults.push(wrong(what, "Renew it."));
        }
        if let Some(what) = chain::unsigned(&certified.cert, now()) {
            let remedy = "Put into the file the certificate, then the one that signed it, then the one that signed that.";
            faults.push(wrong(what, remedy));
        }
        if faults.is_empty() {
            Ok(certified)
        } else {
            Err(faults)
        }
    }

    /// Takes a renewed certificate into use while the server runs. Whoever renews writes one file after the other, so
    /// only what has stood still since the last look is read.
    pub(crate) async fn watch(
        self,
        tls: BootTls,
        every: Duration,
        mut stop: watch::Receiver<bool>,
    ) {
        let (mut read, mut last) = (None, self.stamps());
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = stop.changed() => return,
            }
            let seen = self.stamps();
            if seen == last && read.as_ref() != Some(&seen) {
                self.renew(&tls);
                read = Some(seen);
            }
            last = seen;
        }
    }

    /// What is not good leaves the one in use where it is.
    fn renew(&self, tls: &BootTls) {
        let file = self.chain.display();
        match self.read() {
            Ok(certified) if certified.cert == tls.chain() => tls.set_refused(None),
            Ok(certified) => {
                let days = chain::good_for(&certified.cert, now()).as_secs() / 86_400;
                tls.renew(certified);
                tracing::info!(%file, days, "the certificate for HTTPS was renewed");
            }
            Err(faults) => {
                let whats: Vec<_> = faults.into_iter().map(|fault| fault.what).collect();
                let why = whats.join("; ");
                tracing::warn!(%file, %why, "the new certificate for HTTPS is refused; the old one stays in use");
                tls.set_refused(Some(why));
            }
        }
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [stamp(&self.chain), stamp(&self.key)]
    }
}

/// A file, in the state it was seen in: when it was written, its length, and which one it is, since links are moved and
/// copies keep the time of what they are copies of.
type Stamp = (SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

/// As often as the folders of loaders are looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use tokio::sync::watch;

    use super::{Brought, own_certificate};
    use crate::ca::BootTls;
    use crate::config::Config;

    fn write(folder: &Path, name: &str, ends: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(ends, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.join("boot.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("boot.key"), key.serialize_pem()).unwrap();
    }

    /// What is wrong with the certificate in `folder`, as its keys and whats.
    fn faults(folder: &Path, more: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let loaded = own_certificate(&config(folder, more), &[ADDRESS], &mut faults);
        assert_eq!(loaded.is_none(), !faults.is_empty());
        faults.into_iter().map(|fault| fault.what).collect()
    }

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn config(folder: &Path, more: &str) -> Config {
        crate::run::install_crypto();
        let text = format!(
            "[boot.tls]\ncertificate = {:?}\nprivate_key = {:?}\n{more}\n[[interface]]\nname = \"eth0\"\n",
            folder.join("boot.pem"),
            folder.join("boot.key")
        );
        Config::parse(&text).unwrap()
    }

    #[test]
    fn a_certificate_that_firmware_would_refuse_is_a_fault_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let told = faults(folder.path(), "");
        assert!(told[0].contains("boot.pem"), "{told:?}");
        write(folder.path(), "10.0.0.1", 2400);
        assert!(faults(folder.path(), "").is_empty());
        write(folder.path(), "boot.example.org", 2400);
        let told = faults(folder.path(), "");
        assert!(told[0].contains("does not name 10.0.0.1"), "{told:?}");
        assert!(faults(folder.path(), "host = \"boot.example.org\"").is_empty());
        write(folder.path(), "10.0.0.2", 2020);
        let told = faults(folder.path(), "");
        assert!(
            told.len() == 2 && told[1].starts_with("ended on"),
            "{told:?}"
        );
        // With an authority behind it that did not sign it.
        write(folder.path(), "10.0.0.1", 2400);
        let leaf = std::fs::read_to_string(folder.path().join("boot.pem")).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let other = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("boot.pem"), leaf + &other).unwrap();
        let told = faults(folder.path(), "");
        assert_eq!(told, ["is not signed by those that are sent with it"]);
        std::fs::write(folder.path().join("boot.key"), key.serialize_pem()).unwrap();
        let told = faults(folder.path(), "");
        assert!(told[0].contains("boot.key"), "{told:?}");
    }

    const TICK: Duration = Duration::from_millis(20);

    async fn until(done: impl Fn() -> bool) {
        for _ in 0..500 {
            if done() {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
        panic!("the watch did not notice");
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_taken_up_and_a_bad_one_leaves_the_old_in_use() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "10.0.0.1", 2400);
        let config = config(folder.path(), "");
        let tls: BootTls = own_certificate(&config, &[ADDRESS], &mut Vec::new()).unwrap();
        let brought = Brought::of(&config, &[ADDRESS]).unwrap();
        let (stop, stopped) = watch::channel(false);
        let watching = tokio::spawn(brought.watch(tls.clone(), TICK, stopped));
        let first = tls.chain();
        tokio::time::sleep(TICK * 5).await;
        assert_eq!((tls.chain(), tls.refused()), (first.clone(), None));

        // The files of another pair: one is there already, the other one is not.
        let key = KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(folder.path().join("boot.key"), key).unwrap();
        until(|| tls.refused().is_some()).await;
        assert!(tls.refused().unwrap().contains("boot.key"));
        assert_eq!(tls.chain(), first, "the old one stays");

        write(folder.path(), "10.0.0.1", 2500);
        until(|| tls.chain() != first).await;
        let second = tls.chain();
        assert_eq!(tls.refused(), None);

        for (name, ends, words) in [
            ("10.0.0.2", 2400, "does not name 10.0.0.1"),
            ("10.0.0.1", 2020, "ended on"),
        ] {
            write(folder.path(), name, ends);
            until(|| tls.refused().is_some_and(|why| why.contains(words))).await;
            assert_eq!(tls.chain(), second);
        }
        std::fs::remove_file(folder.path().join("boot.pem")).unwrap();
        until(|| tls.refused().is_some_and(|why| why.contains("boot.pem"))).await;
        assert_eq!(tls.chain(), second, "also without any file");
        stop.send(true).unwrap();
        watching.await.unwrap();
    }
}
