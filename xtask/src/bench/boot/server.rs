//! The servers: how each is configured and started, and where Debian's are had from.
//!
//! The packages are unpacked below `target`, not installed: nothing starts on this machine, and two TFTP servers that
//! exclude one another as packages can both be measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use farrier_e2e::{
    Host, Lab, Program, command::command, command::is_installed, command::run, report::say,
};
use serde_json::json;

use super::cpu::Group;
use super::rows::{File, Work};
use super::{Bench, grouped};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Farrier,
    Kea,
    Dnsmasq,
    Isc,
    Hpa,
    Atftpd,
    Nginx,
}

/// Where the programs of others are.
#[derive(Debug)]
pub(super) struct Peers {
    folder: PathBuf,
    missing: Vec<Peer>,
}

impl Peers {
    /// Fetches what is absent; whom that fails for is named and left out.
    pub(super) fn find(lab: &Lab, folder: &Path) -> Result<Self> {
        let _lock = lab.lock("bench-peers")?;
        let folder = folder.join("peers");
        fs::create_dir_all(&folder)?;
        let mut peers = Self {
            folder,
            missing: Vec::new(),
        };
        for (peer, packages) in PACKAGES {
            if let Err(error) = peers.fetch(*peer, packages) {
                say(&format!("{peer:?} is left out: {error:#}"));
                peers.missing.push(*peer);
            }
        }
        Ok(peers)
    }

    fn fetch(&self, peer: Peer, packages: &[&str]) -> Result<()> {
        if self.program(peer).is_ok() {
            return Ok(());
        }
        for package in packages {
            let debs = self.folder.join(format!("{peer:?}")).join(package);
            fs::create_dir_all(&debs)?;
            run(command("apt-get", ["download", "-q", package]).current_dir(&debs))?;
            for deb in fs::read_dir(&debs)? {
                run(command("dpkg-deb", ["-x"])
                    .arg(deb?.path())
                    .arg(self.root(peer)))?;
            }
        }
        self.program(peer).map(drop)
    }

    /// Each has a tree of its own: two TFTP servers call themselves `in.tftpd`.
    fn root(&self, peer: Peer) -> PathBuf {
        self.folder.join(format!("{peer:?}-root"))
    }

    fn program(&self, peer: Peer) -> Result<PathBuf> {
        let name = match peer {
            Peer::Farrier => bail!("not one of the peers"),
            Peer::Kea => "kea-dhcp4",
            Peer::Dnsmasq => "dnsmasq",
            Peer::Isc => "dhcpd",
            Peer::Hpa => "in.tftpd",
            Peer::Atftpd => "atftpd",
            Peer::Nginx => "nginx",
        };
        let unpacked = self.root(peer).join("usr/sbin").join(name);
        if unpacked.is_file() {
            return Ok(unpacked);
        }
        if is_installed(name) {
            return Ok(name.into());
        }
        bail!("there is no {name}")
    }

    /// Those that can be had, each round another one first.
    pub(super) fn in_turn(&self, peers: &[Peer], round: usize) -> Vec<Peer> {
        let mut peers = peers.to_vec();
        let first = round % peers.len().max(1);
        peers.rotate_left(first);
        peers.retain(|peer| !self.missing.contains(peer));
        peers
    }
}

/// What is fetched, in the places where each server wants it.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    tags: Tags,
}

/// Our server names its agent by what the initramfs holds.
#[derive(Debug)]
struct Tags {
    kernel: String,
    image: String,
}

