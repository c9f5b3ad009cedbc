//! Foreign clients: each runs a program that others wrote against the server under test.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    Program,
    command::{run, run_with_input},
    lab::until,
    net::Host,
};

/// What busybox's DHCP client was told, by the names it hands to its script (`ip`, `router`, `siaddr`, `boot_file`, …).
pub type Settings = BTreeMap<String, String>;

/// Gets a lease with busybox's `udhcpc` and applies nothing. It asks for a minute, as firmware does.
///
/// # Errors
/// When no lease comes.
pub fn udhcpc(host: &Host, folder: &Path, extra: &[&str]) -> Result<Settings> {
    run_udhcpc(host, folder, ["-t", "20", "-T", "3"], extra)
}

/// Asks three times and for six seconds in all, and returns what `udhcpc` said when it got no lease.
///
/// # Errors
/// When it gets one, or cannot ask.
pub fn udhcpc_in_vain(host: &Host, folder: &Path, extra: &[&str]) -> Result<String> {
    match run_udhcpc(host, folder, ["-t", "3", "-T", "2"], extra) {
        Ok(told) => bail!("it got a lease: {told:?}"),
        Err(error) => {
            let said = format!("{error:#}");
            if said.contains("no lease") {
                Ok(said)
            } else {
                Err(error)
            }
        }
    }
}

fn run_udhcpc(host: &Host, folder: &Path, tries: [&str; 4], extra: &[&str]) -> Result<Settings> {
    let told = folder.join("udhcpc.settings");
    let script = write_script(
        &folder.join("udhcpc.sh"),
        &format!(
            "#!/bin/sh\n[ \"$1\" = bound ] && env > '{}'\nexit 0\n",
            told.display()
        ),
    )?;
    let mut udhcpc = host.command("busybox");
    udhcpc
        .args(["udhcpc", "-f", "-q", "-n", "-i", "eth0"])
        .args(tries)
        .arg("-s")
        .arg(script)
        .args(extra);
    run(&mut udhcpc)?;
    let text =
        fs::read_to_string(&told).context("udhcpc ended well but told its script nothing")?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// Sends a request of a scripted client from port 68 and returns the reply to it, if one comes within three seconds;
/// asks up to so many times, as firmware does. What answers another transaction id is late and for nobody.
///
/// # Errors
/// When it cannot be sent.
pub fn exchange(
    host: &Host,
    request: &[u8],
    to: SocketAddrV4,
    times: u32,
) -> Result<Option<Vec<u8>>> {
    host.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).context("port 68")?;
        socket.set_broadcast(true).context("broadcast")?;
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .context("limit the wait")?;
        let mut answer = vec![0; 1500];
        for _ in 0..times {
            socket.send_to(request, to).context("ask")?;
            while let Ok(len) = socket.recv(&mut answer) {
                if answer[..len].get(4..8) == request.get(4..8) {
                    answer.truncate(len);
                    return Ok(Some(answer));
                }
            }
        }
        Ok(None)
    })
}

/// So often asks a client that is to be answered: for a minute.
pub const PATIENTLY: u32 = 20;

/// What a plain BOOTP client (RFC 951) is told, all bytes of it, if anything; it asks up to so many times.
///
/// Scripted: no options, only the vendor area of RFC 1497.
///
/// # Errors
/// When the host cannot broadcast.
pub fn bootp(host: &Host, mac: [u8; 6], times: u32) -> Result<Option<Vec<u8>>> {
    let mut request = vec![0; 300];
    request[..3].copy_from_slice(&[1, 1, 6]);
    request[4..8].copy_from_slice(b"lab!");
    // It cannot take unicast before it has an address.
    request[10] = 0x80;
    request[28..34].copy_from_slice(&mac);
    request[236..240].copy_from_slice(&[99, 130, 83, 99]);
    request[240] = 255;
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    let _ = host.ip(["route", "add", "255.255.255.255/32", "dev", "eth0"]);
    exchange(host, &request, everybody, times)
}

