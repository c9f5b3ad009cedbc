//! DHCPv6: messages, relays and replies.

use farrier_proto::reply::dhcpv6::{Answer, BootUrl, IaAnswer, Status, reply};
use farrier_proto::wire::dhcpv6::{MessageType, Packet};
use farrier_proto::wire::dhcpv6_option::{Duid, IaAddress};

/// What is decoded and written again reads the same; a reply has what it must and goes back through the
/// same relays.
pub fn dhcpv6_decode(bytes: &[u8]) {
    let Ok(mut packet) = Packet::decode(bytes) else {
        return;
    };
    packet.message.cut_off = false;
    assert_eq!(
        Packet::decode(&packet.encode_forward()).as_ref(),
        Ok(&packet)
    );
    let _ = (packet.link(), packet.client_mac([0xfe; 16].into()));
    let request = &packet.message;
    let _ = (
        request.client_id().and_then(Duid::mac),
        request.user_classes(),
    );
    let ias = request.ia_nas().map(|ia| {
        let lent = ia.addresses().next().map(|address| IaAddress {
            preferred: 100,
            ..address
        });
        let answer = lent.map_or(IaAnswer::Refused(Status::NoAddrsAvail), |address| {
            IaAnswer::Addresses(vec![address])
        });
        (ia.iaid, answer)
    });
    let answer = Answer {
        kind: MessageType::Reply,
        server_id: &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1],
        ias: ias.collect(),
        dns: &[[0xfd; 16].into()],
        boot: request.wants_boot_file().then(|| BootUrl {
            url: "tftp://[fd00::1]/x".to_owned(),
            parameters: Vec::new(),
        }),
        status: None,
    };
    let built = reply(request, &answer);
    assert_eq!(
        (built.xid, built.client_id()),
        (request.xid, request.client_id())
    );
    assert_eq!(built.server_id(), Some(answer.server_id));
    assert_eq!(built.ia_nas().count(), answer.ias.len());
    packet.message = built;
    let sent = packet.encode_reply();
    let shorter = sent.len() > usize::from(u16::MAX);
    assert!(shorter || Packet::decode(&sent).as_ref() == Ok(&packet));
}
