//! The same as [`crate::boot`] over IPv6: a DHCPv6 message becomes facts, a decision, a reply.
//!
//! Nothing here waits for the database. An address is kept for its client by the configuration, or computed from who
//! asks (see [`farrier_engine::address6`]), so there is no lease that could be lost.

mod lend;
mod record;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use farrier_engine::Reason;
use farrier_engine::address6;
use farrier_engine::facts::BootFacts;
use farrier_engine::identity::Evidence;
use farrier_engine::policy::{Boot, DhcpAction, Known, Service, dhcp_action};
use farrier_engine::timeline::Entry;
use farrier_proto::MacAddr;
use farrier_proto::reply::dhcpv6::{Answer, BootUrl, Status, reply};
use farrier_proto::wire::dhcpv6::{Message, MessageType, Packet};
use farrier_proto::wire::dhcpv6_option::{Duid, RAPID_COMMIT};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::boot_tree::{self, Urls};
use crate::config::{Mode, Subnet6Config};
use crate::core::{Core, Recognised, now};
use crate::exchanges::Exchange;

pub use lend::Declined;

/// All_DHCP_Relay_Agents_and_Servers.
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
pub const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;

/// Port 547 of one interface.
#[derive(Debug)]
pub struct Boot6Port {
    pub core: Arc<Core>,
    pub socket: UdpSocket,
    pub mode: Mode,
    /// Our address on the interface, which is in every URL.
    pub address: Ipv6Addr,
    pub declined: Declined,
}

/// What became of a datagram.
#[derive(Debug)]
pub enum Outcome {
    Reply { bytes: Vec<u8>, to: SocketAddrV6 },
    Ignore(Reason),
}

impl Boot6Port {
    /// Answers until `stop` changes.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                _ = stop.changed() => return,
            };
            let outcome = match received {
                Ok((len, SocketAddr::V6(source))) => self.handle(&buffer[..len], source),
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(%error, "DHCPv6 socket");
                    continue;
                }
            };
            let (bytes, to) = match outcome {
                Outcome::Reply { bytes, to } => (bytes, to),
                Outcome::Ignore(reason) => {
                    self.core.counters.ignored(reason, now());
                    continue;
                }
            };
            self.core.counters.replied();
            if let Err(error) = self.socket.send_to(&bytes, to).await {
                tracing::warn!(%error, %to, "a DHCPv6 reply could not be sent");
            }
        }
    }

    /// What becomes of one datagram.
    #[must_use]
    pub fn handle(&self, datagram: &[u8], source: SocketAddrV6) -> Outcome {
        let Ok(mut packet) = Packet::decode(datagram) else {
            return Outcome::Ignore(Reason::Malformed);
        };
        let link = packet.link().unwrap_or(self.address);
        let Some(subnet) = self.core.subnet6_of(link) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        let mac = packet.client_mac(*source.ip());
        let asked = Asked::new(self, subnet, &packet.message, mac);
        let (exchange, answered) = (asked.exchange(datagram.len()), asked.answer());
        asked.expect(&answered);
        let outcome = match answered {
            Ok(message) => {
                let port = if packet.relays.is_empty() {
                    CLIENT_PORT
                } else {
                    SERVER_PORT
                };
                packet.message = message;
                let to = SocketAddrV6::new(*source.ip(), port, 0, source.scope_id());
                let bytes = packet.encode_reply();
                Outcome::Reply { bytes, to }
            }
            Err(reason) => Outcome::Ignore(reason),
        };
        if let Some(exchange) = exchange {
            let answered = match &outcome {
                Outcome::Reply { bytes, .. } => bytes.len(),
                Outcome::Ignore(_) => 0,
            };
            let exchange = Exchange {
                answered,
                ..exchange
            };
            self.core.exchanges.saw(&exchange, now());
        }
        outcome
    }
}

/// One message and all we know of who sent it.
struct Asked<'a> {
    port: &'a Boot6Port,
    subnet: &'a Subnet6Config,
    request: &'a Message,
    mac: Option<MacAddr>,
    /// None for who does not say which machine it is: it may have an address and nothing to boot.
    facts: Option<BootFacts>,
    who: Recognised,
    server_id: [u8; 18],
}

impl<'a> Asked<'a> {
    fn new(
        port: &'a Boot6Port,
        subnet: &'a Subnet6Config,
        request: &'a Message,
        mac: Option<MacAddr>,
    ) -> Self {
        let facts = BootFacts::from_dhcpv6(request, mac).ok();
        let who = facts.as_ref().map(Evidence::of_facts);
        Self {
            port,
            subnet,
            request,
            mac: facts.as_ref().map(|facts| facts.mac),
            who: who.map_or_else(Recognised::default, |who| port.core.recognise(&who)),
            facts,
            server_id: server_id(&port.core),
        }
    }

    /// Who speaks here may fetch files, and so many bytes of them as are paid for (`T8`).
    fn exchange(&self, heard: usize) -> Option<Exchange> {
        let facts = self.facts.as_ref()?;
        Some(Exchange {
            mac: facts.mac,
            address: None,
            known: self.who.machine.is_some(),
            heard,
            answered: 0,
        })
    }