/// Asks by RARP (RFC 903) for this card's address, for the host itself knows no such thing.
///
/// # Errors
/// When the frame cannot be sent.
pub fn rarp(host: &Host, mac: [u8; 6]) -> Result<()> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    frame.extend([&mac[..], &[0; 4], &mac[..], &[0; 4]].concat());
    frame.resize(60, 0);
    let mut socat = host.command("socat");
    socat.args(["-u", "STDIN", "INTERFACE:eth0"]);
    run_with_input(&mut socat, &frame).map(drop)
}

/// Prints every RARP packet that passes a host from here on.
///
/// # Errors
/// When tcpdump cannot be started.
pub fn hear_rarp(host: &Host, folder: &Path) -> Result<Program> {
    let mut tcpdump = host.command("tcpdump");
    tcpdump.args(["-i", "eth0", "-l", "-n", "-Z", "root", "rarp"]);
    let program = Program::start("tcpdump", tcpdump, folder)?;
    program.wait_for("listening on", Duration::from_secs(10))?;
    Ok(program)
}

/// Gets an address with Debian's BOOTP client and returns what it printed, one `NAME='value'` a line.
///
/// # Errors
/// When it is not answered.
pub fn bootpc(host: &Host, program: &Path) -> Result<String> {
    let program = program.to_str().context("path")?;
    run(host.command(program).args([
        "--dev",
        "eth0",
        "--serverbcast",
        "--timeoutwait",
        "60",
        "--returniffail",
    ]))
}

/// Gets a lease with ISC's `dhclient`, and returns the lease as it wrote it down.
///
/// # Errors
/// When no lease comes.
pub fn dhclient(host: &Host, folder: &Path) -> Result<String> {
    run_dhclient(host, folder, &[])
}

/// The same with a configuration: what it sends, asks for and refuses.
///
/// # Errors
/// When no lease comes.
pub fn dhclient_with(host: &Host, folder: &Path, configuration: &str) -> Result<String> {
    let file = folder.join("dhclient.conf");
    fs::write(&file, configuration).context("cannot write dhclient.conf")?;
    run_dhclient(host, folder, &["-cf", &file.display().to_string()])
}

/// Gets an IPv6 address with ISC's `dhclient` and returns the lease as it wrote it down.
///
/// # Errors
/// When no lease comes.
pub fn dhclient6(host: &Host, folder: &Path, configuration: &str) -> Result<String> {
    ready_for_ipv6(host)?;
    let (file, leases) = (
        folder.join("dhclient6.conf"),
        folder.join("dhclient6.leases"),
    );
    fs::write(&file, configuration).context("cannot write dhclient6.conf")?;
    let script = write_script(&folder.join("dhclient6.sh"), "#!/bin/sh\nexit 0\n")?;
    let mut dhclient = host.command("dhclient");
    // A DUID of its hardware address, and of no time.
    dhclient.args(["-6", "-D", "LL", "-1", "-d", "--no-pid"]);
    for (flag, path) in [("-sf", &script), ("-lf", &leases), ("-cf", &file)] {
        dhclient.arg(flag).arg(path);
    }
    dhclient.arg("eth0");
    // In the foreground it stays after the lease is bound, so what it wrote ends the wait.
    let program = Program::start("dhclient6", dhclient, folder)?;
    let lease = || fs::read_to_string(&leases).unwrap_or_default();
    program.wait_until("a lease", Duration::from_secs(20), |_| {
        lease().contains("iaaddr")
    })?;
    Ok(lease())
}

