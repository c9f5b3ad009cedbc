//! `farrier bench tftp`, and the client that the storm uses too.

mod multicast;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use farrier_proto::wire::tftp::{ErrorCode, Mode, Multicast, Packet, ReadRequest, TransferOptions};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use self::multicast::Listening;
use super::TFTP_PORT;
use super::profile::Firmware;
use super::relay::{Dora, Relay, mac};
use super::tally::{Report, Shape, Tally};
use crate::exit::Failure;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server to ask.
    #[arg(value_name = "SERVER")]
    target: Ipv4Addr,
    /// The file to fetch.
    file: String,
    /// A copy of it: every byte that arrives is compared.
    #[arg(long)]
    expect: Option<PathBuf>,
    /// Machines that fetch at the same time.
    #[arg(long, default_value_t = 16)]
    clients: u32,
    /// Gives each machine an address of its own, from this one on; this host must hold their network
    /// (`ip route add local NETWORK dev lo`).
    #[arg(long, value_name = "FIRST_ADDRESS")]
    from: Option<Ipv4Addr>,
    /// Each machine asks for its address first, through a relay agent that has this one of this host.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "from")]
    relay: Option<Ipv4Addr>,
    /// Fetches in all.
    #[arg(long, default_value_t = 64)]
    count: u32,
    /// Bytes in a block. Of several, with commas between them, each is asked for with each window, in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1468])]
    blksize: Vec<u16>,
    /// Blocks per acknowledgement (RFC 7440); 1 asks for none.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    window: Vec<u16>,
    /// Share of packets that are thrown away in either direction, such as 0.003.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// The order of losses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One stream for all machines (RFC 2090), heard on the interface that has this address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "window")]
    multicast: Option<Ipv4Addr>,
    /// With --multicast: whoever has the file boots it, and no longer answers.
    #[arg(long, requires = "multicast")]
    leave: bool,
}

pub(super) async fn run(options: Options) -> anyhow::Result<Vec<Report>> {
    let expected = match &options.expect {
        None => None,
        Some(file) => Some(
            std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?,
        ),
    };
    let fetch = Fetch {
        from: Ipv4Addr::UNSPECIFIED,
        server: options.target,
        name: options.file.clone(),
        options: TransferOptions::default(),
        expected: expected.map(Arc::from),
        loss: options.loss,
    };
    let mut shapes = shapes(&options.blksize, &options.window);
    if options.multicast.is_some() {
        for shape in &mut shapes {
            shape.multicast = Some(Multicast::Asked);
        }
    }
    let listening = options.multicast.map(|at| Listening {
        at,
        leaves: options.leave,
    });
    let leased = match options.relay {
        Some(relay) => addresses(&options, relay).await?,
        None => Vec::new(),
    };
    let shapes: Arc<[_]> = shapes.into();
    let (next, count) = (Arc::new(AtomicU32::new(0)), options.count);
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..options.clients {
        let (next, shapes) = (Arc::clone(&next), Arc::clone(&shapes));
        let mut fetch = Fetch {
            from: leased
                .get(client as usize)
                .copied()
                .unwrap_or_else(|| own_address(options.from, client)),
            ..fetch.clone()
        };
        let mut dice = Dice(options.seed ^ (u64::from(client) << 32) | 1);
        clients.spawn(async move {
            let mut tally = Tally::default();
            while let Ok(number) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (next < count).then_some(next + 1)
            }) {
                fetch.options = shapes[number as usize % shapes.len()];
                match listening {
                    Some(how) => fetch.once_from_group(how, &mut tally, &mut dice).await,
                    None => drop(fetch.once(&mut tally, &mut dice).await),
                }
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all.add(tally?);
    }
    Ok(vec![all.report("tftp", started)])
}

/// An address for each machine.
async fn addresses(options: &Options, relay: Ipv4Addr) -> anyhow::Result<Vec<Ipv4Addr>> {
    let relay = Relay::open(options.target, relay).await?;
    let profile = Firmware::Edk2X64.profile();
    let mut leased = Vec::new();
    for client in 0..options.clients {
        let lease = relay
            .lease(&profile, mac(MACHINES, client), &mut Dora::default())
            .await
            .map_err(|why| Failure::refused(format!("machine {client} got no address: {why}")))?;
        leased.push(lease.ip);
    }
    Ok(leased)
}

/// What is asked for: each block size with each window.
fn shapes(blksizes: &[u16], windows: &[u16]) -> Vec<TransferOptions> {
    let pairs = windows
        .iter()
        .flat_map(|window| blksizes.iter().map(move |blksize| (*blksize, *window)));
    pairs
        .map(|(blksize, window)| TransferOptions {
            blksize: Some(blksize),
            tsize: Some(0),
            timeout: None,
            windowsize: (window > 1).then_some(window),
            multicast: None,
        })
        .collect()
}

/// The address of one of many machines; unspecified lets the kernel choose.
pub(super) fn own_address(first: Option<Ipv4Addr>, number: u32) -> Ipv4Addr {
    first.map_or(Ipv4Addr::UNSPECIFIED, |first| {
        Ipv4Addr::from_bits(first.to_bits().wrapping_add(number))
    })
}

/// One file, asked for as one kind of firmware does.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    /// Our own address; unspecified lets the kernel choose.
    pub(super) from: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    pub(super) name: String,
    pub(super) options: TransferOptions,
    pub(super) expected: Option<Arc<[u8]>>,
    pub(super) loss: f64,
}

