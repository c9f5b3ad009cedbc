//! DHCP for many machines through one socket, as a relay agent does it (RFC 1542 section 4): the server
//! answers to us, whatever address the machine has or has not.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Xid};
use farrier_proto::wire::option;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::profile::Profile;
use super::{DHCP_PORT, tally::Tally};
use crate::exit::Failure;

/// The relay's socket and the machines that wait for an answer.
#[derive(Debug)]
pub(super) struct Relay {
    socket: UdpSocket,
    server: Ipv4Addr,
    own: Ipv4Addr,
    waiting: Mutex<HashMap<u32, mpsc::Sender<Vec<u8>>>>,
    next_xid: AtomicU32,
}

/// What a machine is on this network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ip: Ipv4Addr,
    /// From whom to load: `siaddr`, or the server itself.
    pub(super) next_server: Ipv4Addr,
    /// Option 67, else the header's field; empty when there is nothing to boot.
    pub(super) boot_file: String,
}

impl Lease {
    /// What an answer grants.
    pub(super) fn read(answer: &Message, server: Ipv4Addr) -> Self {
        let file = answer.options.get(option::BOOTFILE_NAME);
        let file = file.unwrap_or(&answer.file).split(|byte| *byte == 0).next();
        Self {
            ip: answer.yiaddr,
            next_server: if answer.siaddr.is_unspecified() {
                server
            } else {
                answer.siaddr
            },
            boot_file: String::from_utf8_lossy(file.unwrap_or_default()).into_owned(),
        }
    }

    /// The same for a machine that had an address before.
    pub(super) fn at(self, ip: Ipv4Addr) -> Self {
        Self { ip, ..self }
    }
}

