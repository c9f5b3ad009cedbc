//! The heart: a packet arrives, becomes facts, a decision, a reply.
//!
//! Eight steps, in this order: receive, decode, facts, gather, decide, build, destination, send and record.
//! A packet ends as an [`Outcome`]; there is no silence without a counted reason.
//!
//! OFFER and ACK are decided each by itself, since some firmware tells its architecture only in the second
//! (`docs/concepts/booting.md`). The only wait is for a lease to become durable.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use farrier_engine::facts::{BootFacts, Stage};
use farrier_engine::identity::Evidence;
use farrier_engine::lease::{Answer, Client, Offered, RequestCase};
use farrier_engine::policy::{Boot, DhcpAction, Service, decide_dhcp};
use farrier_engine::timeline::Entry;
use farrier_engine::{Reason, WallTime};
use farrier_proto::reply::{self, BootFile, BootStyle, Lend, ReplyTo};
use farrier_proto::wire::dhcpv4::{Message, MessageType, Op};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, watch};

use crate::bind::{BOOT_SERVER_PORT, DHCP_PORT};
use crate::boot_tree::{self, Urls};
use crate::config::{Mode, SubnetConfig};
use crate::core::{Core, Recognised, now};

/// What became of a packet.
#[derive(Debug)]
pub enum Outcome {
    Reply { reply: Message, to: ReplyTo },
    Ignore(Reason),
}

/// One port of one interface.
#[derive(Debug)]
pub struct BootPort {
    pub core: Arc<Core>,
    pub socket: UdpSocket,
    pub port: u16,
    pub mode: Mode,
    /// Our address on the interface.
    pub address: Ipv4Addr,
    pub sender: Arc<farrier_net::link::LinkSender>,
}

impl BootPort {
    /// Answers until `stop` changes.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let port = Arc::new(self);
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let received = tokio::select! {
                received = port.socket.recv_from(&mut buffer) => received,
                _ = stop.changed() => return,
            };
            let (len, source) = match received {
                Ok((len, SocketAddr::V4(source))) => (len, source),
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(%error, "boot socket");
                    continue;
                }
            };
            // Each waits for its own lease, so that many share one write to the disk.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                port.core.counters.dropped();
                continue;
            };
            let (port, datagram) = (Arc::clone(&port), buffer[..len].to_vec());
            tokio::spawn(async move {
                let _place = place;
                let outcome = port.handle(&datagram, source).await;
                port.send(outcome).await;
            });
        }
    }

    /// What becomes of one datagram.
    pub async fn handle(&self, datagram: &[u8], source: SocketAddrV4) -> Outcome {
        let Ok(request) = Message::decode(datagram) else {
            return Outcome::Ignore(Reason::Malformed);
        };
        if request.op != Op::Request {
            return Outcome::Ignore(Reason::Malformed);
        }
        let Ok(facts) = BootFacts::from_dhcp(&request) else {
            return Outcome::Ignore(Reason::Malformed);
        };
        let asked = Asked {
            port: self,
            request,
            source,
            who: self.core.recognise(&Evidence::of_facts(&facts)),
            facts,
            now: now(),
        };
        asked.record_request();
        let outcome = asked.answer().await;
        asked.record(&outcome);
        outcome
    }

    async fn send(&self, outcome: Outcome) {
        let (reply, to) = match outcome {
            Outcome::Reply { reply, to } => (reply, to),
            Outcome::Ignore(reason) => return self.core.counters.ignored(reason),
        };
        self.core.counters.replied();
        let bytes = reply.encode();
        let sent = match to {
            ReplyTo::HardwareUnicast { addr, mac } => self.sender.send(
                SocketAddrV4::new(self.address, self.port),
                addr,
                mac,
                &bytes,
            ),
            _ => self.socket.send_to(&bytes, to.addr()).await.map(drop),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, to = %to.addr(), "a boot reply could not be sent");
        }
    }
}

