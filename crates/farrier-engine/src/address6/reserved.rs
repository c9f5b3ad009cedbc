//! IPv6 addresses that are kept for somebody.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use farrier_proto::MacAddr;
use uuid::Uuid;

/// Whom an IPv6 address is kept for. Where several fit a client, the first in this order counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder6 {
    /// As the relay says (RFC 6939), or the client's link-local address, or its DUID-LL or DUID-LLT.
    Mac(MacAddr),
    /// The SMBIOS UUID, which firmware has in its DUID-UUID.
    Uuid(Uuid),
    /// A whole DUID, type and all.
    Duid(Vec<u8>),
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client6<'a> {
    pub mac: Option<MacAddr>,
    pub uuid: Option<Uuid>,
    pub duid: &'a [u8],
}

/// The reservations of a network, found without a look at each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved6 {
    by_holder: HashMap<Holder6, Ipv6Addr>,
    holders: HashMap<Ipv6Addr, Holder6>,
}

/// What is kept already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptTwice {
    #[error("the address is kept for somebody already")]
    Address,
    #[error("another address is kept for the same client already")]
    Holder,
}

impl Reserved6 {
    /// Keeps one more.
    ///
    /// # Errors
    ///
    /// When the address or its holder has a reservation.
    pub fn keep(&mut self, address: Ipv6Addr, holder: Holder6) -> Result<(), KeptTwice> {
        if self.holders.contains_key(&address) {
            return Err(KeptTwice::Address);
        }
        if self.by_holder.contains_key(&holder) {
            return Err(KeptTwice::Holder);
        }
        self.by_holder.insert(holder.clone(), address);
        self.holders.insert(address, holder);
        Ok(())
    }

    /// What is kept for this client.
    #[must_use]
    pub fn address_for(&self, client: &Client6<'_>) -> Option<Ipv6Addr> {
        if self.by_holder.is_empty() {
            return None;
        }
        let evidence = [
            client.mac.map(Holder6::Mac),
            client.uuid.map(Holder6::Uuid),
            Some(Holder6::Duid(client.duid.to_vec())),
        ];
        let mut found = evidence.iter().flatten();
        found.find_map(|holder| self.by_holder.get(holder)).copied()
    }

    /// Whom this address is kept for.
    #[must_use]
    pub fn holder(&self, address: Ipv6Addr) -> Option<&Holder6> {
        self.holders.get(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x15]);

    fn address(last: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(0xfd77 << 112 | last)
    }

    #[test]
    fn an_address_is_found_by_what_is_closest_to_the_machine() {
        let (uuid, duid) = (Uuid::from_u128(7), vec![0, 2, 9, 9]);
        let mut kept = Reserved6::default();
        kept.keep(address(1), Holder6::Duid(duid.clone())).unwrap();
        kept.keep(address(2), Holder6::Uuid(uuid)).unwrap();
        kept.keep(address(3), Holder6::Mac(MAC)).unwrap();
        let mut client = Client6 {
            mac: Some(MAC),
            uuid: Some(uuid),
            duid: &duid,
        };
        assert_eq!(kept.address_for(&client), Some(address(3)));
        client.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!(kept.address_for(&client), Some(address(2)));
        client.uuid = None;
        assert_eq!(kept.address_for(&client), Some(address(1)));
        client.duid = &[0, 2, 9];
        assert_eq!(kept.address_for(&client), None);
        assert_eq!(kept.holder(address(3)), Some(&Holder6::Mac(MAC)));
        assert_eq!(kept.holder(address(4)), None);
    }

    #[test]
    fn nothing_is_kept_twice() {
        let mut kept = Reserved6::default();
        kept.keep(address(1), Holder6::Mac(MAC)).unwrap();
        let other = Holder6::Duid(vec![0, 2]);
        assert_eq!(kept.keep(address(1), other), Err(KeptTwice::Address));
        let twice = kept.keep(address(2), Holder6::Mac(MAC));
        assert_eq!(twice, Err(KeptTwice::Holder));
        assert_eq!(kept.holder(address(2)), None);
    }
}
