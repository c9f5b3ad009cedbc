//! UDP to a hardware address, without ARP; and frames of an EtherType of their own.
//!
//! A client that asked for a unicast answer has no address yet and answers no ARP (RFC 2131 4.1;
//! iPXE, U-Boot, SLOF and s390x do this, `firmware.md` T16). So the frame is addressed by hand.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use farrier_proto::MacAddr;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::net::UdpSocket;

/// The EtherType of IPv4.
const IPV4: u16 = 0x0800;
const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TIME_TO_LIVE: u8 = 64;

/// Sends UDP datagrams in hand-addressed frames on one interface.
#[derive(Debug)]
pub struct LinkSender {
    socket: Socket,
    interface_index: i32,
}

impl LinkSender {
    /// Needs CAP_NET_RAW.
    pub fn open(interface_index: u32) -> io::Result<Self> {
        // Protocol 0: this socket never receives, so it costs nothing per frame that arrives.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            interface_index: kernel_index(interface_index)?,
        })
    }

    /// Sends `payload` from `source` to `target`, whose hardware address is `mac`.
    pub fn send(
        &self,
        source: SocketAddrV4,
        target: SocketAddrV4,
        mac: MacAddr,
        payload: &[u8],
    ) -> io::Result<()> {
        let packet = udp_packet(source, target, payload)?;
        self.send_frame(IPV4, mac, &packet)
    }

    /// Sends `payload` in a frame of this EtherType to `mac`.
    pub fn send_frame(&self, ethertype: u16, mac: MacAddr, payload: &[u8]) -> io::Result<()> {
        self.socket
            .send_to(
                payload,
                &hardware_address(self.interface_index, ethertype, mac),
            )
            .map(drop)
    }
}

/// Hears frames of one EtherType on one interface.
#[derive(Debug)]
pub struct LinkListener {
    /// Not UDP: the type is taken for its waiting and receiving, which are the same for every datagram.
    socket: UdpSocket,
}

impl LinkListener {
    /// Needs CAP_NET_RAW, and a runtime to wait in.
    pub fn open(interface_index: u32, ethertype: u16) -> io::Result<Self> {
        // Protocol 0 until it is bound, so that no frame of another interface is in the queue.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        let index = kernel_index(interface_index)?;
        socket.bind(&hardware_address(index, ethertype, MacAddr([0; 6])))?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
        })
    }

    /// Waits for a frame and returns the length of what follows its header, padding included. Safe to give up at
    /// any time.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer).await
    }
}

fn kernel_index(interface_index: u32) -> io::Result<i32> {
    i32::try_from(interface_index)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "interface index out of range"))
}

#[allow(
    unsafe_code,
    reason = "socket2 has no constructor for link-layer addresses"
)]
fn hardware_address(interface_index: i32, ethertype: u16, mac: MacAddr) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is a plain C struct that fits into sockaddr_storage, which is zeroed and
    // aligned for every socket address; all bit patterns are valid for both.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = ethertype.to_be();
    link.sll_ifindex = interface_index;
    link.sll_halen = 6;
    link.sll_addr[..6].copy_from_slice(&mac.0);
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("20 bytes");
    // SAFETY: the storage holds a whole sockaddr_ll of `len` bytes, filled in above.
    unsafe { SockAddr::new(storage, len) }
}

/// An IPv4 packet (RFC 791) with one UDP datagram (RFC 768), both checksums filled in.
fn udp_packet(source: SocketAddrV4, target: SocketAddrV4, payload: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "datagram longer than IPv4 can carry",
        )
    };
    let total = u16::try_from(IPV4_HEADER + UDP_HEADER + payload.len()).map_err(|_| too_long())?;
    let udp_len = total - 20;
    let mut packet = Vec::with_capacity(usize::from(total));
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&total.to_be_bytes());
    // Identification 0 and "don't fragment": RFC 6864 lets an atomic datagram have any identification.
    packet.extend_from_slice(&[0, 0, 0x40, 0, TIME_TO_LIVE, 17, 0, 0]);
    packet.extend_from_slice(&source.ip().octets());
    packet.extend_from_slice(&target.ip().octets());
    let header_sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&header_sum.to_be_bytes());

    let udp_start = packet.len();
    packet.extend_from_slice(&source.port().to_be_bytes());
    packet.extend_from_slice(&target.port().to_be_bytes());
    packet.extend_from_slice(&udp_len.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    let pseudo = pseudo_header(*source.ip(), *target.ip(), udp_len);
    let udp_sum = match checksum(&[&pseudo, &packet[udp_start..]]) {
        // Zero on the wire means "no checksum" (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    packet[udp_start + 6..udp_start + 8].copy_from_slice(&udp_sum.to_be_bytes());
    Ok(packet)
}

fn pseudo_header(source: Ipv4Addr, target: Ipv4Addr, udp_len: u16) -> [u8; 12] {
    let mut header = [0; 12];
    header[..4].copy_from_slice(&source.octets());
    header[4..8].copy_from_slice(&target.octets());
    header[9] = 17;
    header[10..].copy_from_slice(&udp_len.to_be_bytes());
    header
}

/// The Internet checksum (RFC 1071) over parts that follow one another, each but the last of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{checksum, pseudo_header, udp_packet};

    #[test]
    fn rfc768_both_checksums_verify_for_every_payload_length() {
        let source = "10.77.0.1:67".parse().unwrap();
        let target = "10.77.0.100:68".parse().unwrap();
        for len in [0usize, 1, 2, 299, 300, 1472] {
            let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let packet = udp_packet(source, target, &payload).unwrap();
            assert_eq!(checksum(&[&packet[..20]]), 0, "IPv4 header, {len}");
            let udp_len = u16::try_from(8 + len).unwrap();
            let pseudo = pseudo_header(*source.ip(), *target.ip(), udp_len);
            assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0, "UDP, {len}");
            assert_eq!(&packet[28..], payload);
        }
    }

    #[test]
    fn a_datagram_that_cannot_exist_is_refused() {
        let any = "10.77.0.1:67".parse().unwrap();
        assert!(udp_packet(any, any, &vec![0; 65_508]).is_err());
    }
}
