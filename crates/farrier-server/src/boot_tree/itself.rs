//! iPXE that asks for itself.
//!
//! Many DHCP servers can name one boot file and no more (options 66 and 67). They name iPXE to firmware, and to iPXE,
//! which on BIOS knows nothing better and loads itself for ever. What it gets the second time is its first script:
//! it looks at what it loads, not at the name.

use farrier_engine::catalogue::LoaderKind;
use farrier_engine::facts::without_board_folder;
use farrier_engine::script;
use farrier_proto::wire::tftp::TransferOptions;

use super::{Asker, BootTree, SCRIPT, Served, find, scripts};
use crate::core::now;

impl BootTree {
    /// The first script, if iPXE that this machine just loaded asks for iPXE by TFTP.
    pub fn instead_of_itself(
        &self,
        name: &str,
        asker: Asker,
        said: &TransferOptions,
    ) -> Option<Served> {
        if !is_ipxe(said) {
            return None;
        }
        let name = without_board_folder(name).unwrap_or(name);
        let parts: Vec<&str> = name.split('/').collect();
        let catalogue = self.core.loaders.catalogue();
        let asked = find(&catalogue, &parts)?;
        if !matches!(asked.kind, LoaderKind::Ipxe { .. }) {
            return None;
        }
        let loads = self
            .core
            .sightings
            .recent_loads(self.mac_of(asker.ip)?, now());
        (!loads.is_empty()).then(|| {
            scripts::text(
                "the first script, in place of the loader that asks for it",
                script::first(&self.first_urls(asker).url(SCRIPT)),
            )
        })
    }
}

/// iPXE's read requests have had these two options and this size since it was Etherboot. Boot ROMs ask for 1456 or
/// 1468 bytes and for the size in a request of its own, edk2 adds a window.
fn is_ipxe(said: &TransferOptions) -> bool {
    *said
        == TransferOptions {
            blksize: Some(1432),
            tsize: Some(0),
            ..TransferOptions::default()
        }
}

#[cfg(test)]
mod tests {
    use farrier_proto::wire::tftp::Packet;

    use super::is_ipxe;

    #[test]
    fn f1_ipxe_is_known_by_its_request() {
        for (request, expected) in [
            ("x|octet|blksize|1432|tsize|0|", true),
            ("x|octet|tsize|0|blksize|1468|windowsize|4|", false),
            ("x|octet|tsize|0|blksize|1456|", false),
            ("x|octet|blksize|1456|", false),
            ("x|octet|tsize|0|", false),
            ("x|octet|", false),
        ] {
            let packet = [&[0, 1], request.replace('|', "\0").as_bytes()].concat();
            let Ok(Packet::ReadRequest(request)) = Packet::decode(&packet) else {
                panic!("{request:?} is no read request");
            };
            assert_eq!(is_ipxe(&request.options), expected, "{request:?}");
        }
    }
}
