//! The heart: a packet arrives, becomes facts, a decision, a reply.
//!
//! Eight steps, in this order: receive, decode, facts, gather, decide, build, destination, send and record.
//! A packet ends as an [`Outcome`]; there is no silence without a counted reason.
//!
//! OFFER and ACK are decided each by itself, since some firmware tells its architecture only in the second
//! (`docs/concepts/booting.md`). The only waits are for a lease to become durable, for a sign that a fresh
//! address is in use, and for devices that hang when they are answered at once.

mod discovery;
mod lend;
mod offering;
mod record;

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use farrier_engine::catalogue::LoaderKind;
use farrier_engine::facts::{BootFacts, Protocol, Stage};
use farrier_engine::identity::Evidence;
use farrier_engine::lease::Classes;
use farrier_engine::model::FirmwareKind;
use farrier_engine::policy::{Boot, DhcpAction, Known, Service, dhcp_action};
use farrier_engine::rom_menu::device_menu;
use farrier_engine::timeline::Entry;
use farrier_engine::{Reason, WallTime};
use farrier_proto::reply::{self, BootFile, BootStyle, ReplyTo};
use farrier_proto::wire::dhcpv4::{Message, MessageType, Op};
use farrier_proto::wire::pxe::Mtftp;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::bind::{BOOT_SERVER_PORT, DHCP_PORT};
use crate::boot_tree::{self, Urls};
use crate::config::Mode;
use crate::core::{Core, Recognised, now};
use crate::vacancy::Vacancy;

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
    /// Tells whether an address is free before it is offered.
    pub vacancy: Arc<Vacancy>,
}

impl BootPort {
    /// Answers until `stop` changes.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let port = Arc::new(self);
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut spare = None;
        // Asked anew for each packet, it would cost a lock each time.
        let mut stopped = pin!(stop.changed());
        loop {
            let received = tokio::select! {
                received = port.socket.recv_from(&mut buffer) => received,
                _ = &mut stopped => return,
            };
            let (len, source) = match received {
                Ok((len, SocketAddr::V4(source))) => (len, source),
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(%error, "boot socket");
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                port.core.counters.dropped();
                continue;
            };
            let answer = Arc::clone(&port).answer(buffer[..len].to_vec(), source, place);
            let mut answering = reused(spare.take(), answer);
            // Most answers wait for nothing and are sent here, without a task. Each of the others waits for its
            // own lease, so that many share one write to the disk.
            let begun = poll_fn(|context| Poll::Ready(answering.as_mut().poll(context)));
            match begun.await {
                Poll::Pending => drop(tokio::spawn(answering)),
                Poll::Ready(()) => spare = Some(answering),
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        datagram: Vec<u8>,
        source: SocketAddrV4,
        _place: OwnedSemaphorePermit,
    ) {
        let outcome = self.handle(&datagram, source).await;
        self.send(outcome).await;
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
        let who = self.core.recognise(&Evidence::of_facts(&facts));
        let mut asked = Asked {
            port: self,
            request,
            source,
            who,
            classes: Classes::default(),
            facts,
            now: now(),
        };
        asked.classes = self
            .core
            .classes
            .judge(&asked.facts, asked.who.machine.as_deref(), || asked.place());
        let own = SocketAddrV4::new(self.address, self.port);
        let packets = &self.core.packets;
        packets.keep(asked.facts.mac, asked.now, source, own, datagram);
        asked.record_request();
        let outcome = asked.answer().await;
        asked.leave_in_peace(&outcome).await;
        asked.record(&outcome);
        asked.remember(&outcome, datagram.len());
        asked.note_sign(&outcome);
        outcome
    }

    async fn send(&self, outcome: Outcome) {
        let (reply, to) = match outcome {
            Outcome::Reply { reply, to } => (reply, to),
            Outcome::Ignore(reason) => return self.core.counters.ignored(reason, now()),
        };
        self.core.counters.replied();
        let bytes = reply.encode();
        let own = SocketAddrV4::new(self.address, self.port);
        if let Some(mac) = reply.mac() {
            self.core.packets.keep(mac, now(), own, to.addr(), &bytes);
        }
        let sent = match to {
            ReplyTo::HardwareUnicast { addr, mac } => self.sender.send(own, addr, mac, &bytes),
            _ => self.socket.send_to(&bytes, to.addr()).await.map(drop),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, to = %to.addr(), "a boot reply could not be sent");
        }
    }
}

