//! What firmware asks by DHCP.

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Xid};
use farrier_proto::wire::option;

/// Options 60 and 93.
pub type Firmware = (&'static str, u16);

pub const BIOS: Firmware = ("PXEClient:Arch:00000:UNDI:002001", 0);
pub const UEFI: Firmware = ("PXEClient:Arch:00007:UNDI:003016", 7);

pub fn question(kind: MessageType, mac: MacAddr, (class, arch): Firmware) -> Message {
    let mut message = Message::request(Xid(7), mac);
    let options = &mut message.options;
    options.set(option::DHCP_MESSAGE_TYPE, [kind as u8]);
    options.set(option::VENDOR_CLASS_IDENTIFIER, class.as_bytes());
    options.set(option::CLIENT_SYSTEM_ARCHITECTURE, arch.to_be_bytes());
    message
}