impl Files {
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let files = folder.join("files");
        fs::create_dir_all(&files)?;
        for (name, mib) in [("loader", 1), ("kernel", 16), ("image", 100)] {
            let path = files.join(name);
            if !path.exists() {
                let (input, output) = ("if=/dev/urandom", format!("of={}", path.display()));
                run(&mut command(
                    "dd",
                    [
                        input,
                        &output,
                        "bs=1M",
                        &format!("count={mib}"),
                        "status=none",
                    ],
                ))?;
            }
        }
        let (key, certificate) = (files.join("tls.key"), files.join("tls.pem"));
        if !certificate.exists() {
            let mut openssl = command("openssl", SELF_SIGNED);
            run(openssl.arg("-keyout").arg(key).arg("-out").arg(certificate))?;
        }
        // As long as our own first script.
        fs::write(files.join("script"), vec![b'#'; 420])?;
        let tag = |name: &str| -> Result<String> {
            Ok(sha256(&files.join(name))?.chars().take(16).collect())
        };
        let tags = Tags {
            kernel: tag("kernel")?,
            image: tag("image")?,
        };
        Ok(Self {
            folder: files,
            tags,
        })
    }

    /// To compare with; scripts differ from server to server.
    pub(super) fn copy(&self, file: File) -> Option<PathBuf> {
        match file {
            File::Script => None,
            File::Loader => Some(self.folder.join("loader")),
            File::Kernel => Some(self.folder.join("kernel")),
            File::Image => Some(self.folder.join("image")),
        }
    }

    pub(super) fn tftp_name(&self, file: File, peer: Peer) -> String {
        match (peer, file) {
            (Peer::Farrier, File::Script) => "boot/first.ipxe".to_owned(),
            (Peer::Farrier, File::Loader) => format!("boot/agent/{}/vmlinuz", self.tags.image),
            (Peer::Farrier, File::Image) => format!("boot/agent/{}/agent.img", self.tags.image),
            (Peer::Farrier, File::Kernel) => format!("boot/agent/{}/agent.img", self.tags.kernel),
            (_, File::Script) => "script".to_owned(),
            (_, File::Loader) => "loader".to_owned(),
            (_, File::Kernel) => "kernel".to_owned(),
            (_, File::Image) => "image".to_owned(),
        }
    }

    pub(super) fn url(&self, file: File, peer: Peer, tls: bool) -> String {
        let (scheme, port) = match (tls, peer) {
            (true, _) => ("https", 443),
            (false, Peer::Farrier) => ("http", 8067),
            (false, _) => ("http", 80),
        };
        let name = self.tftp_name(file, peer);
        format!("{scheme}://{}:{port}/{name}", super::SERVER)
    }

    /// The server's own, signed by itself; its key lies beside it.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("tls.pem")
    }

    /// Two of the files as what our server takes for its agent.
    fn as_agent(&self, folder: &Path, initrd: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let record = |name: &str, file: &str| -> Result<serde_json::Value> {
            let from = self.folder.join(file);
            let _ = fs::remove_file(folder.join(name));
            std::os::unix::fs::symlink(&from, folder.join(name))?;
            Ok(
                json!({ "name": name, "bytes": fs::metadata(&from)?.len(), "sha256": sha256(&from)? }),
            )
        };
        let image = json!({
            "kernel_release": "bench",
            "vmlinuz": record("vmlinuz", "loader")?,
            "initrd": record("initrd.img", initrd)?,
            "unpacked_bytes": 0,
            "agent": { "name": "init", "bytes": 0, "sha256": "" },
            "modules": [],
            "firmware": [],
        });
        fs::write(folder.join("agent-image.json"), image.to_string())?;
        Ok(())
    }
}

fn sha256(file: &Path) -> Result<String> {
    let printed = run(command("sha256sum", ["--"]).arg(file))?;
    let sum = printed
        .split_whitespace()
        .next()
        .context("sha256sum prints a sum")?;
    Ok(sum.to_owned())
}

impl Bench {
    /// Starts a server for this work and waits until it listens.
    pub(super) fn start(
        &self,
        peer: Peer,
        work: Work,
        scratch: &Path,
        group: &Group,
    ) -> Result<Program> {
        let program = match peer {
            Peer::Farrier => self.farrier.clone(),
            other => self.peers.program(other)?,
        };
        let mut server = grouped(&self.server, group, &program.display().to_string());
        let libraries = self.peers.root(peer).join("usr/lib/x86_64-linux-gnu");
        if peer != Peer::Farrier {
            server.env("LD_LIBRARY_PATH", libraries);
        }
        server.args(self.arguments(peer, work, scratch)?);
        server
            .env("KEA_PIDFILE_DIR", scratch)
            .env("KEA_LOCKFILE_DIR", "none");
        let running = Program::start("server", server, scratch)?;
        let (table, port) = match (work, peer) {
            (Work::Http { tls: true, .. }, _) => ("tcp", 443),
            (Work::Http { .. }, Peer::Farrier) => ("tcp", 8067),
            (Work::Http { .. }, _) => ("tcp", 80),
            (Work::Tftp { .. } | Work::Multicast { .. }, _) => ("udp", 69),
            _ => ("udp", 67),
        };
        running.wait_until(
            &format!("{table} port {port}"),
            Duration::from_secs(15),
            |_| listens(&self.server, table, port),
        )?;
        Ok(running)
    }

