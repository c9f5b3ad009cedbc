//! Exactly what may be written in `farrier.toml`. Every field is optional here; what is unset gets its
//! value in [`super::Config`]. The comments are the manual.

use std::path::PathBuf;

use serde::Deserialize;
use toml::{Spanned, Value};

pub use super::options::Options;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Where everything is kept: database, images, loaders, certificates. Default `/var/lib/farrier`.
    pub data_dir: Option<PathBuf>,
    pub boot: Boot,
    pub tftp: Tftp,
    pub agent: Agent,
    pub admin: Admin,
    /// DHCP options for all clients, by name or number; `docs/reference/dhcp-options.md` has the names. A subnet
    /// and a reservation may have their own, which count more.
    pub options: Options,
    /// Interfaces to serve. On all others the server is silent.
    pub interface: Vec<Interface>,
    /// Kinds of clients, with options of their own. At most 64.
    pub class: Vec<Class>,
    /// Wires with several networks on them.
    pub shared_network: Vec<SharedNetwork>,
    /// Networks to give addresses in, for interfaces in mode `dhcp` and for relays.
    pub subnet: Vec<Subnet>,
    /// IPv6 networks to boot in. Without one the server speaks no IPv6.
    pub subnet6: Vec<Subnet6>,
}

/// HTTP for firmware and loaders.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boot {
    /// Plain HTTP: port on each served interface. Default 8067.
    pub http_port: Option<Spanned<u16>>,
    /// Where no IPv6 router is, iPXE waits 13 s for one although it knows what to load. Machines that we boot are told
    /// that there is none, by a router advertisement to them alone. Default true. Say false where a switch shuts
    /// ports from which such come (RA guard).
    pub end_ipv6_wait: Option<bool>,
    /// Write the table, even an empty one, and the same is there by HTTPS, for who the setting `boot_tls` says.
    pub tls: Option<BootTls>,
}

/// HTTPS for firmware and loaders.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootTls {
    /// Port on each served interface. Default 443.
    pub port: Option<Spanned<u16>>,
    /// Key and authority of the certificate that Farrier makes: `rsa-3072` (default; old firmware knows no other) or
    /// `p-256`.
    pub key: Option<Spanned<String>>,
    /// Your own certificate in its place: a PEM file with the server's first and those that signed it behind,
    pub certificate: Option<Spanned<PathBuf>>,
    /// and the PEM file with its key.
    pub private_key: Option<Spanned<PathBuf>>,
    /// A name that URLs hold in place of our address. Machines have to find it by DNS.
    pub host: Option<Spanned<String>>,
    /// Further names and addresses in the certificate that Farrier makes.
    #[serde(default)]
    pub names: Vec<Spanned<String>>,
}

/// How files leave by TFTP.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tftp {
    /// Answer from the port that requests come to, for firewalls, NAT and containers that let nothing else through.
    /// By RFC 1350 each transfer has a port of its own, and a few old clients insist on it. Default false. Streams of
    /// RFC 2090 have ports of their own in any case.
    #[serde(default)]
    pub single_port: bool,
    /// Send no larger packets, headers included, where a tunnel on the way takes less than the interface and says
    /// nothing. Default: what interface and route take.
    pub path_mtu: Option<Spanned<u16>>,
    /// Write the table, even an empty one, and clients that ask for it share one stream (RFC 2090).
    pub multicast: Option<TftpMulticast>,
    /// Write the table, even an empty one, and BIOS boot ROMs are told where to listen for their boot program
    /// (MTFTP, PXE 2.1). Those that know nothing of it use TFTP as before.
    pub mtftp: Option<Mtftp>,
}

/// RFC 2090.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TftpMulticast {
    /// Multicast addresses, one for each stream at a time. Default `239.255.67.1-239.255.67.32`.
    pub groups: Option<Spanned<String>>,
    /// Port that the blocks go to. Default 1758.
    pub port: Option<Spanned<u16>>,
}

/// MTFTP, as option 43 tells of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mtftp {
    /// Networks whose clients are told of it, such as `10.0.0.0/24`. Default: all that are served.
    pub networks: Option<Vec<Spanned<String>>>,
    /// Multicast addresses, one for each boot program (43.1). Default `239.255.67.65-239.255.67.80`.
    pub groups: Option<Spanned<String>>,
    /// Port that the blocks go to (43.2). Default 1758.
    pub client_port: Option<Spanned<u16>>,
    /// Port that streams are opened at (43.3). Default 1759.
    pub server_port: Option<Spanned<u16>>,
    /// Seconds that a client listens before it opens a stream (43.4). Default 2.
    pub timeout: Option<Spanned<u8>>,
    /// Seconds of silence after which it opens one again (43.5). Default 2.
    pub delay: Option<Spanned<u8>>,
}