    fn answer(&self) -> Result<Message, Reason> {
        let to_another = self.names_another();
        if !to_another && !address6::is_valid(self.request, &self.server_id) {
            return Err(Reason::Malformed);
        }
        self.record_request();
        let kind = self.request.kind;
        let message = match (self.port.mode, kind) {
            _ if to_another => Err(Reason::NamesOtherServer),
            (_, MessageType::InformationRequest) => self.stateless(),
            (Mode::Proxy | Mode::Port4011, _) => Err(Reason::AddressesElsewhere),
            (Mode::Dhcp, MessageType::Confirm) => {
                let status = address6::confirm(self.subnet.prefix, self.request);
                let status = status.ok_or(Reason::NoAnswerDue)?;
                Ok(self.reply(MessageType::Reply, Some(status), None))
            }
            (Mode::Dhcp, MessageType::Release | MessageType::Decline) => {
                if kind == MessageType::Decline {
                    self.next_addresses();
                }
                Ok(self.reply(MessageType::Reply, Some(Status::Success), None))
            }
            (Mode::Dhcp, _) => self.stateful(),
        };
        if let Err(reason) = &message {
            self.tell(|machine| Entry::refused(machine, now(), kind.name(), *reason));
        }
        message
    }

    /// Whether it is a message to one server, and that is not us. The others must name none (RFC 8415 section 16).
    fn names_another(&self) -> bool {
        let to_one = matches!(
            self.request.kind,
            MessageType::Request
                | MessageType::Renew
                | MessageType::Release
                | MessageType::Decline
                | MessageType::InformationRequest
        );
        let named = self.request.server_id();
        to_one && named.is_some_and(|id| id != self.server_id)
    }

    /// SOLICIT, REQUEST, RENEW and REBIND.
    fn stateful(&self) -> Result<Message, Reason> {
        let boot = match self.boot() {
            Err(Reason::UnknownMachine) => return Err(Reason::UnknownMachine),
            boot => boot.ok(),
        };
        let at_once = self.request.options.contains(RAPID_COMMIT);
        let kind = match self.request.kind {
            MessageType::Solicit if !at_once => MessageType::Advertise,
            _ => MessageType::Reply,
        };
        let reply = self.reply(kind, None, boot);
        if let Some(ip) = first_lent(&reply) {
            self.tell(|machine| Entry::address_answered(machine, now(), reply.kind.name(), ip));
        }
        Ok(reply)
    }

    fn stateless(&self) -> Result<Message, Reason> {
        match (self.boot(), self.port.mode) {
            (Ok(boot), _) => Ok(self.reply(MessageType::Reply, None, Some(boot))),
            (Err(Reason::UnknownMachine), _) => Err(Reason::UnknownMachine),
            (Err(_), Mode::Dhcp) => Ok(self.reply(MessageType::Reply, None, None)),
            (Err(reason), Mode::Proxy | Mode::Port4011) => Err(reason),
        }
    }

    fn reply(&self, kind: MessageType, status: Option<Status>, boot: Option<BootUrl>) -> Message {
        let lends = matches!(
            self.request.kind,
            MessageType::Solicit | MessageType::Request | MessageType::Renew | MessageType::Rebind
        );
        let answer = Answer {
            kind,
            server_id: &self.server_id,
            ias: if lends { self.sets() } else { Vec::new() },
            dns: &self.subnet.dns,
            boot,
            status,
        };
        reply(self.request, &answer)
    }

    /// What to boot, or why nothing.
    fn boot(&self) -> Result<BootUrl, Reason> {
        let core = &self.port.core;
        let facts = self.facts.as_ref().ok_or(Reason::NotABootClient)?;
        let now = now();
        let loads = core.sightings.recent_loads(facts.mac, now);
        let snapshot = core.snapshot.load();
        let rules = core.rules.load();
        let judged = rules.judge(Some(facts), self.who.machine.as_deref(), || {
            core.place_on6(self.subnet.network)
        });
        let known = Known {
            rules: &judged,
            boot_began: core.sightings.began(facts.mac),
            ..self.who.known(&loads)
        };
        let action = dhcp_action(facts, Service::Dhcp, &known, &snapshot, now);
        let boot = match action {
            DhcpAction::Boot(boot) => boot,
            DhcpAction::AddressOnly(reason) | DhcpAction::Ignore(reason) => return Err(reason),
        };
        let server = IpAddr::V6(self.port.address);
        let urls = Urls::by(&core.config, server, boot.is_https());
        let url = match &boot {
            Boot::Loader(file) => {
                format!(
                    "tftp://[{}]/{}",
                    self.port.address,
                    boot_tree::loader_path(file)
                )
            }
            Boot::HttpLoader(file) | Boot::HttpsLoader(file) => {
                urls.of(&boot_tree::loader_path(file))
            }
            Boot::Medium(name) | Boot::HttpsMedium(name) => urls.of(&format!("boot/media/{name}")),
            Boot::Script | Boot::HttpsScript => urls.of(boot_tree::FIRST_SCRIPT),
        };
        self.tell(|machine| Entry::boot_answered(machine, now, self.request.kind.name(), &boot));
        Ok(BootUrl {
            url,
            parameters: Vec::new(),
        })
    }
}

fn first_lent(reply: &Message) -> Option<Ipv6Addr> {
    let lent = reply.ia_nas().find_map(|ia| ia.addresses().next());
    lent.map(|lent| lent.address)
}

/// A DUID-UUID that lives as long as the site's certificate authority, whatever cards are in this machine.
fn server_id(core: &Core) -> [u8; 18] {
    let digest = blake3::derive_key(
        "farrier 2026 DUID of this server",
        core.ca.fingerprint().as_bytes(),
    );
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    Duid::from_uuid(uuid)
}

/// Firmware asks for one set of addresses, iPXE and systems for one or two.
const MAX_SETS: usize = 8;
const MAX_DATAGRAM: usize = 4096;
