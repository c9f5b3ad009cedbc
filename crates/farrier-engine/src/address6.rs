//! Which IPv6 address a client gets: computed from who it is, so that nothing needs to be remembered.
//!
//! The idea is that of RFC 7943. A network has 2^64 addresses, so each set of addresses that a client
//! asks for (an IAID of a DUID) gets one that is its own without a table: firmware, loader and system of
//! one machine are lent the same again after any restart of the server, and no lease must reach the disk
//! before it is acknowledged. An address that is kept for somebody ([`Reserved6`]) comes before that. The hardware address is part of it, so that a later TFTP or HTTP request
//! tells whose it is.

mod reserved;

use std::net::Ipv6Addr;

use farrier_proto::MacAddr;
use farrier_proto::reply::dhcpv6::{IaAnswer, Status};
use farrier_proto::wire::dhcpv6::{Message, MessageType};
use farrier_proto::wire::dhcpv6_option::{IaAddress, IaNa};

pub use reserved::{Client6, Holder6, KeptTwice, Reserved6};

/// A network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(u64);

impl Prefix {
    /// The network that `address` is in.
    #[must_use]
    pub fn of(address: Ipv6Addr) -> Self {
        Self(u64::try_from(address.to_bits() >> 64).unwrap_or(0))
    }

    #[must_use]
    pub fn contains(self, address: Ipv6Addr) -> bool {
        Self::of(address) == self
    }

    /// The address of the client with this hardware address, if it is known. `digest` is a keyed hash
    /// of DUID, IAID and the number of the try, which rises when a client finds an address in use.
    ///
    /// With a hardware address the identifier is `mmmmmm dd dd mmmmmm`: its halves around two bytes of
    /// the digest. Without one it is the digest, marked by the group bit, which no card's address has.
    #[must_use]
    pub fn address(self, mac: Option<MacAddr>, digest: u64) -> Ipv6Addr {
        let bytes = digest.to_be_bytes();
        let id = match mac {
            Some(MacAddr([a, b, c, d, e, f])) => {
                let mut tag = [bytes[0], bytes[1]];
                // ff:fe would be the address the client gives itself (RFC 4291 appendix A).
                if tag == [0xff, 0xfe] {
                    tag[1] = bytes[2] & 0x7f;
                }
                u64::from_be_bytes([a, b, c, tag[0], tag[1], d, e, f])
            }
            None => digest | GROUP_BIT,
        };
        Ipv6Addr::from_bits(u128::from(self.0) << 64 | u128::from(id))
    }

    /// Whose address this is, if it has a hardware address in it: one of ours, or one the client made
    /// from its own. A hint, never a credential.
    #[must_use]
    pub fn owner(self, address: Ipv6Addr) -> Option<MacAddr> {
        let [.., a, b, c, x, y, d, e, f] = address.octets();
        let first = if [x, y] == [0xff, 0xfe] { a ^ 2 } else { a };
        let mac = MacAddr([first, b, c, d, e, f]);
        (self.contains(address) && !mac.is_unusable()).then_some(mac)
    }
}

/// What a client is told of one set of addresses, `mine` being the one address that is its own (RFC 8415
/// sections 18.3.2 to 18.3.5). Addresses it holds otherwise are taken back.
#[must_use]
pub fn answer(
    network: Prefix,
    kind: MessageType,
    ia: &IaNa,
    mine: Ipv6Addr,
    lifetime: u32,
) -> IaAnswer {
    let held: Vec<Ipv6Addr> = ia.addresses().map(|held| held.address).collect();
    let moved = held.iter().any(|address| !network.contains(*address));
    if kind == MessageType::Request && moved {
        return IaAnswer::Refused(Status::NotOnLink);
    }
    let mut addresses = vec![IaAddress {
        address: mine,
        // A fifth earlier, so that a client has moved on to another before it must stop.
        preferred: lifetime / 5 * 4,
        valid: lifetime,
    }];
    if matches!(kind, MessageType::Renew | MessageType::Rebind) {
        let others = held.into_iter().filter(|address| *address != mine);
        addresses.extend(others.map(|address| IaAddress {
            address,
            preferred: 0,
            valid: 0,
        }));
    }
    IaAnswer::Addresses(addresses)
}

/// Whether the addresses of a client that may have moved still fit here; none if it names none, which
/// gets no answer (RFC 8415 section 18.3.3).
#[must_use]
pub fn confirm(network: Prefix, request: &Message) -> Option<Status> {
    let mut held = request.ia_nas().flat_map(|ia| {
        let addresses: Vec<_> = ia.addresses().collect();
        addresses
    });
    let first = held.next()?;
    let all_here = std::iter::once(first)
        .chain(held)
        .all(|held| network.contains(held.address));
    Some(if all_here {
        Status::Success
    } else {
        Status::NotOnLink
    })
}

/// Whether RFC 8415 section 16 lets a server act on the message: the ids that must and must not be there.
#[must_use]
pub fn is_valid(request: &Message, our_id: &[u8]) -> bool {
    let client = request.client_id().is_some();
    let server = request.server_id();
    match request.kind {
        MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => {
            client && server.is_none()
        }
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline => {
            client && server == Some(our_id)
        }
        MessageType::InformationRequest => {
            server.is_none_or(|id| id == our_id) && request.ia_nas().next().is_none()
        }
        MessageType::Advertise | MessageType::Reply | MessageType::Reconfigure => false,
    }
}

