//! Distribution packages that the lab needs, installed when absent.
//!
//! Only packages without a service of their own are named, so nothing starts listening on the machine.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{
    command::{command, is_installed, run},
    report::say,
};

/// What the virtual LAN, the loaders and the golden disk are made with.
pub const LAB: &[&str] = &[
    // Machines and their firmware.
    "qemu-system-x86",
    "qemu-utils",
    "ovmf",
    "ovmf-ia32",
    "seabios",
    "ipxe-qemu",
    // The LAN, foreign servers and foreign clients.
    "iproute2",
    "tcpdump",
    "dnsmasq-base",
    "busybox-static",
    "isc-dhcp-client",
    "tftp-hpa",
    "atftp",
    "curl",
    "kea-admin",
    "nftables",
    "socat",
    // The golden disk.
    "debootstrap",
    "kmod",
    "gdisk",
    "mtools",
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "mount",
    "grub-common",
    "grub-pc-bin",
    "grub-efi-amd64-bin",
    // CDs that machines start.
    "xorriso",
    // What others capture disks with, for comparison.
    "partclone",
    "zstd",
];

/// What the browser tests of the page need; Node only where the machine has none of its own.
#[must_use]
pub fn page() -> Vec<&'static str> {
    let node = if is_installed("npm") {
        &[][..]
    } else {
        &["nodejs", "npm"]
    };
    [&["chromium"], node].concat()
}

/// A package index older than this is renewed before anything is installed.
const INDEX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Installs those of `packages` that are absent, and says so.
///
/// # Errors
/// When this is no Debian, or when the installation fails; the error says what to do by hand.
pub fn install(packages: &[&str]) -> Result<()> {
    let absent = missing(packages)?;
    if absent.is_empty() {
        say("      all distribution packages are present");
        return Ok(());
    }
    install_all(&absent)?;
    // apt removes what does not go with a new package, and that may be one of ours: a newer qemu-utils made way for
    // this release's qemu-system-x86.
    let removed = missing(packages)?;
    if removed.is_empty() {
        return Ok(());
    }
    install_all(&removed)?;
    match missing(packages)?.as_slice() {
        [] => Ok(()),
        still => bail!(
            "these packages do not stay installed beside the others that the lab needs: {}",
            still.join(" ")
        ),
    }
}

fn install_all(missing: &[&str]) -> Result<()> {
    let by_hand = format!(
        "apt-get update && apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    if !rustix::process::geteuid().is_root() {
        bail!(
            "packages are missing and installing them needs root; run this again as root, or do: {by_hand}"
        );
    }
    if index_is_old() {
        say("      renewing the package index");
        if let Err(error) = run(apt(["update"]).env("DEBIAN_FRONTEND", "noninteractive")) {
            // An index in mid-update fails to load now and then; the installation decides whether that matters.
            say(&format!(
                "      the package index could not be renewed, going on with the old one: {error:#}"
            ));
        }
    }
    say(&format!("      installing {}", missing.join(" ")));
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(missing);
    let mut last = None;
    for _ in 0..2 {
        match run(apt(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1"))
        {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        run(&mut apt(["update"]))
            .context("cannot renew the package index; check the network and apt's sources")?;
    }
    let error = last.context("the installation was never tried")?;
    Err(error.context(format!(
        "cannot install the packages; try by hand: {by_hand}"
    )))
}

/// Those of `packages` that are not installed.
///
/// # Errors
/// When this is no Debian.
pub fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    check_debian(packages)?;
    let mut query = command(
        "dpkg-query",
        ["-W", "-f", "${db:Status-Status} ${Package}\n"],
    );
    // The query fails as soon as one name is unknown, and still prints the others.
    let output = query
        .args(packages)
        .output()
        .context("cannot start dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let present: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .collect();
    Ok(packages
        .iter()
        .copied()
        .filter(|name| !present.contains(name))
        .collect())
}

fn check_debian(packages: &[&str]) -> Result<()> {
    if is_installed("apt-get")
        && is_installed("dpkg-query")
        && Path::new("/etc/debian_version").exists()
    {
        return Ok(());
    }
    bail!(
        "this is not Debian, so packages are not installed by themselves. Install what your distribution has in \
         place of these Debian 12 packages: {}",
        packages.join(" ")
    );
}

fn apt<I, S>(arguments: I) -> std::process::Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    // Another apt, such as a daily timer, may hold the lock for a while.
    let mut apt = command("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=120"]);
    apt.args(arguments);
    apt
}

fn index_is_old() -> bool {
    let newest = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("Release"))
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max();
    newest
        .and_then(|time| time.elapsed().ok())
        .is_none_or(|age| age > INDEX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_lists_only_what_is_absent() {
        let found = missing(&["dpkg", "no-such-package-at-all"]).unwrap();
        assert_eq!(found, ["no-such-package-at-all"]);
    }
}
