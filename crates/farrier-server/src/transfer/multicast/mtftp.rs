//! MTFTP (PXE 2.1): clients were told a group and two ports with their boot program. They listen first; who hears
//! nothing opens a stream here, and all others hear it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::Reason;
use farrier_proto::Instant;
use farrier_proto::session::multicast::{DEFAULT_BLKSIZE, Dialect, MulticastStream, fits};
use farrier_proto::wire::tftp::{ErrorCode, Packet, ReadRequest, TransferOptions, clean_name};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::super::allowance::Tab;
use super::super::places::Transfers;
use super::super::{Alarm, MAX_REFUSAL, NOT_PROVEN, place_clock};
use super::MtftpGroups;
use super::delivery::{Admitted, Asking, Cast};
use crate::boot_tree::{Asker, BootTree, Channel, Served};
use crate::core::Core;

/// The MTFTP server of one interface.
#[derive(Debug)]
pub struct MtftpServer {
    pub core: Arc<Core>,
    /// At the server port; everything leaves from here, since clients look at the source port.
    pub socket: UdpSocket,
    pub address: Ipv4Addr,
    pub tree: Arc<BootTree>,
    pub transfers: Arc<Transfers>,
    pub delay: Duration,
}

/// Streams under way, each by its group.
type Casts = HashMap<SocketAddrV4, Cast>;