/// Until nobody else on a fresh card's link was found to have its address (RFC 4862 section 5.4), nothing binds to it.
fn ready_for_ipv6(host: &Host) -> Result<()> {
    until("a link-local address of eth0", || {
        let told = host.ip(["-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]);
        let told = told.unwrap_or_default();
        told.lines().any(|address| !address.contains("tentative"))
    })
}

fn run_dhclient(host: &Host, folder: &Path, extra: &[&str]) -> Result<String> {
    let leases = folder.join("dhclient.leases");
    let script = write_script(&folder.join("dhclient.sh"), "#!/bin/sh\nexit 0\n")?;
    let mut dhclient = host.command("dhclient");
    dhclient
        .args(["-4", "-1", "-d", "--no-pid", "-sf"])
        .arg(script)
        .arg("-lf")
        .arg(&leases)
        .args(extra)
        .arg("eth0");
    // A lease of an earlier run must not be taken for this one's.
    let _ = fs::remove_file(&leases);
    // In the foreground it stays after the lease is bound, so what it wrote ends the wait.
    let program = Program::start("dhclient", dhclient, folder)?;
    let lease = || fs::read_to_string(&leases).unwrap_or_default();
    program.wait_until("a lease", Duration::from_secs(60), |_| {
        let lease = lease();
        lease.contains("fixed-address") && lease.trim_end().ends_with('}')
    })?;
    Ok(lease())
}

/// Fetches a file with tftp-hpa, which negotiates no block size.
///
/// # Errors
/// When the file does not arrive.
pub fn tftp_hpa(host: &Host, server: Ipv4Addr, name: &str, target: &Path) -> Result<()> {
    let request = format!("get {name} {}", target.display());
    run(host
        .command("tftp")
        .args(["-m", "binary", &server.to_string(), "-c"])
        .args(request.split(' ')))?;
    fs::metadata(target)
        .with_context(|| format!("tftp reported no error, but {name} did not arrive"))?;
    Ok(())
}

/// Fetches a file with atftp and the options it is told, such as `blksize 1428` or `windowsize 8`.
///
/// # Errors
/// When the file does not arrive.
pub fn atftp(
    host: &Host,
    server: Ipv4Addr,
    name: &str,
    target: &Path,
    options: &[&str],
) -> Result<String> {
    let mut atftp = host.command("atftp");
    atftp
        .args(["--get", "--remote-file", name, "--local-file"])
        .arg(target);
    for option in options {
        atftp.args(["--option", option]);
    }
    run(atftp.arg(server.to_string()))
}

/// Fetches an address with curl; `arguments` come before it. Returns the body.
///
/// # Errors
/// When curl reports an error; an HTTP status is one only with `--fail`.
pub fn curl(host: &Host, arguments: &[&str], url: &str) -> Result<String> {
    run(host
        .command("curl")
        .args(["--silent", "--show-error", "--max-time", "120"])
        .args(arguments)
        .arg(url))
}

/// Asks for a machine's own script and, where the answer is only its name, fetches that, as iPXE does.
///
/// # Errors
/// As [`curl`].
pub fn own_script(host: &Host, server: Ipv4Addr, mac: &str) -> Result<String> {
    let query = format!(
        "mac={}&platform=efi&buildarch=x86_64",
        mac.replace(':', "-")
    );
    let url = format!("http://{server}:8067/boot/script?{query}");
    let answer = curl(host, &["--fail"], &url)?;
    let named = answer
        .lines()
        .filter_map(|line| line.strip_prefix("chain "));
    let mut words = named.flat_map(|line| line.split(' '));
    match words.find(|word| word.contains("/boot/named/")) {
        Some(named) => curl(host, &["--fail"], named),
        None => Ok(answer),
    }
}

/// Loads the DHCP server with Kea's `perfdhcp` and returns its report. It waits 20 s for each answer, and as long for
/// the last ones: firmware that asks four times waits for a minute.
///
/// # Errors
/// When it does not end well, which includes lost answers beyond what `arguments` allow.
pub fn perfdhcp(host: &Host, arguments: &[&str]) -> Result<String> {
    run(host
        .command("perfdhcp")
        .args(["-4", "-l", "eth0", "-d", "20", "-d", "20", "-W", "20000000"])
        .args(arguments))
}

fn write_script(path: &Path, text: &str) -> Result<PathBuf> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot allow {}", path.display()))?;
    Ok(path.to_path_buf())
}
