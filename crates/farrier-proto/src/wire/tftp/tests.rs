use super::*;

fn options(blksize: u16, tsize: u64, timeout: u8, windowsize: u16) -> TransferOptions {
    TransferOptions {
        blksize: (blksize > 0).then_some(blksize),
        tsize: (tsize < u64::MAX).then_some(tsize),
        timeout: (timeout > 0).then_some(timeout),
        windowsize: (windowsize > 0).then_some(windowsize),
        multicast: None,
    }
}

#[test]
fn rfc2347_requests_as_clients_write_them() {
    const NONE: u64 = u64::MAX;
    let rows: [(&[u8], &[u8], Mode, TransferOptions); 9] = [
        (b"x\0octet\0", b"x", Mode::Octet, options(0, NONE, 0, 0)),
        (b"x\0octet", b"x", Mode::Octet, options(0, NONE, 0, 0)),
        (
            b"x\0NetASCII\0",
            b"x",
            Mode::Netascii,
            options(0, NONE, 0, 0),
        ),
        (
            b"x\0mail\0",
            b"x",
            Mode::Unsupported,
            options(0, NONE, 0, 0),
        ),
        (b"x", b"x", Mode::Unsupported, options(0, NONE, 0, 0)),
        (
            b"x\0OCTET\0TSIZE\x000\0BlkSize\x001468\0windowsize\x004\0",
            b"x",
            Mode::Octet,
            options(1468, 0, 0, 4),
        ),
        (
            b"x\0octet\0timeout\x005\0blksize\x001468",
            b"x",
            Mode::Octet,
            options(1468, NONE, 5, 0),
        ),
        (
            b"x\0octet\0blksize\x007\0timeout\x000\0windowsize\x000\0tsize\0-1\0",
            b"x",
            Mode::Octet,
            options(0, NONE, 0, 0),
        ),
        (
            b"x\0octet\0multicast\0\0blksize\x00512\0odd\0",
            b"x",
            Mode::Octet,
            TransferOptions {
                multicast: Some(Multicast::Asked),
                ..options(512, NONE, 0, 0)
            },
        ),
    ];
    for (body, name, mode, options) in rows {
        let mut bytes = vec![0, 1];
        bytes.extend_from_slice(body);
        let expected = ReadRequest {
            name: name.to_vec(),
            mode,
            options,
        };
        assert_eq!(
            Packet::decode(&bytes),
            Ok(Packet::ReadRequest(expected)),
            "{}",
            body.escape_ascii()
        );
    }
}

#[test]
fn rfc1350_packets_survive() {
    let request = ReadRequest {
        name: b"a/b".to_vec(),
        mode: Mode::Octet,
        options: options(8, 0, 255, 1),
    };
    for packet in [
        Packet::ReadRequest(request.clone()),
        Packet::WriteRequest(request),
        Packet::Data {
            block: 65535,
            data: b"",
        },
        Packet::Data {
            block: 1,
            data: &[0; 600],
        },
        Packet::Ack { block: 0 },
        Packet::Error {
            code: ErrorCode::OPTION_REFUSED,
            text: b"User aborted",
        },
        Packet::OptionAck(options(65464, u64::MAX - 1, 0, 65535)),
    ] {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
}

#[test]
fn rfc2090_what_the_oack_says_of_the_group() {
    let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 67, 1), 1758);
    let joined = |group, master| Some(Multicast::Joined { group, master });
    for (value, expected) in [
        ("", Some(Multicast::Asked)),
        ("239.255.67.1,1758,1", joined(Some(group), true)),
        ("239.255.67.1,1758,0", joined(Some(group), false)),
        (",,1", joined(None, true)),
        ("10.0.0.1,1758,1", None),
        ("239.255.67.1,65536,1", None),
        ("239.255.67.1,1758,2", None),
        ("239.255.67.1", None),
    ] {
        let bytes = [b"\0\x06Multicast\0", value.as_bytes(), b"\0"].concat();
        let Ok(Packet::OptionAck(options)) = Packet::decode(&bytes) else {
            panic!("{value}");
        };
        assert_eq!(options.multicast, expected, "{value}");
        let again = Packet::OptionAck(options).encode();
        let written = if expected.is_some() { value } else { continue };
        let expected = [b"\0\x06multicast\0", written.as_bytes(), b"\0"].concat();
        assert_eq!(again, expected, "{value}");
    }
}

#[test]
fn short_packets_say_where() {
    for (bytes, what, offset) in [
        (&[][..], "opcode", 0),
        (&[0], "opcode", 0),
        (&[0, 4, 1], "block", 2),
        (&[0, 5], "error code", 2),
        (&[0, 9, 0], "opcode", 0),
    ] {
        let error = Packet::decode(bytes).unwrap_err();
        assert_eq!((error.what, error.offset), (what, offset), "{bytes:?}");
    }
}

#[test]
fn t7_names_are_cleaned_or_refused() {
    let rows: [(&[u8], Result<&str, NameError>); 16] = [
        (b"pxelinux.0", Ok("pxelinux.0")),
        (b"/pxelinux.0", Ok("pxelinux.0")),
        (b"//boot//x64/./wdsnbp.com", Ok("boot/x64/wdsnbp.com")),
        (b"\\Boot\\x64\\pxeboot.n12", Ok("Boot/x64/pxeboot.n12")),
        (b"ipxe.efi\xff", Ok("ipxe.efi")),
        (b"ipxe.efi\0junk", Ok("ipxe.efi")),
        (b"....//x", Ok("..../x")),
        (b"..", Err(NameError::ParentFolder)),
        (b"a/../../etc/passwd", Err(NameError::ParentFolder)),
        (b"a\\..\\b", Err(NameError::ParentFolder)),
        (b"/..\\", Err(NameError::ParentFolder)),
        (b"", Err(NameError::Empty)),
        (b"///", Err(NameError::Empty)),
        (b"\xff", Err(NameError::Empty)),
        (b"\xc3\x28", Err(NameError::NotText)),
        (&[b'x'; 513], Err(NameError::TooLong)),
    ];
    for (raw, expected) in rows {
        assert_eq!(
            clean_name(raw),
            expected.map(str::to_owned),
            "{}",
            raw.escape_ascii()
        );
    }
}
