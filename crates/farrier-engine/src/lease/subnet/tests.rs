use farrier_proto::MacAddr;

use super::*;

fn range(first: u8, last: u8) -> AddressRange {
    AddressRange {
        first: ip(first),
        last: ip(last),
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn reserved(last: u8) -> Reservation {
    Reservation {
        ip: ip(last),
        holder: Holder::Mac(MacAddr([2, 0, 0, 0, 0, last])),
    }
}

#[test]
fn the_pool_is_ranges_less_exclusions_and_reservations() {
    type Row = (
        &'static str,
        Vec<AddressRange>,
        Vec<AddressRange>,
        Vec<Reservation>,
        Vec<u8>,
    );
    let rows: [Row; 6] = [
        (
            "plain",
            vec![range(10, 12)],
            vec![],
            vec![],
            vec![10, 11, 12],
        ),
        (
            "hole in the middle",
            vec![range(10, 14)],
            vec![range(11, 12)],
            vec![],
            vec![10, 13, 14],
        ),
        (
            "hole at the ends",
            vec![range(10, 13)],
            vec![range(9, 10), range(13, 20)],
            vec![],
            vec![11, 12],
        ),
        (
            "reservation",
            vec![range(10, 12)],
            vec![],
            vec![reserved(11), reserved(99)],
            vec![10, 12],
        ),
        (
            "overlapping ranges",
            vec![range(11, 13), range(10, 12)],
            vec![],
            vec![],
            vec![10, 11, 12, 13],
        ),
        (
            "network and broadcast",
            vec![range(0, 2), range(254, 255)],
            vec![],
            vec![],
            vec![1, 2, 254],
        ),
    ];
    for (name, ranges, exclusions, reservations, expected) in rows {
        let subnet = Subnet {
            ranges,
            exclusions,
            reservations,
            ..Subnet::new(ip(0), 24)
        };
        subnet.check().unwrap();
        let mut pool = Pool::all_of(&subnet).pop().unwrap();
        assert_eq!(pool.size(), expected.len(), "{name}");
        for last in 0..=255 {
            assert_eq!(
                pool.contains(ip(last)),
                expected.contains(&last),
                "{name}: {last}"
            );
        }
        let mut lent = Vec::new();
        while let Some(ip) = pool.next_fresh() {
            lent.push(ip.octets()[3]);
        }
        assert_eq!(lent, expected, "{name}");
    }
}

#[test]
fn faults_are_told() {
    let good = || Subnet::new(ip(0), 24);
    let rows: [(&str, Subnet); 6] = [
        ("is not a network", Subnet::new(ip(1), 24)),
        ("is not a network", Subnet::new(ip(0), 31)),
        (
            "is not inside",
            Subnet {
                ranges: vec![range(9, 8)],
                ..good()
            },
        ),
        (
            "is reserved outside",
            Subnet {
                reservations: vec![reserved(255)],
                ..good()
            },
        ),
        (
            "is reserved twice",
            Subnet {
                reservations: vec![reserved(7), reserved(7)],
                ..good()
            },
        ),
        (
            "two reserved addresses",
            Subnet {
                reservations: vec![
                    reserved(7),
                    Reservation {
                        ip: ip(8),
                        ..reserved(7)
                    },
                ],
                ..good()
            },
        ),
    ];
    for (words, subnet) in rows {
        let error = subnet.check().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_huge_pool_costs_nothing() {
    let subnet = Subnet {
        ranges: vec![AddressRange {
            first: Ipv4Addr::new(10, 0, 0, 1),
            last: Ipv4Addr::new(10, 255, 255, 254),
        }],
        ..Subnet::new(ip(0), 8)
    };
    let mut pool = Pool::all_of(&subnet).pop().unwrap();
    assert_eq!(pool.size(), 16_777_214);
    assert_eq!(pool.next_fresh(), Some(ip(1)));
    assert_eq!(pool.spans.len(), 1);
}

#[test]
fn masks() {
    for (prefix, mask, broadcast) in [
        (8, [255, 0, 0, 0], [10, 255, 255, 255]),
        (24, [255, 255, 255, 0], [10, 0, 0, 255]),
        (30, [255, 255, 255, 252], [10, 0, 0, 3]),
    ] {
        let subnet = Subnet::new(ip(0), prefix);
        assert_eq!(subnet.mask(), Ipv4Addr::from(mask));
        assert_eq!(subnet.broadcast(), Ipv4Addr::from(broadcast));
    }
}
