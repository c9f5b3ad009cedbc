//! A client of RFC 2090: it reads what a server sends to a group, and asks for what it lacks when it is its turn.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use farrier_proto::wire::tftp::{Multicast, Packet, TransferOptions};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use tokio::net::UdpSocket;

use super::{DEFAULT_BLKSIZE, Dice, Fetch, PATIENCE, TFTP_PORT, TRIES, refused, said};
use crate::bench::tally::{Shape, Tally};

/// How a machine takes part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    /// An address of ours, on the interface where the group is heard.
    pub(super) at: Ipv4Addr,
    /// Goes on to boot what it has got: who tells it afterwards that it is its turn hears nothing.
    pub(super) leaves: bool,
}

/// One machine on its way.
struct Client {
    fetch: Fetch,
    own: UdpSocket,
    server: SocketAddr,
    /// What the server may have missed.
    last: Vec<u8>,
    joined: Option<Joined>,
}

/// It has been told the group.
struct Joined {
    group: UdpSocket,
    /// Its ACKs choose the blocks.
    master: bool,
    parts: Parts,
}

/// Which blocks have come.
struct Parts {
    blksize: u16,
    have: Vec<bool>,
    /// The first that is missing, from 0; all have come when it is their number.
    missing: usize,
    bytes: u64,
}

impl Fetch {
    /// Fetches it once and counts how that went.
    pub(super) async fn once_from_group(
        &self,
        listening: Listening,
        tally: &mut Tally,
        dice: &mut Dice,
    ) {
        let started = Instant::now();
        let mut buffers = (vec![0; BUFFER], vec![0; BUFFER]);
        let fetched = async {
            let mut client = Client::ask(self).await?;
            while !client.has_all() {
                client.hear(listening.at, &mut buffers, tally, dice).await?;
            }
            Ok::<_, String>(client)
        };
        match fetched.await {
            Ok(client) => {
                let (blksize, bytes) = client
                    .joined
                    .as_ref()
                    .map_or((DEFAULT_BLKSIZE, 0), |j| (j.parts.blksize, j.parts.bytes));
                tally.done(started.elapsed(), bytes);
                tally.agreed(Shape {
                    blksize,
                    windowsize: 1,
                });
                if !listening.leaves {
                    tokio::spawn(client.answer_when_asked());
                }
            }
            Err(why) => tally.failed(why),
        }
    }
}

impl Client {
    async fn ask(fetch: &Fetch) -> Result<Self, String> {
        let client = Self {
            own: fetch.socket().await?,
            server: (fetch.server, TFTP_PORT).into(),
            last: fetch.request(),
            joined: None,
            fetch: fetch.clone(),
        };
        client.send().await?;
        Ok(client)
    }

    fn has_all(&self) -> bool {
        self.joined.as_ref().is_some_and(|j| j.parts.are_all())
    }

    /// One packet, or a second without.
    async fn hear(
        &mut self,
        at: Ipv4Addr,
        (single, shared): &mut (Vec<u8>, Vec<u8>),
        tally: &mut Tally,
        dice: &mut Dice,
    ) -> Result<(), String> {
        let mut silent = 0;
        loop {
            let heard = async {
                match &self.joined {
                    None => (self.own.recv_from(single).await, false),
                    Some(joined) => tokio::select! {
                        got = joined.group.recv_from(shared) => (got, true),
                        got = self.own.recv_from(single) => (got, false),
                    },
                }
            };
            let Ok((got, by_group)) = tokio::time::timeout(PATIENCE, heard).await else {
                if silent == TRIES {
                    return Err("the server fell silent".to_owned());
                }
                silent += 1;
                if self.joined.as_ref().is_none_or(|joined| joined.master) {
                    tally.resent(1);
                    self.send().await?;
                }
                continue;
            };
            let (len, from) = got.map_err(said)?;
            if dice.says(self.fetch.loss) {
                continue;
            }
            let bytes = if by_group {
                &shared[..len]
            } else {
                &single[..len]
            };
            // The last ACK is not thrown away: nobody would send it again.
            if self.take(bytes, from, at)? && (self.has_all() || !dice.says(self.fetch.loss)) {
                self.send().await?;
            }
            return Ok(());
        }
    }

    /// True if there is something to say to it.
    fn take(&mut self, bytes: &[u8], from: SocketAddr, at: Ipv4Addr) -> Result<bool, String> {
        let mine = match Packet::decode(bytes).map_err(|e| e.to_string())? {
            Packet::OptionAck(options) => {
                let Some(Multicast::Joined { group, master }) = options.multicast else {
                    return Err(NO_GROUP.to_owned());
                };
                self.server = from;
                match &mut self.joined {
                    Some(joined) => joined.master = master,
                    none => {
                        let group = group.ok_or("the first OACK names no group")?;
                        *none = Some(Joined {
                            group: join(group, at)?,
                            master,
                            parts: Parts::agreed(&self.fetch.options, &options)?,
                        });
                    }
                }
                master
            }
            Packet::Data { block, data } => {
                let joined = self.joined.as_mut().ok_or(NO_GROUP)?;
                joined.parts.take(&self.fetch, block, data)?;
                // Also what came before: the ACK was lost.
                joined.master
            }
            Packet::Error { text, .. } => return Err(refused(text)),
            _ => false,
        };
        if mine && let Some(joined) = &self.joined {
            self.last = joined.parts.ack();
        }
        Ok(mine)
    }

    async fn send(&self) -> Result<(), String> {
        let sent = self.own.send_to(&self.last, self.server).await;
        sent.map(drop).map_err(said)
    }

