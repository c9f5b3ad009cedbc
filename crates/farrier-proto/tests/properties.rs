//! decode(encode(m)) = m for every message we can build; no bytes make a decoder panic; and another
//! decoder reads the same in what we write.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::Decodable as _;
use dhcproto::v4::{DhcpOption, OptionCode};
use farrier_proto::wire::dhcpv4::{Message, Op, Xid};
use farrier_proto::wire::pxe::{
    BootItem, BootMenuItem, BootServer, BootServerType, DiscoveryControl, MenuPrompt,
    PxeVendorOptions,
};
use farrier_proto::wire::tftp::{ErrorCode, Mode, Multicast, Packet, ReadRequest, TransferOptions};
use farrier_testkit::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn text(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8.., 0..=max)
}

prop_compose! {
    fn message()(
        op in prop_oneof![Just(Op::Request), Just(Op::Reply)],
        (htype, hlen, hops) in any::<(u8, u8, u8)>(),
        (xid, secs, flags) in any::<(u32, u16, u16)>(),
        addresses in [address(), address(), address(), address()],
        chaddr in any::<[u8; 16]>(),
        sname in text(64),
        file in text(128),
        options in vec((1_u8..255, vec(any::<u8>(), 0..600)), 0..12),
    ) -> Message {
        let [ciaddr, yiaddr, siaddr, giaddr] = addresses;
        Message {
            op, htype, hlen, hops, xid: Xid(xid), secs, flags, ciaddr, yiaddr, siaddr, giaddr,
            chaddr, sname, file, cookie: true, options: options.into_iter().collect(),
            oddities: Vec::new(),
        }
    }
}

prop_compose! {
    fn vendor_options()(
        control in proptest::option::of(any::<u8>()),
        servers in vec((any::<u16>(), vec(address(), 0..8)), 0..6),
        menu in vec((any::<u16>(), text(80)), 0..8),
        prompt in proptest::option::of((any::<u8>(), text(200))),
        item in proptest::option::of(any::<(u16, u16)>()),
        other in vec((11_u8..70, vec(any::<u8>(), 0..40)), 0..4),
    ) -> PxeVendorOptions {
        PxeVendorOptions {
            discovery_control: control.map(DiscoveryControl),
            boot_servers: servers.into_iter()
                .map(|(kind, addresses)| BootServer { kind: BootServerType(kind), addresses }).collect(),
            boot_menu: menu.into_iter()
                .map(|(kind, text)| BootMenuItem { kind: BootServerType(kind), text }).collect(),
            menu_prompt: prompt.map(|(timeout, text)| MenuPrompt { timeout, text }),
            boot_item: item.map(|(kind, layer)| BootItem { kind: BootServerType(kind), layer }),
            other,
            ..PxeVendorOptions::default()
        }
    }
}

prop_compose! {
    fn transfer_options()(
        blksize in proptest::option::of(8_u16..=65464),
        tsize in proptest::option::of(any::<u64>()),
        timeout in proptest::option::of(1_u8..),
        windowsize in proptest::option::of(1_u16..),
        multicast in proptest::option::of(proptest::option::of((any::<u32>(), any::<u16>(), any::<bool>()))),
    ) -> TransferOptions {
        let multicast = multicast.map(|joined| joined.map_or(Multicast::Asked, |(addr, port, master)| {
            let addr = Ipv4Addr::from(addr & 0x0fff_ffff | 0xe000_0000);
            let group = (port != 0).then(|| SocketAddrV4::new(addr, port));
            Multicast::Joined { group, master }
        }));
        TransferOptions { blksize, tsize, timeout, windowsize, multicast }
    }
}