/// One request and all we know of who sent it.
struct Asked<'a> {
    port: &'a BootPort,
    request: Message,
    source: SocketAddrV4,
    facts: BootFacts,
    who: Recognised,
    now: WallTime,
}

impl Asked<'_> {
    async fn answer(&self) -> Outcome {
        let kind = self.request.message_type();
        match (self.port.port, self.port.mode, kind) {
            (
                BOOT_SERVER_PORT,
                _,
                Some(MessageType::Request | MessageType::Discover | MessageType::Inform),
            ) => self.boot_server(),
            (DHCP_PORT, Mode::Dhcp, None) => self.bootp().await,
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Discover)) => self.offer(),
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Request)) => self.acknowledge().await,
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Release)) => {
                self.give_back(MessageType::Release).await
            }
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Decline)) => {
                self.give_back(MessageType::Decline).await
            }
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Inform)) => self.inform(),
            (DHCP_PORT, Mode::Proxy, Some(MessageType::Discover)) => self.proxy_offer(),
            // Beside another server the rest of the exchange is between it and the client.
            (DHCP_PORT, Mode::Proxy, _) => Outcome::Ignore(Reason::ChoseOtherServer),
            _ => Outcome::Ignore(Reason::Malformed),
        }
    }

    fn offer(&self) -> Outcome {
        let (client, link) = (self.client(), self.link());
        let requested = self.request.requested_address();
        let offered = self
            .port
            .core
            .leases
            .with_book(|book| book.offer(self.now, &client, link, requested));
        let (ip, lease_s) = match offered {
            Offered::Address { ip, lease_time } => {
                (ip, u32::try_from(lease_time.as_secs()).unwrap_or(u32::MAX))
            }
            Offered::Silent(reason) => return Outcome::Ignore(reason),
        };
        let Some(subnet) = self.port.core.leases.subnet_of(ip) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        match self.boot(Service::Dhcp) {
            Err(reason) if reason == Reason::UnknownMachine => Outcome::Ignore(reason),
            boot => {
                let lend = self.lend(subnet, ip, lease_s);
                self.reply(reply::dhcp::offer(&self.request, &lend, boot.ok().as_ref()))
            }
        }
    }

    async fn acknowledge(&self) -> Outcome {
        let (client, link) = (self.client(), self.link());
        let unicast =
            !self.request.ciaddr.is_unspecified() && *self.source.ip() == self.request.ciaddr;
        let case = RequestCase::of(&self.request, unicast);
        let ours = self.port.address;
        let answer = self
            .port
            .core
            .leases
            .with_book(|book| book.request(self.now, &client, link, case, ours));
        let lease = match answer {
            Answer::Grant(lease) => lease,
            Answer::Nak(reason) => {
                tracing::debug!(mac = %self.facts.mac, reason = reason.label(), "DHCPNAK");
                return self.reply(reply::dhcp::nak(&self.request, ours, reason.sentence()));
            }
            Answer::Silent(reason) => return Outcome::Ignore(reason),
        };
        let (ip, lease_s) = (
            lease.ip,
            u32::try_from(lease.ends.since(lease.starts).as_secs()).unwrap_or(u32::MAX),
        );
        let Some(subnet) = self.port.core.leases.subnet_of(ip) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        if let Err(reason) = self.port.core.leases.grant(lease, self.now).await {
            tracing::warn!(%ip, error = %reason, "a lease could not be stored, so it is not acknowledged");
            return Outcome::Ignore(Reason::NotStored);
        }
        let lend = self.lend(subnet, ip, lease_s);
        self.reply(reply::dhcp::ack(
            &self.request,
            &lend,
            self.boot(Service::Dhcp).ok().as_ref(),
        ))
    }

    async fn bootp(&self) -> Outcome {
        let (client, link) = (self.client(), self.link());
        let lease = match self
            .port
            .core
            .leases
            .with_book(|book| book.bootp(self.now, &client, link))
        {
            Answer::Grant(lease) => lease,
            Answer::Nak(reason) | Answer::Silent(reason) => return Outcome::Ignore(reason),
        };
        let ip = lease.ip;
        let Some(subnet) = self.port.core.leases.subnet_of(ip) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        if self.port.core.leases.grant(lease, self.now).await.is_err() {
            return Outcome::Ignore(Reason::NotStored);
        }
        let lend = self.lend(subnet, ip, u32::MAX);
        self.reply(reply::bootp::reply(
            &self.request,
            &lend,
            self.boot(Service::Dhcp).ok().as_ref(),
            false,
        ))
    }

    /// DHCPRELEASE and DHCPDECLINE get no answer (RFC 2131 4.3.3, 4.3.4).
    async fn give_back(&self, kind: MessageType) -> Outcome {
        let leases = &self.port.core.leases;
        let done = match (kind, self.request.requested_address()) {
            (MessageType::Decline, Some(ip)) => leases.decline(self.facts.mac, ip, self.now).await,
            _ => {
                leases
                    .release(self.facts.mac, self.request.ciaddr, self.now)
                    .await
            }
        };
        match done {
            Ok(Ok(())) => Outcome::Ignore(Reason::NoAnswerDue),
            Ok(Err(reason)) => Outcome::Ignore(reason),
            Err(_) => Outcome::Ignore(Reason::NotStored),
        }
    }

    fn inform(&self) -> Outcome {
        let ciaddr = self.request.ciaddr;
        if let Err(reason) = self
            .port
            .core
            .leases
            .with_book(|book| book.inform(ciaddr).map(drop))
        {
            return Outcome::Ignore(reason);
        }
        let Some(subnet) = self.port.core.leases.subnet_of(ciaddr) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        let lend = self.lend(subnet, Ipv4Addr::UNSPECIFIED, 0);
        self.reply(reply::dhcp::inform_ack(
            &self.request,
            &lend,
            self.boot(Service::Dhcp).ok().as_ref(),
        ))
    }

    fn proxy_offer(&self) -> Outcome {
        match self.boot(Service::Proxy) {
            Ok(boot) => self.reply(reply::proxy_dhcp::offer(
                &self.request,
                self.port.address,
                &boot,
            )),
            Err(reason) => Outcome::Ignore(reason),
        }
    }

    /// Port 4011: the client has an address and asks what to boot.
    fn boot_server(&self) -> Outcome {
        match self.boot(Service::Proxy) {
            Ok(boot) => {
                let boot = BootFile {
                    style: BootStyle::AskPort4011,
                    ..boot
                };
                self.reply(reply::boot_server::ack(
                    &self.request,
                    self.port.address,
                    &boot,
                ))
            }
            Err(reason) => Outcome::Ignore(reason),
        }
    }

    /// What to boot, or why nothing.
    fn boot(&self, service: Service) -> Result<BootFile, Reason> {
        let core = &self.port.core;
        let loads = core.sightings.recent_loads(self.facts.mac, self.now);
        let snapshot = core.snapshot.load();
        let decision = decide_dhcp(
            &self.facts,
            service,
            &self.who.known(&loads),
            &snapshot,
            self.now,
        );
        let boot = match decision.action {
            DhcpAction::Boot(boot) => boot,
            DhcpAction::AddressOnly(reason) | DhcpAction::Ignore(reason) => return Err(reason),
        };
        let style = match (service, self.port.mode) {
            (Service::Dhcp, _) => self.facts.style_from_dhcp(),
            (Service::Proxy, _) => self.facts.style_from_proxy(),
        };
        let urls = Urls {
            server: self.port.address,
            port: core.config.boot_http_port,
        };
        let name = match &boot {
            Boot::Loader(file) => boot_tree::loader_path(file),
            Boot::HttpLoader(file) => urls.of(&boot_tree::loader_path(file)),
            Boot::Script => urls.of(boot_tree::FIRST_SCRIPT),
        };
        self.tell(|machine| Entry::boot_answered(machine, self.now, self.message_name(), &boot));
        Ok(BootFile {
            next_server: self.port.address,
            name,
            style,
        })
    }

    fn reply(&self, reply: Message) -> Outcome {
        let to = reply::destination(&self.request, &reply, self.source, self.port.port);
        Outcome::Reply { reply, to }
    }

    fn lend(&self, subnet: &SubnetConfig, yiaddr: Ipv4Addr, lease_s: u32) -> Lend {
        Lend {
            server_id: self.port.address,
            yiaddr,
            subnet_mask: subnet.subnet.mask(),
            routers: subnet.routers.clone(),
            dns: subnet.dns.clone(),
            domain: subnet.domain.clone(),
            lease_s,
            // RFC 2131 4.4.5: half, and seven eighths.
            t1_s: lease_s / 2,
            t2_s: lease_s / 8 * 7,
            extra: Vec::new(),
        }
    }

    fn client(&self) -> Client {
        Client {
            uuid: self.facts.usable_uuid(),
            client_id: self.facts.client_id.clone(),
            hostname: self.facts.hostname.as_ref().map(ToString::to_string),
            known: self.who.machine.is_some(),
            never_nak: self.facts.never_nak(),
            ..Client::new(self.facts.mac)
        }
    }

    /// An address in the client's network: RFC 3527 link selection, else the relay, else us. Switches add
    /// option 82 without relaying (DHCP snooping); their clients are in our own network.
    fn link(&self) -> Ipv4Addr {
        let Some(relay) = &self.facts.relay else {
            return self.port.address;
        };
        let relayed = Some(relay.giaddr).filter(|giaddr| !giaddr.is_unspecified());
        relay
            .link_selection
            .or(relayed)
            .unwrap_or(self.port.address)
    }

    fn message_name(&self) -> &'static str {
        match self.request.message_type() {
            None => "BOOTREQUEST",
            Some(MessageType::Discover) => "DHCPDISCOVER",
            Some(MessageType::Request) => "DHCPREQUEST",
            Some(MessageType::Decline) => "DHCPDECLINE",
            Some(MessageType::Release) => "DHCPRELEASE",
            Some(MessageType::Inform) => "DHCPINFORM",
            Some(MessageType::Offer | MessageType::Ack | MessageType::Nak) => "a server's message",
        }
    }

    /// An operating system that renews its lease is no news.
    fn is_news(&self) -> bool {
        self.facts.stage != Stage::Os || self.facts.wants_boot()
    }

    fn record_request(&self) {
        if self.is_news() {
            self.tell(|machine| {
                Entry::packet_seen(machine, self.now, self.message_name(), &self.facts)
            });
        }
    }

    fn record(&self, outcome: &Outcome) {
        if !self.is_news() {
            return;
        }
        let message = self.message_name();
        match outcome {
            Outcome::Reply { reply, .. } if !reply.yiaddr.is_unspecified() => {
                let sent = if reply.message_type() == Some(MessageType::Offer) {
                    "DHCPOFFER"
                } else {
                    "DHCPACK"
                };
                self.tell(|machine| Entry::address_answered(machine, self.now, sent, reply.yiaddr));
            }
            Outcome::Reply { .. }
            | Outcome::Ignore(Reason::ChoseOtherServer | Reason::NoAnswerDue) => {}
            Outcome::Ignore(reason) => {
                self.tell(|machine| Entry::refused(machine, self.now, message, *reason))
            }
        }
    }

    fn tell(&self, entry: impl FnOnce(farrier_engine::model::MachineId) -> Entry) {
        self.port
            .core
            .tell_of(self.facts.mac, self.who.machine.as_deref(), entry);
    }
}

/// No valid message is larger than one Ethernet frame; relays may add a little.
const MAX_DATAGRAM: usize = 4096;
/// Packets being answered at once; more than a boot storm of ten thousand machines has in flight.
const AT_ONCE: usize = 4096;