impl Relay {
    pub(super) async fn open(server: Ipv4Addr, own: Ipv4Addr) -> anyhow::Result<Arc<Self>> {
        let at = SocketAddrV4::new(own, DHCP_PORT);
        let socket = UdpSocket::bind(at).await.map_err(|error| {
            Failure::usage(format!("{at} cannot be used as a relay agent: {error}"))
                .hint("name an address of this host with --relay, run as root, and stop other DHCP programs")
        })?;
        // Best effort: what is lost here would look like the server's fault.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        let relay = Arc::new(Self {
            socket,
            server,
            own,
            waiting: Mutex::default(),
            next_xid: AtomicU32::new(std::process::id() << 12),
        });
        tokio::spawn(Arc::clone(&relay).receive());
        Ok(relay)
    }

    async fn receive(self: Arc<Self>) {
        let mut buffer = [0; 2048];
        loop {
            let Ok(len) = self.socket.recv(&mut buffer).await else {
                // The server's port is closed: it is being started again.
                continue;
            };
            let Some(xid) = buffer[..len].get(4..8).and_then(|xid| xid.try_into().ok()) else {
                continue;
            };
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(machine) = waiting.get(&u32::from_be_bytes(xid)) {
                // A machine that has what it wants reads no more.
                let _ = machine.try_send(buffer[..len].to_vec());
            }
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    pub(super) async fn lease(
        &self,
        profile: &Profile,
        mac: MacAddr,
        tallies: &mut Dora,
    ) -> Result<Lease, String> {
        let offer = self.offer(profile, mac, &mut tallies.offers).await?;
        let xid = Xid(offer.xid.0);
        let mut request = profile.message(MessageType::Request, xid, mac);
        request
            .options
            .set(option::REQUESTED_IP_ADDRESS, offer.yiaddr.octets());
        if let Some(server) = offer.options.get(option::SERVER_IDENTIFIER) {
            request.options.set(option::SERVER_IDENTIFIER, server);
        }
        let ack = self
            .exchange(profile, request, MessageType::Ack, &mut tallies.acks)
            .await?;
        Ok(Lease::read(&ack, self.server))
    }

    /// DISCOVER, OFFER.
    pub(super) async fn offer(
        &self,
        profile: &Profile,
        mac: MacAddr,
        tally: &mut Tally,
    ) -> Result<Message, String> {
        let xid = Xid(self.next_xid.fetch_add(1, Ordering::Relaxed));
        let discover = profile.message(MessageType::Discover, xid, mac);
        self.exchange(profile, discover, MessageType::Offer, tally)
            .await
    }

    async fn exchange(
        &self,
        profile: &Profile,
        mut request: Message,
        wanted: MessageType,
        tally: &mut Tally,
    ) -> Result<Message, String> {
        request.giaddr = self.own;
        request.hops = 1;
        let (bytes, xid) = (request.encode(), request.xid.0);
        let (sender, mut answers) = mpsc::channel(ANSWERS);
        let _place = Waiting::enter(self, xid, sender);
        let started = Instant::now();
        for (sent, wait) in profile.waits().enumerate() {
            tally.resent(u64::from(sent > 0));
            // A send that fails is as good as a packet that is lost.
            let _ = self.socket.send_to(&bytes, (self.server, DHCP_PORT)).await;
            match tokio::time::timeout(wait, answer(&mut answers, wanted)).await {
                Ok(Ok(reply)) => {
                    tally.done(started.elapsed(), bytes.len() as u64);
                    return Ok(reply);
                }
                Ok(Err(refused)) => return fail(tally, refused),
                Err(_) => {}
            }
        }
        fail(tally, format!("no {wanted} within the firmware's tries"))
    }
}

/// The figures of complete exchanges.
#[derive(Debug, Default)]
pub(super) struct Dora {
    pub(super) offers: Tally,
    pub(super) acks: Tally,
}

async fn answer(
    answers: &mut mpsc::Receiver<Vec<u8>>,
    wanted: MessageType,
) -> Result<Message, String> {
    while let Some(bytes) = answers.recv().await {
        let Ok(reply) = Message::decode(&bytes) else {
            return Err("an answer that cannot be read".to_owned());
        };
        match reply.message_type() {
            Some(kind) if kind == wanted => return Ok(reply),
            Some(MessageType::Nak) => return Err("DHCPNAK".to_owned()),
            _ => {}
        }
    }
    Err("the relay ended".to_owned())
}

fn fail<T>(tally: &mut Tally, why: String) -> Result<T, String> {
    tally.failed(why.clone());
    Err(why)
}

/// A machine's entry in the table of those that wait.
struct Waiting<'a> {
    relay: &'a Relay,
    xid: u32,
}

impl<'a> Waiting<'a> {
    fn enter(relay: &'a Relay, xid: u32, sender: mpsc::Sender<Vec<u8>>) -> Self {
        let mut waiting = relay.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(xid, sender);
        Self { relay, xid }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self
            .relay
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&self.xid);
    }
}

/// The address of the machine with this number: locally administered, so no real card has it.
pub(super) fn mac(seed: u16, number: u32) -> MacAddr {
    let [a, b] = seed.to_be_bytes();
    let [_, c, d, e] = number.to_be_bytes();
    MacAddr([0x02, a, b, c, d, e])
}

/// Calls `machine` with a number, `count` times at `rate` a second, whether the earlier ones are done or not:
/// a server that falls behind is not spared.
pub(super) async fn arrivals<F, T>(count: u32, rate: f64, mut machine: F) -> Vec<T>
where
    F: FnMut(u32) -> tokio::task::JoinHandle<T>,
{
    let started = tokio::time::Instant::now();
    let mut arrived = Vec::new();
    for number in 0..count {
        let due = started + Duration::from_secs_f64(f64::from(number) / rate);
        if due > tokio::time::Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        arrived.push(machine(number));
    }
    let mut results = Vec::with_capacity(arrived.len());
    for machine in arrived {
        results.extend(machine.await);
    }
    results
}

/// The kernel caps it at its own limit.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Two servers may answer, each twice.
const ANSWERS: usize = 4;