/// TLS for agents.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Port on each served interface. Default 8444.
    pub port: Option<Spanned<u16>>,
}

/// TLS for people and programs: the page and the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port. Default `127.0.0.1:8443`.
    pub listen: Option<Spanned<String>>,
    /// Names and addresses people use to reach the page, for its certificate. The listening address
    /// and this machine's host name are always in it.
    pub names: Vec<String>,
}

/// One interface and what it is served with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// As `ip link` calls it.
    pub name: Spanned<String>,
    /// `proxy` beside a DHCP server on another host (default); `dhcp` to be the DHCP server;
    /// `port4011` beside a DHCP server on this host that sends option 60 `PXEClient`.
    pub mode: Option<Spanned<String>>,
    /// Our address there, if it has several. Default: its first.
    pub address: Option<Spanned<String>>,
    /// Answer RARP, for known machines and reserved addresses. Only in mode `dhcp`. Default false.
    pub rarp: Option<Spanned<bool>>,
}

/// A kind of clients.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub name: Spanned<String>,
    /// Who is in it: an expression in CEL over `facts`, `machine` and `inventory`, as in rules.
    pub when: Spanned<String>,
    /// DHCP options for them.
    #[serde(default)]
    pub options: Options,
}

/// A wire with several networks on it: clients get an address of any of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedNetwork {
    pub name: Spanned<String>,
    /// DHCP options for clients in all of its networks.
    #[serde(default)]
    pub options: Options,
}

/// One network to give addresses in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// `10.0.0.0/24`.
    pub network: Spanned<String>,
    /// What rules call it: `machine.subnet == 'office'`. Networks of one name are one place. Default: the network.
    pub name: Option<Spanned<String>>,
    /// The `[[shared_network]]` it is on, if it has its wire not for itself.
    pub shared_network: Option<Spanned<String>>,
    /// Ranges to lend from: `10.0.0.100-10.0.0.199`, or single addresses; or tables `{ range = "…", allow = […],
    /// deny = […] }` for some classes of clients.
    #[serde(default)]
    pub pools: Vec<Spanned<Value>>,
    #[serde(default)]
    pub routers: Vec<Spanned<String>>,
    #[serde(default)]
    pub dns: Vec<Spanned<String>>,
    pub domain: Option<String>,
    /// How long an address is lent, in seconds. Default 12 hours.
    pub lease_seconds: Option<Spanned<u32>>,
    /// Ask the network whether somebody uses an address before it is offered to a client that has no lease on it.
    /// Default true.
    pub probe: Option<bool>,
    /// DHCP options for clients in this network.
    #[serde(default)]
    pub options: Options,
    #[serde(default)]
    pub reservation: Vec<Reservation>,
}

/// One IPv6 network to boot in. Interfaces with an address in it serve it as their `mode` says: `dhcp`
/// lends addresses and names boot files, `proxy` names boot files to who asks for nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet6 {
    /// `fd00:1:2:3::/64`; the prefix length is always 64.
    pub network: Spanned<String>,
    /// What rules call it; it may be the name of a `[[subnet]]`, too. Default: the network.
    pub name: Option<Spanned<String>>,
    #[serde(default)]
    pub dns: Vec<Spanned<String>>,
    /// How long an address is lent, in seconds. Default 12 hours.
    pub lease_seconds: Option<Spanned<u32>>,
    /// Tell hosts by router advertisements that DHCPv6 is here. Default false; say true where no
    /// router does, since iPXE asks DHCPv6 only then. It never offers a default route.
    #[serde(default)]
    pub router_advertisement: bool,
    #[serde(default)]
    pub reservation: Vec<Reservation6>,
}

/// An IPv6 address kept for one machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation6 {
    pub address: Spanned<String>,
    /// By hardware address, which a relay, a link-local address or a DUID tells, or
    pub mac: Option<Spanned<String>>,
    /// by the SMBIOS UUID that firmware sends as its DUID, or
    pub uuid: Option<Spanned<String>>,
    /// by the whole DUID, its type first.
    pub duid: Option<Spanned<String>>,
}

/// An address kept for one machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    pub address: Spanned<String>,
    /// By hardware address, or
    pub mac: Option<Spanned<String>>,
    /// by the SMBIOS UUID that the firmware sends, or
    pub uuid: Option<Spanned<String>>,
    /// by option 61, all bytes of it, or
    pub client_id: Option<Spanned<String>>,
    /// by where it is plugged in, as a relay or switch says in option 82: sub-option 1
    pub circuit_id: Option<Spanned<String>>,
    /// and sub-option 2, or one of them.
    pub remote_id: Option<Spanned<String>>,
    /// DHCP options for this machine.
    #[serde(default)]
    pub options: Options,
}