/// `work` in the memory of a piece of work that is done: kilobytes that would be asked for with every packet.
fn reused<F: Future>(spare: Option<Pin<Box<F>>>, work: F) -> Pin<Box<F>> {
    match spare {
        Some(mut place) => {
            place.set(work);
            place
        }
        None => Box::pin(work),
    }
}

/// One request and all we know of who sent it.
struct Asked<'a> {
    port: &'a BootPort,
    request: Message,
    source: SocketAddrV4,
    facts: BootFacts,
    who: Recognised,
    classes: Classes,
    now: WallTime,
}

impl Asked<'_> {
    async fn answer(&self) -> Outcome {
        let kind = self.request.message_type();
        if let Some(item) = self.boot_item() {
            return self.boot_item_server(item);
        }
        match (self.port.port, self.port.mode, kind) {
            (
                BOOT_SERVER_PORT,
                _,
                Some(MessageType::Request | MessageType::Discover | MessageType::Inform),
            ) => self.boot_server(),
            (DHCP_PORT, Mode::Dhcp, None) => self.bootp().await,
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Discover)) => self.offer().await,
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Request)) => self.acknowledge().await,
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Release)) => {
                self.give_back(MessageType::Release).await
            }
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Decline)) => {
                self.give_back(MessageType::Decline).await
            }
            (DHCP_PORT, Mode::Dhcp, Some(MessageType::Inform)) => self.inform(),
            (DHCP_PORT, Mode::Proxy, Some(MessageType::Discover)) => self.offer_beside().await,
            (DHCP_PORT, Mode::Proxy, Some(MessageType::Request)) if self.took_our_address() => {
                self.acknowledge().await
            }
            // Beside another server the rest of the exchange is between it and the client.
            (DHCP_PORT, Mode::Proxy, _) => Outcome::Ignore(Reason::ChoseOtherServer),
            _ => Outcome::Ignore(Reason::Malformed),
        }
    }

    /// Some devices hang when they are answered at once (`quirk`). A flood in their name must not take every place,
    /// so only so many answers wait at a time.
    async fn leave_in_peace(&self, outcome: &Outcome) {
        let Some(delay) = self.facts.reply_delay() else {
            return;
        };
        if let Outcome::Reply { .. } = outcome
            && let Ok(_place) = self.port.core.late_answers.try_acquire()
        {
            tokio::time::sleep(delay).await;
        }
    }

    /// Port 4011: the client has an address and asks what to boot.
    fn boot_server(&self) -> Outcome {
        match self.boot(Service::Proxy, BootStyle::AskPort4011) {
            Ok(boot) => self.reply(reply::boot_server::ack(
                &self.request,
                self.port.address,
                &boot,
            )),
            Err(reason) => Outcome::Ignore(reason),
        }
    }

    /// GRUB fetches its files from whoever lent the address, whatever a ProxyDHCP says (`firmware.md` T3). Beside
    /// another server it gets on only with an address of ours, from a pool that the other one leaves alone.
    fn needs_our_address(&self, decided: &Result<Boot, Reason>) -> bool {
        let Ok(Boot::Loader(file)) = decided else {
            return false;
        };
        let catalogue = self.port.core.loaders.catalogue();
        catalogue
            .by_id(&file.id)
            .is_some_and(|loader| matches!(loader.kind, LoaderKind::Grub | LoaderKind::Shim))
    }

    fn took_our_address(&self) -> bool {
        self.request.server_identifier() == Some(self.port.address)
            && self.port.core.leases.subnet_of(self.link()).is_some()
    }

    /// What to boot, or why nothing.
    fn decide(&self, service: Service) -> Result<Boot, Reason> {
        let core = &self.port.core;
        let loads = core.sightings.recent_loads(self.facts.mac, self.now);
        let snapshot = core.snapshot.load();
        let rules = core.rules.load();
        let judged = rules.judge(Some(&self.facts), self.who.machine.as_deref(), || {
            self.place()
        });
        let action = dhcp_action(
            &self.facts,
            service,
            &Known {
                rules: &judged,
                boot_began: core.sightings.began(self.facts.mac),
                wants_signature: core.sightings.wants_signature(self.facts.mac, self.now),
                ..self.who.known(&loads)
            },
            &snapshot,
            self.now,
        );
        match action {
            DhcpAction::Boot(boot) => Ok(boot),
            DhcpAction::AddressOnly(reason) | DhcpAction::Ignore(reason) => Err(reason),
        }
    }

    /// The same as a boot file, told on the timeline.
    fn boot(&self, service: Service, style: BootStyle) -> Result<BootFile, Reason> {
        self.boot_decided(self.decide(service), service, style)
    }

    /// The same where it was decided already.
    fn boot_decided(
        &self,
        decided: Result<Boot, Reason>,
        service: Service,
        style: BootStyle,
    ) -> Result<BootFile, Reason> {
        let core = &self.port.core;
        let boot = match decided {
            Err(reason) if self.knows_its_files(service, reason) => {
                return Ok(BootFile {
                    next_server: self.port.address,
                    name: String::new(),
                    style: BootStyle::Plain,
                    mtftp: None,
                    menu: device_menu(&self.facts),
                });
            }
            decided => decided?,
        };
        let mtftp = self.mtftp(&boot);
        let style = match style {
            // Only with option 60 does a ROM look for where to listen.
            BootStyle::Plain if mtftp.is_some() => BootStyle::PxeFinal,
            style => style,
        };
        let urls = Urls::by(&core.config, self.port.address.into(), boot.is_https());
        let name = match &boot {
            Boot::Loader(file) => boot_tree::loader_path(file),
            Boot::HttpLoader(file) | Boot::HttpsLoader(file) => {
                urls.of(&boot_tree::loader_path(file))
            }
            Boot::Medium(name) | Boot::HttpsMedium(name) => urls.of(&format!("boot/media/{name}")),
            Boot::Script | Boot::HttpsScript => urls.of(boot_tree::FIRST_SCRIPT),
        };
        self.tell(|machine| Entry::boot_answered(machine, self.now, self.message_name(), &boot));
        Ok(BootFile {
            next_server: self.port.address,
            name,
            style,
            mtftp,
            menu: self.rom_menu(),
        })
    }

    /// Where a BIOS ROM may listen for its boot program. UEFI must not be told: edk2 throws such offers away.
    fn mtftp(&self, boot: &Boot) -> Option<Mtftp> {
        let core = &self.port.core;
        let on = core.config.tftp.mtftp.as_ref()?;
        let facts = &self.facts;
        let rom = facts.firmware == Some(FirmwareKind::Bios)
            && facts.protocol == Protocol::Pxe
            && facts.stage == Stage::Firmware
            && on.serves(self.link());
        match boot {
            Boot::Loader(file) if rom => {
                let groups = core.mtftp.as_ref()?;
                groups.sub_options(&boot_tree::loader_path(file), on)
            }
            _ => None,
        }
    }

    /// Whether it must only be told who the server is. Beside another one, a menu of its maker's says that it means us.
    fn knows_its_files(&self, service: Service, reason: Reason) -> bool {
        let is_told = service == Service::Dhcp || device_menu(&self.facts).is_some();
        is_told && self.facts.looks_for_itself(reason)
    }

    fn reply(&self, reply: Message) -> Outcome {
        let to = reply::destination(&self.request, &reply, self.source, self.port.port);
        Outcome::Reply { reply, to }
    }
}

/// No valid message is larger than one Ethernet frame; relays may add a little.
const MAX_DATAGRAM: usize = 4096;
/// Packets being answered at once; more than a boot storm of ten thousand machines has in flight.
const AT_ONCE: usize = 4096;