    fn arguments(&self, peer: Peer, work: Work, scratch: &Path) -> Result<Vec<String>> {
        let at = |name: &str| scratch.join(name).display().to_string();
        let put = |name: &str, text: String| -> Result<String> {
            fs::write(scratch.join(name), text)?;
            Ok(at(name))
        };
        let files = self.files.folder.display().to_string();
        let words: Vec<String> = match peer {
            Peer::Farrier => {
                let initrd = match work {
                    Work::Multicast { .. } => "kernel",
                    _ => "image",
                };
                self.files.as_agent(&scratch.join("data/agent"), initrd)?;
                let loaders = self.folder.join("imported/loaders");
                run(command("cp", ["-a"]).arg(loaders).arg(scratch.join("data")))?;
                let mode = if matches!(work, Work::Offers { .. }) {
                    "proxy"
                } else {
                    "dhcp"
                };
                let mut text = farrier_config(&at("data"), mode);
                if matches!(work, Work::Http { tls: true, .. }) {
                    text.push_str(&boot_tls(&files));
                }
                if matches!(work, Work::Multicast { .. }) {
                    text.push_str("[tftp.multicast]\n");
                }
                vec![
                    "serve".to_owned(),
                    "--config".to_owned(),
                    put("farrier.toml", text)?,
                ]
            }
            Peer::Kea => vec![
                "-c".to_owned(),
                put("kea.json", kea_config(&at("kea.csv")))?,
            ],
            Peer::Dnsmasq => dnsmasq_arguments(work, &files, &at("dnsmasq.leases")),
            Peer::Isc => {
                put("isc.leases", String::new())?;
                let conf = put("dhcpd.conf", ISC_CONFIG.to_owned())?;
                [
                    "-4",
                    "-f",
                    "-q",
                    "-cf",
                    &conf,
                    "-lf",
                    &at("isc.leases"),
                    "-pf",
                    &at("isc.pid"),
                    "wire0",
                ]
                .map(str::to_owned)
                .to_vec()
            }
            Peer::Hpa => ["-L", "-a", "10.79.0.1:69", "-u", "root", "-s", &files]
                .map(str::to_owned)
                .to_vec(),
            Peer::Atftpd => [
                "--daemon",
                "--no-fork",
                "--bind-address",
                "10.79.0.1",
                "--user",
                "root",
                "--group",
                "root",
                "--maxthread",
                "1500",
                "--logfile",
                "/dev/null",
                "--mcast-addr",
                "239.255.67.0-9",
                "--mcast-port",
                "1758",
                "--mcast-ttl",
                "1",
                &files,
            ]
            .map(str::to_owned)
            .to_vec(),
            Peer::Nginx => vec![
                "-c".to_owned(),
                put("nginx.conf", nginx_config(&files, &at("nginx")))?,
            ],
        };
        Ok(words)
    }
}

fn listens(host: &Host, table: &str, port: u16) -> bool {
    let printed = run(host.command("cat").arg(format!("/proc/net/{table}"))).unwrap_or_default();
    let needle = format!(":{port:04X} ");
    printed
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|local| format!("{local} ").contains(&needle))
}

/// Without asking whether an address is free: the peers run without, too.
pub(super) fn farrier_config(data: &str, mode: &str) -> String {
    format!(
        "data_dir = {data:?}\n[admin]\nlisten = \"127.0.0.1:8443\"\n[[interface]]\nname = \"wire0\"\nmode = \"{mode}\"\n\
         [[subnet]]\nnetwork = \"10.79.0.0/16\"\npools = [\"10.79.16.0-10.79.95.255\"]\nrouters = [\"10.79.0.1\"]\n\
         lease_seconds = 3600\nprobe = false\n\
         [[subnet]]\nnetwork = \"10.80.0.0/16\"\npools = [\"10.80.16.0-10.80.95.255\"]\nrouters = [\"10.80.0.1\"]\n\
         lease_seconds = 3600\nprobe = false\n"
    )
}