    /// Has everything, and says so for as long as this program runs.
    async fn answer_when_asked(mut self) {
        let mut buffer = vec![0; BUFFER];
        while let Ok((len, _)) = self.own.recv_from(&mut buffer).await {
            if let Ok(Packet::OptionAck(_)) = Packet::decode(&buffer[..len])
                && let Some(joined) = &self.joined
            {
                self.last = joined.parts.ack();
                // The server asks again.
                let _ = self.send().await;
            }
        }
    }
}

impl Parts {
    fn agreed(asked: &TransferOptions, said: &TransferOptions) -> Result<Self, String> {
        let blksize = said.blksize.unwrap_or(DEFAULT_BLKSIZE);
        if blksize == 0 || Some(blksize) > asked.blksize {
            return Err(format!(
                "blksize {blksize} in the answer is not what was asked for"
            ));
        }
        let size = said
            .tsize
            .ok_or("the server does not tell the file's size")?;
        let blocks = size / u64::from(blksize) + 1;
        if blocks > u64::from(u16::MAX) {
            return Err(format!(
                "{blocks} blocks cannot be told apart by their numbers"
            ));
        }
        Ok(Self {
            blksize,
            have: vec![false; blocks as usize],
            missing: 0,
            bytes: 0,
        })
    }

    fn are_all(&self) -> bool {
        self.missing == self.have.len()
    }

    fn take(&mut self, fetch: &Fetch, block: u16, data: &[u8]) -> Result<(), String> {
        let index = usize::from(block).wrapping_sub(1);
        let Some(have) = self.have.get_mut(index) else {
            return Err(format!("block {block} is not of the file"));
        };
        if std::mem::replace(have, true) {
            return Ok(());
        }
        let is_last = index + 1 == self.have.len();
        if (data.len() < usize::from(self.blksize)) != is_last {
            return Err(format!("block {block} has {} bytes", data.len()));
        }
        fetch.compare_at(index * usize::from(self.blksize), data)?;
        self.bytes += data.len() as u64;
        let after = self.have[self.missing..].iter().take_while(|have| **have);
        self.missing += after.count();
        Ok(())
    }

    /// Asks for the first block that is missing.
    fn ack(&self) -> Vec<u8> {
        Packet::Ack {
            block: self.missing as u16,
        }
        .encode()
    }
}

/// Many programs of one machine may hear the same group.
fn join(group: SocketAddrV4, at: Ipv4Addr) -> Result<UdpSocket, String> {
    let open = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // Best effort: who loses packets asks for them again.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        bind(&socket, &group)?;
        sockopt::set_ip_add_membership(&socket, group.ip(), &at)?;
        UdpSocket::from_std(std::net::UdpSocket::from(socket))
    };
    open().map_err(|error: std::io::Error| format!("{group} cannot be heard at {at}: {error}"))
}

const NO_GROUP: &str = "the server sends to nobody but the one who asks";
const BUFFER: usize = 65_536;
const RECEIVE_BUFFER: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use farrier_proto::wire::tftp::{Packet, TransferOptions};

    use super::{Fetch, Parts};

    const ASKED: TransferOptions = TransferOptions {
        blksize: Some(8),
        tsize: Some(0),
        timeout: None,
        windowsize: None,
        multicast: None,
    };

    fn fetch(content: &[u8]) -> Fetch {
        Fetch {
            from: Ipv4Addr::UNSPECIFIED,
            server: Ipv4Addr::LOCALHOST,
            name: "x".to_owned(),
            options: ASKED,
            expected: Some(Arc::from(content)),
            loss: 0.0,
        }
    }

    fn parts(tsize: u64) -> Parts {
        let said = TransferOptions {
            tsize: Some(tsize),
            ..ASKED
        };
        Parts::agreed(&ASKED, &said).unwrap()
    }

    #[test]
    fn rfc2090_blocks_come_in_any_order_and_the_first_missing_one_is_asked_for() {
        let content: Vec<u8> = (0..20).collect();
        let (fetch, mut parts) = (fetch(&content), parts(20));
        let asks_for = |parts: &Parts| match Packet::decode(&parts.ack()) {
            Ok(Packet::Ack { block }) => block + 1,
            other => panic!("{other:?}"),
        };
        for (block, next) in [(2, 1), (2, 1), (1, 3), (3, 4)] {
            let from = usize::from(block - 1) * 8;
            let data = &content[from..(from + 8).min(20)];
            parts.take(&fetch, block, data).unwrap();
            assert_eq!(asks_for(&parts), next, "after block {block}");
        }
        assert!(parts.are_all());
        assert_eq!(parts.bytes, 20);
    }

    #[test]
    fn rfc2090_what_cannot_be_is_refused() {
        let content = [7; 20];
        let fetch = fetch(&content);
        for (block, data) in [
            (0, &content[..8]),
            (4, &content[..8]),
            (1, &content[..7]),
            (3, &content[..8]),
            (1, &[0; 8]),
        ] {
            assert!(parts(20).take(&fetch, block, data).is_err(), "{block}");
        }
        for (blksize, tsize) in [(9, 20), (0, 20), (8, 8 * 65_535)] {
            let said = TransferOptions {
                blksize: Some(blksize),
                tsize: Some(tsize),
                ..ASKED
            };
            assert!(Parts::agreed(&ASKED, &said).is_err(), "{blksize}, {tsize}");
        }
        let without_size = TransferOptions {
            tsize: None,
            ..ASKED
        };
        assert!(Parts::agreed(&ASKED, &without_size).is_err());
    }
}