/// The lowest bit of the first byte, as in hardware addresses.
const GROUP_BIT: u64 = 1 << 56;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use farrier_proto::wire::dhcpv6_option::{self as option, Options};

    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x15]);

    fn prefix() -> Prefix {
        Prefix::of("fd77:0:0:a::1".parse().unwrap())
    }

    #[test]
    fn rfc7943_same_asker_same_address_other_set_other_address() {
        let lent: HashSet<_> = (0..1000_u64)
            .map(|n| prefix().address(Some(MAC), n << 48))
            .collect();
        assert_eq!(lent.len(), 1000);
        assert_eq!(
            prefix().address(Some(MAC), 7),
            prefix().address(Some(MAC), 7)
        );
        assert!(lent.iter().all(|address| prefix().contains(*address)));
        assert!(
            lent.iter()
                .all(|address| prefix().owner(*address) == Some(MAC))
        );
    }

    #[test]
    fn no_lent_address_is_one_a_client_makes_itself() {
        let own: Ipv6Addr = "fd77:0:0:a:5054:ff:fe77:15".parse().unwrap();
        for digest in [
            0xfffe_0000_0000_0000,
            0xfffe_fe00_0000_0000,
            0xfffe_ff00_0000_0000,
        ] {
            let lent = prefix().address(Some(MAC), digest);
            assert_ne!(lent, own);
            assert_eq!(prefix().owner(lent), Some(MAC), "{lent}");
        }
        assert_eq!(prefix().owner(own), Some(MAC));
    }

    fn set(addresses: &[&str]) -> IaNa {
        let mut options = Options::default();
        for address in addresses {
            let lent = IaAddress {
                address: address.parse().unwrap(),
                preferred: 1,
                valid: 1,
            };
            options.push(option::IA_ADDRESS, lent.encode());
        }
        IaNa {
            iaid: 1,
            t1: 0,
            t2: 0,
            options,
        }
    }

    fn message(kind: MessageType, ids: (bool, Option<&[u8]>), sets: &[IaNa]) -> Message {
        let mut options = Options::default();
        if ids.0 {
            options.push(option::CLIENT_ID, [0, 4, 1]);
        }
        if let Some(server) = ids.1 {
            options.push(option::SERVER_ID, server);
        }
        for set in sets {
            options.push(option::IA_NA, set.encode());
        }
        Message {
            kind,
            xid: [0; 3],
            options,
            cut_off: false,
        }
    }

    #[test]
    fn rfc8415_18_3_sets_by_message() {
        let mine: Ipv6Addr = "fd77:0:0:a::77".parse().unwrap();
        let told = |kind, held: &[&str]| match answer(prefix(), kind, &set(held), mine, 1000) {
            IaAnswer::Addresses(addresses) => addresses
                .iter()
                .map(|a| (a.address.to_string(), a.preferred, a.valid))
                .collect(),
            IaAnswer::Refused(status) => vec![(format!("{status:?}"), 0, 0)],
        };
        let (here, gone) = ("fd77:0:0:a::5", "fd78::5");
        let own = (mine.to_string(), 800, 1000);
        let taken = |address: &str| (address.to_owned(), 0, 0);
        use MessageType::{Rebind, Renew, Request, Solicit};
        assert_eq!(told(Solicit, &[]), std::slice::from_ref(&own));
        assert_eq!(told(Solicit, &[gone]), std::slice::from_ref(&own));
        assert_eq!(told(Request, &[here]), std::slice::from_ref(&own));
        assert_eq!(told(Request, &[gone]), [("NotOnLink".to_owned(), 0, 0)]);
        assert_eq!(
            told(Renew, &["fd77:0:0:a::77", here]),
            [own.clone(), taken(here)]
        );
        assert_eq!(told(Rebind, &[gone]), [own, taken(gone)]);
    }

    #[test]
    fn rfc8415_18_3_3_confirm() {
        for (held, expected) in [
            (&["fd77:0:0:a::5"][..], Some(Status::Success)),
            (&["fd77:0:0:a::5", "fd78::5"], Some(Status::NotOnLink)),
            (&[], None),
        ] {
            let asked = message(MessageType::Confirm, (true, None), &[set(held)]);
            assert_eq!(confirm(prefix(), &asked), expected, "{held:?}");
        }
    }

    #[test]
    fn rfc8415_16_ids_that_must_and_must_not_be_there() {
        use MessageType::*;
        let (ours, other): (&[u8], &[u8]) = (&[0, 4, 9], &[0, 4, 8]);
        for (kind, ids, expected) in [
            (Solicit, (true, None), true),
            (Solicit, (false, None), false),
            (Solicit, (true, Some(ours)), false),
            (Request, (true, Some(ours)), true),
            (Request, (true, Some(other)), false),
            (Request, (true, None), false),
            (Rebind, (true, Some(ours)), false),
            (Release, (true, Some(ours)), true),
            (InformationRequest, (false, None), true),
            (InformationRequest, (false, Some(other)), false),
            (Advertise, (true, Some(ours)), false),
            (Reply, (true, None), false),
        ] {
            let asked = message(kind, ids, &[]);
            assert_eq!(is_valid(&asked, ours), expected, "{kind:?} {ids:?}");
        }
        let stateful = message(InformationRequest, (true, None), &[set(&[])]);
        assert!(!is_valid(&stateful, ours));
    }

    #[test]
    fn an_address_without_a_card_has_no_owner() {
        for digest in [0, 1, u64::MAX, 0x5254_0012_3477_0015] {
            assert_eq!(prefix().owner(prefix().address(None, digest)), None);
        }
        assert_eq!(prefix().owner("fd78::5254:77:15".parse().unwrap()), None);
    }
}