impl MtftpServer {
    /// Serves until `stop` changes.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let clock = place_clock();
        let mut casts = Casts::new();
        let mut buffer = [0; 1024];
        let mut alarm = Alarm::new();
        loop {
            for cast in casts.values_mut() {
                cast.deliver(&self.socket, &self.tree).await;
            }
            casts.retain(|_, cast| !cast.session.is_over());
            let due = casts
                .values()
                .filter_map(|c| c.session.poll_timeout())
                .min();
            alarm.set_by(due, clock());
            tokio::select! {
                biased;
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((len, SocketAddr::V4(peer))) = received {
                        self.handle(clock(), &mut casts, peer, &buffer[..len]).await;
                    }
                }
                () = alarm.ring() => {
                    for cast in casts.values_mut() {
                        cast.session.handle_timeout(clock());
                    }
                }
                _ = stop.changed() => return,
            }
        }
    }

    async fn handle(&self, now: Instant, casts: &mut Casts, peer: SocketAddrV4, packet: &[u8]) {
        let ip = (*peer.ip()).into();
        if !self.tree.may_ask(ip) {
            return self.tree.ignored_stranger(ip);
        }
        match Packet::decode(packet) {
            Ok(Packet::ReadRequest(request)) => {
                let own = SocketAddr::new(self.address.into(), self.own_port());
                self.tree.asked(SocketAddr::V4(peer), own, packet);
                if let Err((code, text)) =
                    self.open(now, casts, (peer, packet.len()), &request).await
                {
                    self.refuse((peer, packet.len()), code, text).await;
                }
            }
            Ok(Packet::WriteRequest(_)) => {
                let text = "Nothing can be written here: images are captured by the agent.";
                self.refuse((peer, packet.len()), ErrorCode::ACCESS_VIOLATION, text)
                    .await;
            }
            Ok(Packet::Ack { .. } | Packet::Error { .. }) => {
                if let Some(cast) = casts.values_mut().find(|cast| cast.session.has(peer)) {
                    cast.answered(peer);
                    let _ = cast.session.handle(now, peer, packet);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// A client has listened in vain, or has missed some.
    async fn open(
        &self,
        now: Instant,
        casts: &mut Casts,
        (peer, len): (SocketAddrV4, usize),
        request: &ReadRequest,
    ) -> Result<(), (ErrorCode, &'static str)> {
        let asker = self.asker(peer);
        let groups = self.core.mtftp.as_ref();
        let offered = clean_name(&request.name).ok();
        let found = offered.and_then(|name| Some((groups?.of(&name)?, name)));
        let (group, name) = found.ok_or((ErrorCode::FILE_NOT_FOUND, NOT_OFFERED))?;
        let served = self.tree.resolve(&name, asker).await;
        let served = served.map_err(|_| (ErrorCode::FILE_NOT_FOUND, NOT_OFFERED))?;
        if !fits(served.content.len() as u64, DEFAULT_BLKSIZE) {
            return Err((ErrorCode::NOT_DEFINED, TOO_LARGE));
        }
        // The boot program was just named to this client in a DHCP answer; who has spoken none is not it.
        if !self.tree.has_proven_itself(asker.ip) {
            self.tree.refused(asker, Reason::AddressNotProven);
            return Err((ErrorCode::NOT_DEFINED, NOT_PROVEN));
        }
        self.transfers
            .pay(asker.ip, self.tree.spend_exchanges(asker.ip));
        for (other, cast) in casts.iter_mut() {
            if *other != group && cast.session.has(peer) {
                cast.session.leave(now, peer);
            }
        }
        let cast = casts
            .entry(group)
            .or_insert_with(|| self.cast(now, group, served));
        let asking = Asking {
            peer,
            asker,
            // MTFTP has none.
            options: TransferOptions::default(),
            len,
        };
        match cast.request(now, &asking, &self.transfers) {
            Admitted::Yes => Ok(()),
            // By the same port with plain TFTP: it has made up its mind.
            Admitted::Elsewhere => Ok(()),
            Admitted::Full => Err((ErrorCode::NOT_DEFINED, BUSY)),
        }
    }

    fn cast(&self, now: Instant, group: SocketAddrV4, served: Served) -> Cast {
        let dialect = Dialect::Mtftp { delay: self.delay };
        let geometry = (served.content.len() as u64, DEFAULT_BLKSIZE);
        let session = MulticastStream::new(now, dialect, group, geometry);
        Cast::new(session, served, "MTFTP")
    }

    async fn refuse(&self, (peer, len): (SocketAddrV4, usize), code: ErrorCode, text: &str) {
        let end = text.floor_char_boundary(MAX_REFUSAL);
        let text = &text.as_bytes()[..end];
        let packet = Packet::Error { code, text }.encode();
        let ip = (*peer.ip()).into();
        let mut tab = Tab::open(&self.transfers.allowance, ip, false);
        tab.heard(len);
        if !tab.covers(packet.len()) {
            return self.tree.withheld(ip);
        }
        let own = SocketAddr::new(self.address.into(), self.own_port());
        self.tree.answered(SocketAddr::V4(peer), own, &packet);
        let _ = self.socket.send_to(&packet, peer).await;
    }

    fn own_port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |at| at.port())
    }

    fn asker(&self, peer: SocketAddrV4) -> Asker {
        Asker {
            ip: (*peer.ip()).into(),
            server: self.address.into(),
            by: Channel::Tftp,
        }
    }
}

impl MtftpGroups {
    /// What a client is told of the group of a boot program, if there is one left.
    #[must_use]
    pub fn sub_options(
        &self,
        name: &str,
        config: &crate::config::MtftpConfig,
    ) -> Option<farrier_proto::wire::pxe::Mtftp> {
        let group = self.assign(name)?;
        let seconds = |time: Duration| u8::try_from(time.as_secs()).unwrap_or(u8::MAX);
        Some(farrier_proto::wire::pxe::Mtftp {
            address: *group.ip(),
            client_port: group.port(),
            server_port: config.server_port,
            timeout: seconds(config.timeout),
            delay: seconds(config.delay),
        })
    }
}

const NOT_OFFERED: &str = "No stream of this file was offered by DHCP. Ask on port 69.";
const TOO_LARGE: &str = "MTFTP carries 32 MiB at most. Ask on port 69.";
const BUSY: &str = "The server is busy: too many transfers at once. Try again.";
