//! The five things we ask of the kernel's routing socket (rtnetlink(7)). Every request wants an
//! acknowledgement, so a failure has the kernel's own reason.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use farrier_proto::MacAddr;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The address is ours by the lease of a moment ago; nobody waits for duplicates to answer.
const IFA_F_NODAD: u8 = 2;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFLA_PERM_ADDRESS: u16 = 54;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

const HEADER: usize = 16;

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub(super) struct RouteSocket {
    socket: OwnedFd,
    sequence: u32,
}

impl RouteSocket {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Switches a link on.
    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.ask(RTM_NEWLINK, 0, &link_message(index, IFF_UP, IFF_UP))
            .map(drop)
    }

    /// Switches a link off.
    pub(super) fn set_down(&mut self, index: u32) -> io::Result<()> {
        self.ask(RTM_NEWLINK, 0, &link_message(index, IFF_UP, 0))
            .map(drop)
    }

    /// Gives a link an address; an equal one may be there already.
    pub(super) fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> io::Result<()> {
        let (family, bytes) = parts(address);
        let flags = if family == AF_INET6 { IFA_F_NODAD } else { 0 };
        let mut body = vec![family, prefix, flags, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &bytes);
        attribute(&mut body, IFA_ADDRESS, &bytes);
        self.ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .map(drop)
    }

    /// Sends everything else through `gateway`.
    pub(super) fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let (family, bytes) = parts(gateway);
        // family, lengths of destination and source, tos, table, protocol, scope, type, flags
        let mut body = vec![
            family,
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_BOOT,
            0,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        attribute(&mut body, RTA_GATEWAY, &bytes);
        attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        self.ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .map(drop)
    }

    /// The address a NIC's own memory holds; kernels before 5.6 and virtual NICs do not tell.
    pub(super) fn permanent_address(&mut self, index: u32) -> io::Result<Option<MacAddr>> {
        let answer = self.ask(RTM_GETLINK, 0, &link_message(index, 0, 0))?;
        Ok(permanent_address(&answer))
    }

    /// Sends one request and returns the first answer to it.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(HEADER + body.len());
        let len = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        // A request for data is acknowledged by the data.
        let ack = if kind == RTM_GETLINK { 0 } else { NLM_F_ACK };
        message.extend_from_slice(&(NLM_F_REQUEST | ack | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        sendto(
            &self.socket,
            &message,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        let mut answer = vec![0; 32768];
        let (len, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        answer.truncate(len);
        refusal(&answer).map_or(Ok(answer), Err)
    }
}

/// Family and bytes of an address.
fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    }
}

/// Of the flags in `change`, those in `flags` are set and the others cleared.
fn link_message(index: u32, change: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).expect("attributes here are a few bytes");
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The kernel's error, if the answer is one. An acknowledgement is an error of zero.
fn refusal(answer: &[u8]) -> Option<io::Error> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*answer.get(HEADER..)?.first_chunk()?);
    (kind == NLMSG_ERROR && code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
}

fn permanent_address(answer: &[u8]) -> Option<MacAddr> {
    const LINK_HEADER: usize = 16;
    let mut rest = answer.get(HEADER + LINK_HEADER..)?;
    while let [l0, l1, k0, k1, tail @ ..] = rest {
        let len = usize::from(u16::from_ne_bytes([*l0, *l1])).checked_sub(4)?;
        let value = tail.get(..len)?;
        if u16::from_ne_bytes([*k0, *k1]) == IFLA_PERM_ADDRESS {
            return value.try_into().ok().map(MacAddr);
        }
        rest = tail.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use farrier_proto::MacAddr;

    use super::{
        HEADER, IFF_UP, RTM_GETLINK, RouteSocket, attribute, link_message, permanent_address,
        refusal,
    };

    #[test]
    fn the_permanent_address_is_found_among_attributes() {
        let mut answer = vec![0; HEADER + 16];
        attribute(&mut answer, 1, &[1, 2, 3, 4, 5, 6]);
        attribute(&mut answer, 54, &[6, 5, 4, 3, 2, 1]);
        assert_eq!(
            permanent_address(&answer),
            Some(MacAddr([6, 5, 4, 3, 2, 1]))
        );
        for len in 0..answer.len() {
            assert_eq!(
                permanent_address(&answer[..len]).filter(|_| len < answer.len() - 2),
                None
            );
        }
    }

    /// In a network of its own, since the loopback device is everybody's.
    #[test]
    fn a_link_is_switched_on_and_off() {
        const INSIDE: &str = "FARRIER_TEST_OWN_NETWORK";
        if std::env::var_os(INSIDE).is_none() {
            let name = "net::rtnetlink::tests::a_link_is_switched_on_and_off";
            let program = std::env::current_exe().unwrap();
            let mut again = std::process::Command::new("unshare");
            again.arg("--net").arg(program).args(["--exact", name]);
            let ran = again.env(INSIDE, "1").output().unwrap();
            let told = String::from_utf8_lossy(&ran.stdout);
            assert!(told.contains("1 passed"), "{told}");
            return;
        }
        let mut routes = RouteSocket::open().unwrap();
        let mut is_up = |change: fn(&mut RouteSocket) -> std::io::Result<()>| {
            change(&mut routes).unwrap();
            let link = link_message(1, 0, 0);
            let answer = routes.ask(RTM_GETLINK, 0, &link).unwrap();
            let flags = u32::from_ne_bytes(answer[HEADER + 8..HEADER + 12].try_into().unwrap());
            flags & IFF_UP != 0
        };
        assert!(is_up(|routes| routes.set_up(1)));
        assert!(!is_up(|routes| routes.set_down(1)));
    }

    #[test]
    fn the_kernel_says_why_not() {
        let mut routes = RouteSocket::open().unwrap();
        let error = routes.permanent_address(0x7fff_fff0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19), "ENODEV: {error}");
        assert!(refusal(&[0; 10]).is_none());
    }
}