/// The certificate that nginx gets too.
fn boot_tls(files: &str) -> String {
    format!(
        "[boot.tls]\ncertificate = \"{files}/tls.pem\"\nprivate_key = \"{files}/tls.key\"\nhost = \"bench.test\"\n"
    )
}

fn kea_config(leases: &str) -> String {
    json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["wire0"], "dhcp-socket-type": "udp" },
        "lease-database": { "type": "memfile", "persist": true, "name": leases, "lfc-interval": 0 },
        "valid-lifetime": 3600,
        "next-server": "10.79.0.1",
        "boot-file-name": "loader",
        "subnet4": [{
            "id": 1,
            "subnet": "10.79.0.0/16",
            "pools": [{ "pool": "10.79.16.0 - 10.79.95.255" }],
            "option-data": [{ "name": "routers", "data": "10.79.0.1" }],
        }],
        "loggers": [{ "name": "kea-dhcp4", "severity": "ERROR", "output_options": [{ "output": "stderr" }] }],
    }})
    .to_string()
}

fn dnsmasq_arguments(work: Work, files: &str, leases: &str) -> Vec<String> {
    let mut words = vec![
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--port=0",
    ];
    words.extend([
        "--interface=wire0",
        "--bind-interfaces",
        "--log-facility=-",
        "--quiet-dhcp",
        "--quiet-tftp",
    ]);
    match work {
        Work::Dora { .. } => words.extend([
            "--dhcp-range=10.79.16.0,10.79.95.255,255.255.0.0,1h",
            "--dhcp-lease-max=30000",
            "--dhcp-authoritative",
            "--no-ping",
            "--dhcp-boot=loader",
        ]),
        Work::Offers { .. } => words.extend([
            "--dhcp-range=10.79.0.0,proxy,255.255.0.0",
            "--pxe-service=x86-64_EFI,boot,loader",
            "--pxe-service=BC_EFI,boot,loader",
        ]),
        Work::Tftp { .. } | Work::Multicast { .. } | Work::Http { .. } => {
            words.extend(["--enable-tftp", "--tftp-max=1500"]);
        }
    }
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    words.push(format!("--tftp-root={files}"));
    words.push(format!("--dhcp-leasefile={leases}"));
    words
}

fn nginx_config(files: &str, prefix: &str) -> String {
    // The packaged places belong to an installed nginx, and this one is not.
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places: String = places
        .map(|kind| format!("{kind}_temp_path {prefix}-{kind}; "))
        .concat();
    format!(
        "daemon off; user root; worker_processes 2; pid {prefix}.pid; error_log {prefix}.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {places}\n\
         ssl_certificate {files}/tls.pem; ssl_certificate_key {files}/tls.key; ssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{ listen 10.79.0.1:80; listen 10.79.0.1:443 ssl; root {files}; }} }}\n"
    )
}

const ISC_CONFIG: &str =
    "authoritative; ping-check false; default-lease-time 3600; max-lease-time 3600;
subnet 10.79.0.0 netmask 255.255.0.0 {
  range 10.79.16.0 10.79.95.255;
  option routers 10.79.0.1; next-server 10.79.0.1; filename \"loader\";
}
";

/// A P-256 key and its certificate.
const SELF_SIGNED: [&str; 15] = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "3650",
    "-subj",
    "/CN=bench.test",
    "-addext",
    "subjectAltName=IP:10.79.0.1,DNS:bench.test",
    "-addext",
    "basicConstraints=critical,CA:FALSE",
];

/// Each peer with the packages that hold it and the libraries that a small system lacks.
const PACKAGES: &[(Peer, &[&str])] = &[
    (Peer::Kea, &["kea-dhcp4-server", "kea-common"]),
    (Peer::Dnsmasq, &["dnsmasq-base"]),
    (Peer::Isc, &["isc-dhcp-server"]),
    (Peer::Hpa, &["tftpd-hpa", "libwrap0"]),
    (Peer::Atftpd, &["atftpd", "libwrap0"]),
    (Peer::Nginx, &["nginx"]),
];
