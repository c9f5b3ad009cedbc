use super::*;
use crate::wire::option;

fn discover() -> Message {
    let mut message = Message::request(Xid(0x0102_0304), MacAddr([2, 0, 0, 0, 0, 1]));
    message.options.set(option::DHCP_MESSAGE_TYPE, [1]);
    message
}

/// A message of `len` bytes with `edits` over zeros; op, cookie and hardware are as usual.
fn raw(len: usize, edits: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[236..240].copy_from_slice(&MAGIC_COOKIE);
    for (at, value) in edits {
        bytes[*at..at + value.len()].copy_from_slice(value);
    }
    bytes
}

#[test]
fn rfc2131_2_header_fields_lie_where_figure_1_says() {
    let mut message = discover();
    message.hops = 3;
    message.secs = 0x0506;
    message.flags = BROADCAST;
    message.ciaddr = Ipv4Addr::new(10, 0, 0, 1);
    message.yiaddr = Ipv4Addr::new(10, 0, 0, 2);
    message.siaddr = Ipv4Addr::new(10, 0, 0, 3);
    message.giaddr = Ipv4Addr::new(10, 0, 0, 4);
    message.sname = b"server".to_vec();
    message.file = b"file".to_vec();
    let bytes = message.encode();
    let expected: [(usize, &[u8]); 9] = [
        (0, &[1, 1, 6, 3, 1, 2, 3, 4, 5, 6, 0x80, 0]),
        (12, &[10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3, 10, 0, 0, 4]),
        (28, &[2, 0, 0, 0, 0, 1, 0]),
        (44, b"server\0"),
        (108, b"file\0"),
        (236, &[99, 130, 83, 99]),
        (240, &[53, 1, 1, 255]),
        (244, &[0; 56]),
        (300, &[]),
    ];
    for (at, value) in expected {
        assert_eq!(&bytes[at..at + value.len()], value, "at {at}");
    }
    assert_eq!(bytes.len(), 300);
    assert_eq!(Message::decode(&bytes), Ok(message));
}

#[test]
fn only_a_damaged_fixed_header_is_an_error() {
    for (bytes, what, found) in [
        (vec![], "BOOTP header", 0),
        (raw(300, &[])[..235].to_vec(), "BOOTP header", 235),
        (raw(300, &[(0, &[3])]), "op", 3),
    ] {
        let error = Message::decode(&bytes).unwrap_err();
        assert_eq!((error.what, error.found), (what, found));
    }
    let error = Message::decode(&[]).unwrap_err().to_string();
    assert_eq!(error, "BOOTP header at byte 0: expected 236 bytes, found 0");
}

#[test]
fn damaged_options_are_noted_and_the_rest_is_read() {
    let rows: [(&[u8], &[Oddity]); 6] = [
        (&[53, 1, 1, 255], &[]),
        (
            &[53, 1, 1, 60, 200, 1],
            &[Oddity::OptionTruncated {
                code: 60,
                offset: 243,
            }],
        ),
        (&[53, 1, 1], &[Oddity::NoEnd]),
        (
            &[53, 1, 1, 50, 2, 9, 9, 255],
            &[Oddity::OptionLength {
                code: 50,
                length: 2,
            }],
        ),
        (
            &[53, 1, 1, 52, 1, 9, 255],
            &[Oddity::OverloadInvalid { value: 9 }],
        ),
        (
            &[53, 2, 1, 1, 255],
            &[Oddity::OptionLength {
                code: 53,
                length: 2,
            }],
        ),
    ];
    for (options, oddities) in rows {
        let bytes = raw(240 + options.len(), &[(240, options)]);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(
            message.message_type(),
            Some(MessageType::Discover),
            "{options:?}"
        );
        assert_eq!(message.oddities, oddities, "{options:?}");
    }
    let message = Message::decode(&raw(300, &[(2, &[17]), (236, &[1, 2, 3, 4])])).unwrap();
    assert_eq!(
        message.oddities,
        [Oddity::HardwareLength { hlen: 17 }, Oddity::CookieUnknown]
    );
    assert!(message.mac().is_none() && !message.cookie && message.options.is_empty());
}

