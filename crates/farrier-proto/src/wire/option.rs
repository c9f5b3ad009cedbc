//! The registry of DHCP options: numbers, names as IANA writes them, and the form of their values.

use std::net::Ipv4Addr;

/// The form of an option's value, as far as its length and its rendering go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One IPv4 address.
    Address,
    /// One or more IPv4 addresses.
    Addresses,
    /// Opaque bytes.
    Bytes,
    /// A list of option codes.
    Codes,
    /// A list of encapsulated options.
    Encapsulated,
    /// ASCII by rule, anything in practice.
    Text,
    U8,
    U16,
    /// One or more 16-bit numbers.
    U16s,
    U32,
}

impl Form {
    /// Whether a value of `length` bytes can have this form.
    #[must_use]
    pub fn allows(self, length: usize) -> bool {
        match self {
            Self::Address | Self::U32 => length == 4,
            Self::Addresses => length > 0 && length.is_multiple_of(size_of::<Ipv4Addr>()),
            Self::Bytes | Self::Codes | Self::Encapsulated | Self::Text => true,
            Self::U8 => length == 1,
            Self::U16 => length == 2,
            Self::U16s => length > 0 && length.is_multiple_of(2),
        }
    }
}

macro_rules! registry {
    ($($constant:ident = $code:literal, $name:literal, $form:ident;)*) => {
        $(
            #[doc = concat!("Option ", stringify!($code), ", ", $name, ".")]
            pub const $constant: u8 = $code;
        )*

        /// The name of an option and the form of its value, if it is in the registry.
        #[must_use]
        pub fn describe(code: u8) -> Option<(&'static str, Form)> {
            match code {
                $($code => Some(($name, Form::$form)),)*
                _ => None,
            }
        }
    };
}

/// Fills a byte (RFC 2132 section 3.1). Has no length.
pub const PAD: u8 = 0;
/// Ends the options (RFC 2132 section 3.2). Has no length.
pub const END: u8 = 255;

registry! {
    SUBNET_MASK = 1, "SubnetMask", Address;
    TIME_OFFSET = 2, "TimeOffset", U32;
    ROUTER = 3, "Router", Addresses;
    DOMAIN_NAME_SERVER = 6, "DomainNameServer", Addresses;
    HOST_NAME = 12, "HostName", Text;
    BOOT_FILE_SIZE = 13, "BootFileSize", U16;
    DOMAIN_NAME = 15, "DomainName", Text;
    ROOT_PATH = 17, "RootPath", Text;
    INTERFACE_MTU = 26, "InterfaceMtu", U16;
    BROADCAST_ADDRESS = 28, "BroadcastAddress", Address;
    NTP_SERVERS = 42, "NtpServers", Addresses;
    VENDOR_SPECIFIC_INFORMATION = 43, "VendorSpecificInformation", Encapsulated;
    REQUESTED_IP_ADDRESS = 50, "RequestedIpAddress", Address;
    IP_ADDRESS_LEASE_TIME = 51, "IpAddressLeaseTime", U32;
    OPTION_OVERLOAD = 52, "OptionOverload", U8;
    DHCP_MESSAGE_TYPE = 53, "DhcpMessageType", U8;
    SERVER_IDENTIFIER = 54, "ServerIdentifier", Address;
    PARAMETER_REQUEST_LIST = 55, "ParameterRequestList", Codes;
    MESSAGE = 56, "Message", Text;
    MAXIMUM_DHCP_MESSAGE_SIZE = 57, "MaximumDhcpMessageSize", U16;
    RENEWAL_TIME = 58, "RenewalTime", U32;
    REBINDING_TIME = 59, "RebindingTime", U32;
    VENDOR_CLASS_IDENTIFIER = 60, "VendorClassIdentifier", Text;
    CLIENT_IDENTIFIER = 61, "ClientIdentifier", Bytes;
    TFTP_SERVER_NAME = 66, "TftpServerName", Text;
    BOOTFILE_NAME = 67, "BootfileName", Text;
    USER_CLASS = 77, "UserClass", Text;
    RELAY_AGENT_INFORMATION = 82, "RelayAgentInformation", Encapsulated;
    CLIENT_SYSTEM_ARCHITECTURE = 93, "ClientSystemArchitecture", U16s;
    CLIENT_NETWORK_INTERFACE = 94, "ClientNetworkInterface", Bytes;
    CLIENT_MACHINE_IDENTIFIER = 97, "ClientMachineIdentifier", Bytes;
    IPV6_ONLY_PREFERRED = 108, "Ipv6OnlyPreferred", U32;
    DOMAIN_SEARCH = 119, "DomainSearch", Bytes;
    CLASSLESS_STATIC_ROUTE = 121, "ClasslessStaticRoute", Bytes;
    TFTP_SERVER_ADDRESS = 150, "TftpServerAddress", Addresses;
    IPXE_ENCAPSULATED = 175, "IpxeEncapsulated", Encapsulated;
    PXELINUX_MAGIC = 208, "PxelinuxMagic", Bytes;
    PXELINUX_CONFIGURATION_FILE = 209, "PxelinuxConfigurationFile", Text;
    PXELINUX_PATH_PREFIX = 210, "PxelinuxPathPrefix", Text;
    PXELINUX_REBOOT_TIME = 211, "PxelinuxRebootTime", U32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc2132_forms_limit_lengths() {
        let rows = [
            (DHCP_MESSAGE_TYPE, 1, true),
            (DHCP_MESSAGE_TYPE, 2, false),
            (ROUTER, 0, false),
            (ROUTER, 8, true),
            (ROUTER, 7, false),
            (CLIENT_SYSTEM_ARCHITECTURE, 6, true),
            (CLIENT_SYSTEM_ARCHITECTURE, 3, false),
            (HOST_NAME, 0, true),
        ];
        for (code, length, allowed) in rows {
            let (name, form) = describe(code).unwrap();
            assert_eq!(form.allows(length), allowed, "{name} with {length} bytes");
        }
        assert_eq!(describe(200), None);
    }
}
