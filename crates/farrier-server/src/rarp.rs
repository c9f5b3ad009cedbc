//! Machines from before BOOTP: they ask for their address by RARP, fetch a program by TFTP under their address in
//! hex digits (`boot_tree`), and some then want a root file system by `bootparam`, which is refused.
//!
//! Only known machines and reserved addresses are answered: a RARP answer has no end, as BOOTP's has none.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use farrier_engine::identity::Evidence;
use farrier_engine::lease::{Answer, Client};
use farrier_engine::timeline::{Entry, Kind};
use farrier_engine::{Reason, WallTime};
use farrier_net::link::{LinkListener, LinkSender};
use farrier_proto::MacAddr;
use farrier_proto::wire::onc_rpc::Call;
use farrier_proto::wire::rarp::{ETHERTYPE, Operation, Rarp};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::core::{Core, now};
use crate::exchanges::Exchange;

/// What listens on an interface where RARP is on.
#[derive(Debug)]
pub struct RarpSockets {
    pub listener: LinkListener,
    /// The port mapper's port; none where another program has it, which then says that it knows no `bootparam`.
    pub rpc: Option<UdpSocket>,
}

/// RARP on one interface.
#[derive(Debug)]
pub struct RarpPort {
    pub core: Arc<Core>,
    pub sockets: RarpSockets,
    pub sender: Arc<LinkSender>,
    /// Our hardware address there.
    pub mac: MacAddr,
    /// Our address there.
    pub address: Ipv4Addr,
}

impl RarpPort {
    /// Answers until `stop` changes.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let (mut frame, mut call) = ([0; FRAME], [0; DATAGRAM]);
        loop {
            tokio::select! {
                received = self.sockets.listener.receive(&mut frame) => match received {
                    Ok(len) => self.handle(&frame[..len]).await,
                    Err(error) => tracing::debug!(%error, "RARP socket"),
                },
                received = called(self.sockets.rpc.as_ref(), &mut call) => match received {
                    Ok((len, from)) => self.refuse(&call[..len], from).await,
                    Err(error) => tracing::debug!(%error, "RPC socket"),
                },
                _ = stop.changed() => return,
            }
        }
    }

    async fn handle(&self, bytes: &[u8]) {
        let Ok(asked) = Rarp::decode(bytes) else {
            return self.core.counters.ignored(Reason::Malformed, now());
        };
        let (mac, now) = (asked.target_mac, now());
        // Replies of other servers pass here, too.
        if asked.operation != Operation::Request || mac.is_unusable() {
            return;
        }
        match self.address_of(mac, now).await {
            Ok(ip) => {
                let answer = asked.answer(ip, self.mac, self.address).encode();
                self.core.counters.replied();
                if let Err(error) = self.sender.send_frame(ETHERTYPE, asked.sender_mac, &answer) {
                    tracing::warn!(%error, %mac, "a RARP answer could not be sent");
                }
                self.tell(mac, |machine| {
                    Entry::address_answered(machine, now, "RARP", ip)
                });
                let exchange = Exchange {
                    mac,
                    address: Some(ip),
                    known: true,
                    heard: bytes.len(),
                    answered: answer.len(),
                };
                self.core.exchanges.saw(&exchange, now);
            }
            Err(reason) => {
                self.core.counters.ignored(reason, now);
                self.tell(mac, |machine| Entry::refused(machine, now, "RARP", reason));
            }
        }
    }

    /// The address of a machine, stored as a lease without an end before it is told.
    async fn address_of(&self, mac: MacAddr, now: WallTime) -> Result<Ipv4Addr, Reason> {
        let leases = &self.core.leases;
        let who = self.core.recognise(&evidence(mac));
        let client = Client {
            known: who.machine.is_some(),
            ..Client::new(mac)
        };
        let lease = match leases.with_book(|book| book.bootp(now, &client, self.address)) {
            Answer::Grant(lease) => lease,
            Answer::Nak(reason) | Answer::Silent(reason) => return Err(reason),
        };
        let ip = lease.ip;
        // Asked again every few seconds until it is answered: what is on disk need not be written anew.
        if leases.holder(ip, now) == Some(mac) {
            return Ok(ip);
        }
        leases.grant(lease, now).await.map_err(|error| {
            tracing::warn!(%ip, %error, "a lease could not be stored, so it is not told");
            Reason::NotStored
        })?;
        Ok(ip)
    }

    /// An answer to whoever asks for `bootparam`, and a line for who wonders why the machine goes no further.
    async fn refuse(&self, datagram: &[u8], from: SocketAddr) {
        let Ok(call) = Call::decode(datagram) else {
            return self.core.counters.dropped();
        };
        let SocketAddr::V4(caller) = from else { return };
        // Only who has an address of ours: an answer to others could be turned against a third party.
        let Some(mac) = self.core.leases.holder(*caller.ip(), now()) else {
            return self.core.counters.dropped();
        };
        if let (Some(answer), Some(socket)) = (call.refusal(), &self.sockets.rpc)
            && let Err(error) = socket.send_to(&answer, from).await
        {
            tracing::debug!(%error, %from, "an RPC refusal could not be sent");
        }
        if call.wants_bootparam() {
            self.tell(mac, |machine| Entry {
                machine,
                at: now(),
                kind: Kind::Refused,
                text: NO_BOOTPARAM.into(),
                details: Vec::new(),
            });
        }
    }

    fn tell(&self, mac: MacAddr, entry: impl FnOnce(farrier_engine::model::MachineId) -> Entry) {
        let who = self.core.recognise(&evidence(mac));
        self.core.tell_of(mac, who.machine.as_deref(), entry);
    }
}

fn evidence(mac: MacAddr) -> Evidence {
    Evidence {
        uuid: None,
        serial: None,
        board_serial: None,
        macs: vec![mac],
    }
}

/// Waits for ever where nothing listens.
async fn called(
    socket: Option<&UdpSocket>,
    buffer: &mut [u8],
) -> std::io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

const NO_BOOTPARAM: &str = "It asks by bootparam for a root file system on the network. Farrier serves none: name a server that does on its command line, or start a program that needs none.";
/// The packet is 28 bytes and frames are padded.
const FRAME: usize = 64;
/// A call with credentials and a host name.
const DATAGRAM: usize = 1024;