#[test]
fn t9_oddities_are_bounded() {
    let mut options = Vec::new();
    for code in [1, 2, 13, 26, 28, 50, 51, 54, 57, 58, 59] {
        options.extend([code, 1, 0]);
    }
    let message = Message::decode(&raw(240 + options.len(), &[(240, &options)])).unwrap();
    assert_eq!(message.oddities.len(), MAX_ODDITIES);
}

#[test]
fn rfc2131_4_1_overload_spills_into_file_then_sname() {
    let rows: [(u8, &[u8], &[u8]); 3] = [(1, b"", b"sn"), (2, b"fi", b""), (3, b"", b"")];
    for (overload, file, sname) in rows {
        let mut bytes = raw(300, &[(240, &[52, 1, overload, 12, 1, b'a', 255])]);
        let in_file: &[u8] = if overload & 1 == 0 {
            b"fi"
        } else {
            &[12, 1, b'b', 255]
        };
        let in_sname: &[u8] = if overload & 2 == 0 {
            b"sn"
        } else {
            &[12, 1, b'c', 255]
        };
        bytes[108..108 + in_file.len()].copy_from_slice(in_file);
        bytes[44..44 + in_sname.len()].copy_from_slice(in_sname);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(
            (&message.file[..], &message.sname[..]),
            (file, sname),
            "overload {overload}"
        );
        let expected: &[u8] = match overload {
            1 => b"ab",
            2 => b"ac",
            _ => b"abc",
        };
        assert_eq!(
            message.host_name(),
            Some(expected),
            "RFC 3396 section 5, overload {overload}"
        );
        assert!(!message.options.contains(option::OPTION_OVERLOAD));
        assert_eq!(message.oddities, []);
    }
}

#[test]
fn rfc951_without_the_cookie_there_are_no_options() {
    let message = Message::decode(&raw(300, &[(236, &[0; 4])])).unwrap();
    assert!(!message.cookie && message.is_bootp() && message.oddities.is_empty());
    assert_eq!(message.encode(), raw(300, &[(236, &[0; 4])]));
    // 236 bytes is all RFC 951 asks for before the vendor area.
    assert!(Message::decode(&raw(300, &[])[..236]).is_ok());
}

#[test]
fn an_unknown_message_type_is_not_bootp() {
    let mut message = discover();
    message.options.set(option::DHCP_MESSAGE_TYPE, [10]);
    assert_eq!(message.message_type(), None);
    assert!(!message.is_bootp());
}

#[test]
fn reply_limit_honours_option_57_within_reason() {
    let rows = [
        (None, 548),
        (Some(0), 548),
        (Some(300), 548),
        (Some(576), 548),
        (Some(1472), 1444),
        (Some(1500), 1472),
        (Some(65280), 1472),
    ];
    for (size, limit) in rows {
        let mut message = discover();
        if let Some(size) = size {
            message
                .options
                .set(option::MAXIMUM_DHCP_MESSAGE_SIZE, u16::to_be_bytes(size));
        }
        assert_eq!(message.reply_limit(), limit, "{size:?}");
    }
}

#[test]
fn values_too_short_count_as_absent() {
    let mut message = discover();
    for code in [50, 51, 54, 57, 94] {
        message.options.set(code, [1]);
    }
    message.options.set(53, []);
    assert_eq!(message.requested_address(), None);
    assert_eq!(message.lease_time(), None);
    assert_eq!(message.server_identifier(), None);
    assert_eq!(message.max_message_size(), None);
    assert_eq!(message.client_network_interface(), None);
    assert_eq!(message.message_type(), None);
}

#[test]
fn fields_too_long_are_cut_and_nothing_moves() {
    let mut message = discover();
    message.sname = vec![b's'; 100];
    message.file = vec![b'f'; 200];
    let decoded = Message::decode(&message.encode()).unwrap();
    assert_eq!((decoded.sname.len(), decoded.file.len()), (64, 128));
    assert_eq!(decoded.message_type(), Some(MessageType::Discover));
}
