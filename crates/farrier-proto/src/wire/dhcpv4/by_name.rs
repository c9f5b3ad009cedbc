//! Options read as what they mean. A value that is too long is read by its first bytes; one that is too short counts as
//! absent.

use std::net::Ipv4Addr;

use super::{Message, MessageType};
use crate::wire::option;
use crate::wire::option_value::{
    ClientMachineIdentifier, ClientNetworkInterface, IpxeEncapsulated, RelayAgentInformation,
    UserClass, VendorClass, address,
};

impl Message {
    /// Option 53. None for BOOTP and for types a boot server has no use for; see [`Self::is_bootp`].
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::from_number(*self.options.get(option::DHCP_MESSAGE_TYPE)?.first()?)
    }

    /// Option 12.
    #[must_use]
    pub fn host_name(&self) -> Option<&[u8]> {
        self.options.get(option::HOST_NAME)
    }

    /// Option 50.
    #[must_use]
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        address(self.options.get(option::REQUESTED_IP_ADDRESS)?)
    }

    /// Option 51, in seconds.
    #[must_use]
    pub fn lease_time(&self) -> Option<u32> {
        self.options
            .get(option::IP_ADDRESS_LEASE_TIME)?
            .first_chunk()
            .copied()
            .map(u32::from_be_bytes)
    }

    /// Option 54.
    #[must_use]
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        address(self.options.get(option::SERVER_IDENTIFIER)?)
    }

    /// Option 55; empty when absent.
    #[must_use]
    pub fn parameter_request_list(&self) -> &[u8] {
        self.options
            .get(option::PARAMETER_REQUEST_LIST)
            .unwrap_or_default()
    }

    /// Option 57.
    #[must_use]
    pub fn max_message_size(&self) -> Option<u16> {
        let value = self.options.get(option::MAXIMUM_DHCP_MESSAGE_SIZE)?;
        value.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// Option 60.
    #[must_use]
    pub fn vendor_class(&self) -> Option<VendorClass<'_>> {
        self.options
            .get(option::VENDOR_CLASS_IDENTIFIER)
            .map(VendorClass)
    }

    /// Option 61.
    #[must_use]
    pub fn client_identifier(&self) -> Option<&[u8]> {
        self.options.get(option::CLIENT_IDENTIFIER)
    }

    /// Option 77.
    #[must_use]
    pub fn user_class(&self) -> Option<UserClass<'_>> {
        self.options.get(option::USER_CLASS).map(UserClass)
    }

    /// Option 82.
    #[must_use]
    pub fn relay_agent_information(&self) -> Option<RelayAgentInformation<'_>> {
        self.options
            .get(option::RELAY_AGENT_INFORMATION)
            .map(RelayAgentInformation)
    }

    /// Option 93: every architecture listed, in order; empty when absent.
    #[must_use]
    pub fn client_system_architecture(&self) -> Vec<u16> {
        let value = self
            .options
            .get(option::CLIENT_SYSTEM_ARCHITECTURE)
            .unwrap_or_default();
        value
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }

    /// Option 94.
    #[must_use]
    pub fn client_network_interface(&self) -> Option<ClientNetworkInterface> {
        let [kind, major, minor] = *self
            .options
            .get(option::CLIENT_NETWORK_INTERFACE)?
            .first_chunk()?;
        Some(ClientNetworkInterface { kind, major, minor })
    }

    /// Option 97.
    #[must_use]
    pub fn client_machine_identifier(&self) -> Option<ClientMachineIdentifier<'_>> {
        self.options
            .get(option::CLIENT_MACHINE_IDENTIFIER)
            .map(ClientMachineIdentifier)
    }

    /// Option 175, sent by iPXE and gPXE only.
    #[must_use]
    pub fn ipxe_encapsulated(&self) -> Option<IpxeEncapsulated<'_>> {
        self.options
            .get(option::IPXE_ENCAPSULATED)
            .map(IpxeEncapsulated)
    }
}