proptest! {
    #[test]
    fn messages_survive(message in message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() >= 300);
        prop_assert_eq!(bytes.len(), message.encoded_len());
        let mut decoded = Message::decode(&bytes).unwrap();
        // Random values break the form of known options; that is noted and nothing else.
        decoded.oddities.clear();
        prop_assert_eq!(decoded, message);
    }

    #[test]
    fn option_43_survives(options in vendor_options()) {
        prop_assert_eq!(PxeVendorOptions::decode(&options.encode()), Ok(options));
    }

    #[test]
    fn tftp_survives(name in text(300), options in transfer_options(), block: u16, data in vec(any::<u8>(), 0..1500)) {
        let request = ReadRequest { name: name.clone(), mode: Mode::Octet, options };
        for packet in [
            Packet::ReadRequest(request),
            Packet::Data { block, data: &data },
            Packet::Ack { block },
            Packet::Error { code: ErrorCode(block), text: &name },
            Packet::OptionAck(options),
        ] {
            let bytes = packet.encode();
            prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
        }
    }

    #[test]
    fn t9_no_bytes_break_a_promise(bytes in vec(any::<u8>(), 0..900)) {
        for (_, body) in fuzz::TARGETS {
            body(&bytes);
        }
    }

    #[test]
    fn t9_no_truncation_breaks_a_promise(message in message(), cut in any::<prop::sample::Index>()) {
        let bytes = message.encode();
        let end = cut.index(bytes.len() + 1);
        fuzz::dhcpv4_decode(&bytes[..end]);
    }

    /// Well-formed messages mean the same to an independent decoder.
    #[test]
    fn dhcproto_reads_what_we_write(message in well_formed()) {
        let theirs = dhcproto::v4::Message::from_bytes(&message.encode()).unwrap();
        prop_assert_eq!(theirs.xid(), message.xid.0);
        prop_assert_eq!(theirs.secs(), message.secs);
        prop_assert_eq!(u16::from(theirs.flags()), message.flags);
        prop_assert_eq!(theirs.ciaddr(), message.ciaddr);
        prop_assert_eq!(theirs.yiaddr(), message.yiaddr);
        prop_assert_eq!(theirs.siaddr(), message.siaddr);
        prop_assert_eq!(theirs.giaddr(), message.giaddr);
        prop_assert_eq!(theirs.chaddr(), &message.chaddr[..6]);
        let file = theirs.fname().unwrap_or_default();
        prop_assert_eq!(file.strip_suffix(&[0]).unwrap_or(file), &message.file[..]);
        let opts = theirs.opts();
        let Some(DhcpOption::ClassIdentifier(class)) = opts.get(OptionCode::ClassIdentifier) else {
            panic!("option 60 is missing");
        };
        prop_assert_eq!(&class[..], message.vendor_class().unwrap().0);
        let Some(DhcpOption::ServerIdentifier(server)) = opts.get(OptionCode::ServerIdentifier) else {
            panic!("option 54 is missing");
        };
        prop_assert_eq!(Some(*server), message.server_identifier());
        let Some(DhcpOption::AddressLeaseTime(lease)) = opts.get(OptionCode::AddressLeaseTime) else {
            panic!("option 51 is missing");
        };
        prop_assert_eq!(Some(*lease), message.lease_time());
        let Some(DhcpOption::BootfileName(name)) = opts.get(OptionCode::BootfileName) else {
            panic!("option 67 is missing");
        };
        prop_assert_eq!(&name[..], message.options.get(67).unwrap());
    }

    /// And we read what an independent encoder writes.
    #[test]
    fn we_read_what_dhcproto_writes(xid: u32, server in address(), class in vec(any::<u8>(), 1..200), arch: u16, codes in vec(any::<u8>(), 1..60)) {
        use dhcproto::Encodable as _;
        let mut theirs = dhcproto::v4::Message::default();
        theirs.set_xid(xid).set_chaddr(&[2, 0, 0, 0, 0, 1]);
        let opts = theirs.opts_mut();
        opts.insert(DhcpOption::MessageType(dhcproto::v4::MessageType::Discover));
        opts.insert(DhcpOption::ServerIdentifier(server));
        opts.insert(DhcpOption::ClassIdentifier(class.clone()));
        opts.insert(DhcpOption::ClientSystemArchitecture(arch.into()));
        opts.insert(DhcpOption::ParameterRequestList(codes.iter().map(|&code| code.into()).collect()));
        let ours = Message::decode(&theirs.to_vec().unwrap()).unwrap();
        prop_assert_eq!(&ours.oddities, &[]);
        prop_assert_eq!(ours.xid, Xid(xid));
        prop_assert_eq!(ours.mac().unwrap().to_string(), "02:00:00:00:00:01");
        prop_assert_eq!(ours.server_identifier(), Some(server));
        prop_assert_eq!(ours.vendor_class().unwrap().0, &class[..]);
        prop_assert_eq!(ours.client_system_architecture(), [arch]);
        prop_assert_eq!(ours.parameter_request_list(), &codes[..]);
    }
}

prop_compose! {
    fn well_formed()(
        mut message in message(),
        server in address(),
        class in vec(any::<u8>(), 1..200),
        name in vec(any::<u8>(), 1..250),
        lease: u32,
    ) -> Message {
        message.htype = 1;
        message.hlen = 6;
        message.chaddr[6..].fill(0);
        // The other decoder wants the NUL that RFC 951 lets a full field lack.
        message.file.truncate(127);
        message.sname.truncate(63);
        message.options = Default::default();
        message.options.set(53, [2]);
        message.options.set(54, server.octets());
        message.options.set(51, lease.to_be_bytes());
        message.options.set(60, class);
        message.options.set(67, name);
        message
    }
}
