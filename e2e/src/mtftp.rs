//! A scripted MTFTP client (PXE 2.1), as old BIOS ROMs are: no package of Debian has one that works.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::{
    clients::{PATIENTLY, exchange},
    net::Host,
};

/// What option 43 of an offer says of MTFTP, and the boot file beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Sub-options 1 and 2.
    pub group: SocketAddrV4,
    /// Sub-option 3.
    pub server_port: u16,
    /// Sub-options 4 and 5, in seconds.
    pub timeout: u8,
    pub delay: u8,
    /// The boot file.
    pub file: String,
    /// siaddr.
    pub server: Ipv4Addr,
}

/// How a client got its file.
#[derive(Debug)]
pub struct Fetched {
    /// The file.
    pub bytes: Vec<u8>,
    /// It opened a stream and acknowledged its blocks.
    pub opened: bool,
}

/// Asks by DHCPDISCOVER like a PXE ROM of this architecture and returns the reply as it came.
///
/// # Errors
/// When nobody answers for a minute.
pub fn discover(host: &Host, mac: [u8; 6], arch: u16) -> Result<Vec<u8>> {
    let [high, low] = arch.to_be_bytes();
    let class = format!("PXEClient:Arch:{arch:05}:UNDI:002001");
    let mut request = vec![0; 240];
    request[..3].copy_from_slice(&[1, 1, 6]);
    request[4..8].copy_from_slice(&mac[2..]);
    request[10] = 0x80;
    request[28..34].copy_from_slice(&mac);
    request[236..240].copy_from_slice(&[99, 130, 83, 99]);
    request.extend([53, 1, 1, 55, 6, 1, 3, 43, 60, 66, 67]);
    request.extend([93, 2, high, low, 94, 3, 1, 2, 1]);
    request.extend([60, u8::try_from(class.len())?]);
    request.extend(class.as_bytes());
    request.push(255);
    request.resize(300.max(request.len()), 0);
    let _ = host.ip(["route", "add", "255.255.255.255/32", "dev", "eth0"]);
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    exchange(host, &request, everybody, PATIENTLY)?.context("no offer came")
}

/// Reads MTFTP's sub-options out of a reply; none if they are not all there.
#[must_use]
pub fn offered(reply: &[u8]) -> Option<Offer> {
    let vendor = option(reply.get(240..)?, 43)?;
    let address: [u8; 4] = option(vendor, 1)?.try_into().ok()?;
    let port = |code| {
        let bytes: [u8; 2] = option(vendor, code)?.try_into().ok()?;
        Some(u16::from_le_bytes(bytes))
    };
    let siaddr: [u8; 4] = reply.get(20..24)?.try_into().ok()?;
    let file = reply.get(108..236)?;
    let end = file.iter().position(|byte| *byte == 0)?;
    Some(Offer {
        group: SocketAddrV4::new(Ipv4Addr::from(address), port(2)?),
        server_port: port(3)?,
        timeout: *option(vendor, 4)?.first()?,
        delay: *option(vendor, 5)?.first()?,
        file: String::from_utf8(file[..end].to_vec()).ok()?,
        server: Ipv4Addr::from(siaddr),
    })
}

fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] | [] => return None,
            [code, len, rest @ ..] => {
                let value = rest.get(..usize::from(*len))?;
                if *code == wanted {
                    return Some(value);
                }
                options = &rest[usize::from(*len)..];
            }
            [_] => return None,
        }
    }
}

/// Fetches the offered file: listens, opens a stream when nothing is to be heard, listens again for what is missing.
/// It dies after `dies_after` blocks of a stream that it opened.
///
/// # Errors
/// When the file is not whole within `patience`.
pub fn fetch(
    host: &Host,
    offer: &Offer,
    dies_after: Option<u16>,
    patience: Duration,
) -> Result<Fetched> {
    let own = host.address().context("it needs an address")?;
    let server = SocketAddrV4::new(offer.server, offer.server_port);
    let mut request = vec![0, 1];
    request.extend(offer.file.as_bytes());
    request.extend(b"\0octet\0");
    host.run(|| {
        // Bound to each address by itself, so that it is plain which of the two a block came to.
        let alone = UdpSocket::bind((own, offer.group.port())).context("the client port")?;
        let all = UdpSocket::bind(offer.group).context("the group")?;
        all.join_multicast_v4(offer.group.ip(), &own)
            .context("join the group")?;
        for socket in [&alone, &all] {
            socket.set_nonblocking(true)?;
            // A ROM owns its machine. This one may be kept from running while the file goes by, and loses none of it.
            set_socket_recv_buffer_size_force(socket, 4 << 20).context("a larger buffer")?;
        }
        let (mut blocks, mut last) = (BTreeMap::<u16, Vec<u8>>::new(), None);
        let (mut opened, mut master) = (false, false);
        let began = Instant::now();
        let mut wakes = began + Duration::from_secs(offer.timeout.into());
        let mut buffer = [0; 2048];
        while last.is_none_or(|last| blocks.len() < usize::from(last)) {
            if began.elapsed() > patience {
                bail!("{} blocks after {patience:?}", blocks.len());
            }
            let unicast = alone.recv_from(&mut buffer).map(|got| (got, false));
            let received = unicast.or_else(|_| all.recv_from(&mut buffer).map(|got| (got, true)));
            let Ok(((len, from), to_all)) = received else {
                if Instant::now() >= wakes {
                    master = false;
                    opened = true;
                    alone.send_to(&request, server)?;
                    wakes = Instant::now() + Duration::from_secs(offer.delay.into());
                }
                std::thread::sleep(Duration::from_micros(200));
                continue;
            };
            let packet = &buffer[..len];
            // Intel's client looks at the source port, too.
            if from != server.into() {
                bail!("a packet came from {from}, not from {server}");
            }
            let [0, 3, high, low, data @ ..] = packet else {
                bail!("{}", packet.escape_ascii());
            };
            let block = u16::from_be_bytes([*high, *low]);
            wakes = Instant::now() + Duration::from_secs(offer.delay.into());
            master |= !to_all;
            if data.len() < 512 {
                last = Some(block);
            }
            blocks.insert(block, data.to_vec());
            // The first block comes twice to whoever opened the stream.
            if master && (to_all != (block == 1)) {
                if dies_after == Some(block) {
                    bail!("dies as it was told to");
                }
                alone.send_to(&[0, 4, *high, *low], server)?;
            }
        }
        Ok(Fetched {
            bytes: blocks.into_values().flatten().collect(),
            opened: opened && master,
        })
    })
}