impl Fetch {
    /// Fetches it and counts how that went. True if it arrived.
    pub(super) async fn once(&self, tally: &mut Tally, dice: &mut Dice) -> bool {
        let started = Instant::now();
        match self.transfer(tally, dice).await {
            Ok(bytes) => {
                tally.done(started.elapsed(), bytes);
                true
            }
            Err(why) => {
                tally.failed(why);
                false
            }
        }
    }

    /// The question for the size that edk2 asks first and breaks off.
    pub(super) async fn ask_size(&self) -> Result<(), String> {
        let socket = self.socket().await?;
        let mut buffer = [0; 1024];
        for _ in 0..TRIES {
            socket
                .send_to(&self.request(), (self.server, TFTP_PORT))
                .await
                .map_err(said)?;
            let Ok(got) = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await
            else {
                continue;
            };
            let (len, peer) = got.map_err(said)?;
            if let Ok(Packet::Error { text, .. }) = Packet::decode(&buffer[..len]) {
                return Err(refused(text));
            }
            let broken_off = Packet::Error {
                code: ErrorCode::OPTION_REFUSED,
                text: b"User aborted the transfer",
            };
            socket
                .send_to(&broken_off.encode(), peer)
                .await
                .map_err(said)?;
            return Ok(());
        }
        Err("no answer to the question for the size".to_owned())
    }

    async fn socket(&self) -> Result<UdpSocket, String> {
        let at = SocketAddrV4::new(self.from, 0);
        UdpSocket::bind(at)
            .await
            .map_err(|error| format!("{at} cannot be used: {error}"))
    }

    fn request(&self) -> Vec<u8> {
        Packet::ReadRequest(ReadRequest {
            name: self.name.clone().into_bytes(),
            mode: Mode::Octet,
            options: self.options,
        })
        .encode()
    }

    /// Whether the bytes from `at` on are those of the copy.
    fn compare_at(&self, at: usize, data: &[u8]) -> Result<(), String> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        match expected.get(at..at.saturating_add(data.len())) {
            Some(right) if right == data => Ok(()),
            _ => Err("wrong bytes".to_owned()),
        }
    }

    async fn transfer(&self, tally: &mut Tally, dice: &mut Dice) -> Result<u64, String> {
        let socket = self.socket().await?;
        let mut got = Received {
            fetch: self,
            blksize: DEFAULT_BLKSIZE,
            window: 1,
            block: 0,
            bytes: 0,
            since_ack: 0,
        };
        let mut last = self.request();
        let mut peer: SocketAddr = (self.server, TFTP_PORT).into();
        let mut buffer = vec![0; 65_536];
        let mut tries = 0;
        socket.send_to(&last, peer).await.map_err(said)?;
        loop {
            let (len, from) =
                match tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await {
                    Ok(packet) => packet.map_err(said)?,
                    Err(_) if tries == TRIES => return Err("the server fell silent".to_owned()),
                    Err(_) => {
                        tries += 1;
                        tally.resent(1);
                        socket.send_to(&last, peer).await.map_err(said)?;
                        continue;
                    }
                };
            if dice.says(self.loss) {
                continue;
            }
            if peer.port() == TFTP_PORT && from.ip() == peer.ip() {
                peer = from;
            }
            let packet = Packet::decode(&buffer[..len]).map_err(|e| e.to_string())?;
            let Some(answer) = got.take(packet)? else {
                continue;
            };
            (tries, last) = (0, answer.packet);
            // The last ACK is not thrown away: nobody would send it again.
            if answer.done || !dice.says(self.loss) {
                socket.send_to(&last, peer).await.map_err(said)?;
            }
            if answer.done {
                got.is_whole()?;
                tally.agreed(got.shape());
                return Ok(got.bytes);
            }
        }
    }
}

