//! Reservations by every kind of evidence.

use uuid::Uuid;

use super::tests::{at, client, ip, lend, offered, subnet};
use super::*;

fn port(circuit: Option<&[u8]>, remote: Option<&[u8]>) -> Holder {
    Holder::Port {
        circuit_id: circuit.map(<[u8]>::to_vec),
        remote_id: remote.map(<[u8]>::to_vec),
    }
}

fn reserve(rows: &[(u8, Holder)]) -> Result<LeaseBook, SubnetError> {
    let reservation = |(last, holder): &(u8, Holder)| Reservation {
        ip: ip(*last),
        holder: holder.clone(),
    };
    LeaseBook::new(vec![Subnet {
        reservations: rows.iter().map(reservation).collect(),
        ..subnet(10, 12)
    }])
}

#[test]
fn t6_whatever_names_a_machine_keeps_its_address_and_the_nearest_counts() {
    let uuid = Uuid::from_u128(7);
    let rows = [
        (201, Holder::Mac(tests::mac(1))),
        (202, Holder::Uuid(uuid)),
        (203, Holder::ClientId(b"\x00press".to_vec())),
        (204, port(Some(b"ge-1"), Some(b"sw1"))),
        (205, port(Some(b"ge-1"), None)),
        (206, port(None, Some(b"sw1"))),
    ];
    // From who says most to who says least: what is nearest to the machine wins each time.
    let whole = Client {
        uuid: Some(uuid),
        client_id: Some(b"\x00press".to_vec()),
        circuit_id: Some(b"ge-1".to_vec()),
        remote_id: Some(b"sw1".to_vec()),
        ..client(1)
    };
    let mut says = vec![whole.clone()];
    says.push(Client {
        mac: tests::mac(2),
        ..whole.clone()
    });
    says.push(Client {
        uuid: None,
        ..says[1].clone()
    });
    says.push(Client {
        client_id: None,
        ..says[2].clone()
    });
    says.push(Client {
        remote_id: Some(b"sw2".to_vec()),
        ..says[3].clone()
    });
    says.push(Client {
        circuit_id: None,
        remote_id: Some(b"sw1".to_vec()),
        ..says[3].clone()
    });
    says.push(Client {
        remote_id: None,
        ..says[5].clone()
    });
    for (client, last) in says.iter().zip([201, 202, 203, 204, 205, 206, 10]) {
        let mut book = reserve(&rows).unwrap();
        assert_eq!(lend(&mut book, at(0), client).ip, ip(last), "{client:?}");
    }
}

#[test]
fn t6_a_second_machine_on_the_same_port_gets_one_of_the_range() {
    let mut book = reserve(&[(204, port(Some(b"ge-1"), None))]).unwrap();
    let plugged = |last| Client {
        circuit_id: Some(b"ge-1".to_vec()),
        ..client(last)
    };
    assert_eq!(lend(&mut book, at(0), &plugged(1)).ip, ip(204));
    assert_eq!(offered(&mut book, at(1), &plugged(2)), Ok(ip(10)));
    book.release(at(2), tests::mac(1), ip(204)).unwrap();
    assert_eq!(offered(&mut book, at(3), &plugged(3)), Ok(ip(204)));
}

#[test]
fn conflicting_reservations_are_refused() {
    let id = || Holder::ClientId(vec![1, 2]);
    let rows = [
        vec![(201, id()), (202, id())],
        vec![(201, port(Some(b"a"), None)), (202, port(Some(b"a"), None))],
        vec![(201, id()), (201, port(None, Some(b"a")))],
    ];
    for rows in rows {
        assert!(reserve(&rows).is_err(), "{rows:?}");
    }
    assert!(reserve(&[(201, port(Some(b"a"), None)), (202, port(None, Some(b"a")))]).is_ok());
    assert!(
        !port(None, None).is(&client(1)),
        "a port that is not named is nobody's"
    );
}