/// How far a transfer is.
struct Received<'a> {
    fetch: &'a Fetch,
    blksize: u16,
    window: u16,
    /// The last block that arrived in its order.
    block: u16,
    bytes: u64,
    since_ack: u16,
}

struct Answer {
    packet: Vec<u8>,
    done: bool,
}

impl Received<'_> {
    fn take(&mut self, packet: Packet<'_>) -> Result<Option<Answer>, String> {
        match packet {
            Packet::OptionAck(options) if self.bytes == 0 => {
                self.agree(options)?;
                Ok(Some(self.ack(false)))
            }
            Packet::Data { block, data } if block == self.block.wrapping_add(1) => {
                self.compare(data)?;
                self.block = block;
                self.bytes += data.len() as u64;
                self.since_ack += 1;
                let done = data.len() < usize::from(self.blksize);
                Ok((done || self.since_ack == self.window).then(|| self.ack(done)))
            }
            // One is missing, or came again because an ACK was lost. edk2, the firmware that asks for windows, says
            // after each such block what arrived, so that the server goes on from there (RFC 7440 section 4).
            Packet::Data { .. } if self.window > 1 => Ok(Some(self.ack(false))),
            Packet::Data { block, .. } if block == self.block && self.window == 1 => {
                Ok(Some(self.ack(false)))
            }
            Packet::Error { text, .. } => Err(refused(text)),
            _ => Ok(None),
        }
    }

    /// A server may say less than it was asked for, and never more (RFC 2348, RFC 7440 section 3).
    fn agree(&mut self, said: TransferOptions) -> Result<(), String> {
        let asked = self.fetch.options;
        for (name, said, asked) in [
            ("blksize", said.blksize, asked.blksize),
            ("windowsize", said.windowsize, asked.windowsize),
        ] {
            // An option that was not asked for is none.
            if said > asked {
                let asked = asked.map_or_else(|| "none".to_owned(), |asked| asked.to_string());
                let said = said.unwrap_or_default();
                return Err(format!(
                    "{name} {said} in the answer, {asked} was asked for"
                ));
            }
        }
        self.blksize = said.blksize.unwrap_or(DEFAULT_BLKSIZE);
        self.window = said.windowsize.unwrap_or(1);
        Ok(())
    }

    fn shape(&self) -> Shape {
        Shape {
            blksize: self.blksize,
            windowsize: self.window,
        }
    }

    /// A block that is not full ends a file, wherever it comes.
    fn is_whole(&self) -> Result<(), String> {
        match &self.fetch.expected {
            Some(expected) if expected.len() as u64 != self.bytes => Err(format!(
                "it ended after {} of {} bytes",
                self.bytes,
                expected.len()
            )),
            _ => Ok(()),
        }
    }

    fn ack(&mut self, done: bool) -> Answer {
        self.since_ack = 0;
        Answer {
            packet: Packet::Ack { block: self.block }.encode(),
            done,
        }
    }

    fn compare(&self, data: &[u8]) -> Result<(), String> {
        let at = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        self.fetch.compare_at(at, data)
    }
}

/// Random numbers that come out the same for the same seed (xorshift64).
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// True in this share of all calls.
    fn says(&mut self, share: f64) -> bool {
        if share <= 0.0 {
            return false;
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / ((1u64 << 53) as f64) < share
    }
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}

fn refused(text: &[u8]) -> String {
    format!("refused: {}", String::from_utf8_lossy(text))
}

/// iPXE and GRUB ask again after about a second, edk2 after four.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 6;
/// Hardware addresses of machines that ask for theirs begin so.
const MACHINES: u16 = 0x7467;
/// RFC 1350, where nothing else is agreed on.
const DEFAULT_BLKSIZE: u16 = 512;

#[cfg(test)]
mod tests;
