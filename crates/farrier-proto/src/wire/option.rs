//! The registry of DHCP options: numbers, names as IANA and as configurations write them, and the form of their values.

use std::net::Ipv4Addr;

/// The form of an option's value, as far as its length and its rendering go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One IPv4 address.
    Address,
    /// One or more pairs of IPv4 addresses.
    AddressPairs,
    /// One or more IPv4 addresses.
    Addresses,
    /// Opaque bytes.
    Bytes,
    /// A list of option codes.
    Codes,
    /// A list of encapsulated options.
    Encapsulated,
    /// 0 or 1.
    Flag,
    I32,
    /// Domain names in the encoding of RFC 1035 (RFC 3397).
    Names,
    /// Destinations with their routers (RFC 3442).
    Routes,
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
            Self::Address | Self::I32 | Self::U32 => length == 4,
            Self::AddressPairs => length > 0 && length.is_multiple_of(2 * size_of::<Ipv4Addr>()),
            Self::Addresses => length > 0 && length.is_multiple_of(size_of::<Ipv4Addr>()),
            Self::Bytes | Self::Codes | Self::Encapsulated | Self::Text => true,
            Self::Names | Self::Routes => length > 0,
            Self::Flag | Self::U8 => length == 1,
            Self::U16 => length == 2,
            Self::U16s => length > 0 && length.is_multiple_of(2),
        }
    }
}

macro_rules! registry {
    ($($constant:ident = $code:literal, $name:literal, $key:literal, $form:ident;)*) => {
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

        /// What people call an option in a configuration, as Kea's and ISC's manuals do.
        #[must_use]
        pub fn key(code: u8) -> Option<&'static str> {
            match code {
                $($code => Some($key),)*
                _ => None,
            }
        }

        /// The number behind a [`key`].
        #[must_use]
        pub fn code_of(key: &str) -> Option<u8> {
            match key {
                $($key => Some($code),)*
                _ => None,
            }
        }

        /// The numbers of all options in the registry, in order.
        pub const REGISTERED: &[u8] = &[$($code),*];
    };
}

/// Fills a byte (RFC 2132 section 3.1). Has no length.
pub const PAD: u8 = 0;
/// Ends the options (RFC 2132 section 3.2). Has no length.
pub const END: u8 = 255;

registry! {
    SUBNET_MASK = 1, "SubnetMask", "subnet-mask", Address;
    TIME_OFFSET = 2, "TimeOffset", "time-offset", I32;
    ROUTER = 3, "Router", "routers", Addresses;
    TIME_SERVERS = 4, "TimeServers", "time-servers", Addresses;
    NAME_SERVERS = 5, "NameServers", "name-servers", Addresses;
    DOMAIN_NAME_SERVER = 6, "DomainNameServer", "domain-name-servers", Addresses;
    LOG_SERVERS = 7, "LogServers", "log-servers", Addresses;
    COOKIE_SERVERS = 8, "CookieServers", "cookie-servers", Addresses;
    LPR_SERVERS = 9, "LprServers", "lpr-servers", Addresses;
    IMPRESS_SERVERS = 10, "ImpressServers", "impress-servers", Addresses;
    RESOURCE_LOCATION_SERVERS = 11, "ResourceLocationServers", "resource-location-servers", Addresses;
    HOST_NAME = 12, "HostName", "host-name", Text;
    BOOT_FILE_SIZE = 13, "BootFileSize", "boot-size", U16;
    MERIT_DUMP = 14, "MeritDump", "merit-dump", Text;
    DOMAIN_NAME = 15, "DomainName", "domain-name", Text;
    SWAP_SERVER = 16, "SwapServer", "swap-server", Address;
    ROOT_PATH = 17, "RootPath", "root-path", Text;
    EXTENSIONS_PATH = 18, "ExtensionsPath", "extensions-path", Text;
    IP_FORWARDING = 19, "IpForwarding", "ip-forwarding", Flag;
    NON_LOCAL_SOURCE_ROUTING = 20, "NonLocalSourceRouting", "non-local-source-routing", Flag;
    POLICY_FILTER = 21, "PolicyFilter", "policy-filter", AddressPairs;
    MAX_DGRAM_REASSEMBLY = 22, "MaxDgramReassembly", "max-dgram-reassembly", U16;
    DEFAULT_IP_TTL = 23, "DefaultIpTtl", "default-ip-ttl", U8;
    PATH_MTU_AGING_TIMEOUT = 24, "PathMtuAgingTimeout", "path-mtu-aging-timeout", U32;
    PATH_MTU_PLATEAU_TABLE = 25, "PathMtuPlateauTable", "path-mtu-plateau-table", U16s;
    INTERFACE_MTU = 26, "InterfaceMtu", "interface-mtu", U16;
    ALL_SUBNETS_LOCAL = 27, "AllSubnetsLocal", "all-subnets-local", Flag;
    BROADCAST_ADDRESS = 28, "BroadcastAddress", "broadcast-address", Address;
    PERFORM_MASK_DISCOVERY = 29, "PerformMaskDiscovery", "perform-mask-discovery", Flag;
    MASK_SUPPLIER = 30, "MaskSupplier", "mask-supplier", Flag;
    ROUTER_DISCOVERY = 31, "RouterDiscovery", "router-discovery", Flag;
    ROUTER_SOLICITATION_ADDRESS = 32, "RouterSolicitationAddress", "router-solicitation-address", Address;
    STATIC_ROUTES = 33, "StaticRoutes", "static-routes", AddressPairs;
    TRAILER_ENCAPSULATION = 34, "TrailerEncapsulation", "trailer-encapsulation", Flag;
    ARP_CACHE_TIMEOUT = 35, "ArpCacheTimeout", "arp-cache-timeout", U32;
    IEEE802_3_ENCAPSULATION = 36, "Ieee8023Encapsulation", "ieee802-3-encapsulation", Flag;
    DEFAULT_TCP_TTL = 37, "DefaultTcpTtl", "default-tcp-ttl", U8;
    TCP_KEEPALIVE_INTERVAL = 38, "TcpKeepaliveInterval", "tcp-keepalive-interval", U32;
    TCP_KEEPALIVE_GARBAGE = 39, "TcpKeepaliveGarbage", "tcp-keepalive-garbage", Flag;
    NIS_DOMAIN = 40, "NisDomain", "nis-domain", Text;
    NIS_SERVERS = 41, "NisServers", "nis-servers", Addresses;
    NTP_SERVERS = 42, "NtpServers", "ntp-servers", Addresses;
    VENDOR_SPECIFIC_INFORMATION = 43, "VendorSpecificInformation", "vendor-encapsulated-options", Encapsulated;
    NETBIOS_NAME_SERVERS = 44, "NetbiosNameServers", "netbios-name-servers", Addresses;
    NETBIOS_DD_SERVER = 45, "NetbiosDdServer", "netbios-dd-server", Addresses;
    NETBIOS_NODE_TYPE = 46, "NetbiosNodeType", "netbios-node-type", U8;
    NETBIOS_SCOPE = 47, "NetbiosScope", "netbios-scope", Text;
    FONT_SERVERS = 48, "FontServers", "font-servers", Addresses;
    X_DISPLAY_MANAGERS = 49, "XDisplayManagers", "x-display-managers", Addresses;
    REQUESTED_IP_ADDRESS = 50, "RequestedIpAddress", "dhcp-requested-address", Address;
    IP_ADDRESS_LEASE_TIME = 51, "IpAddressLeaseTime", "dhcp-lease-time", U32;
    OPTION_OVERLOAD = 52, "OptionOverload", "dhcp-option-overload", U8;
    DHCP_MESSAGE_TYPE = 53, "DhcpMessageType", "dhcp-message-type", U8;
    SERVER_IDENTIFIER = 54, "ServerIdentifier", "dhcp-server-identifier", Address;
    PARAMETER_REQUEST_LIST = 55, "ParameterRequestList", "dhcp-parameter-request-list", Codes;
    MESSAGE = 56, "Message", "dhcp-message", Text;
    MAXIMUM_DHCP_MESSAGE_SIZE = 57, "MaximumDhcpMessageSize", "dhcp-max-message-size", U16;
    RENEWAL_TIME = 58, "RenewalTime", "dhcp-renewal-time", U32;
    REBINDING_TIME = 59, "RebindingTime", "dhcp-rebinding-time", U32;
    VENDOR_CLASS_IDENTIFIER = 60, "VendorClassIdentifier", "vendor-class-identifier", Text;
    CLIENT_IDENTIFIER = 61, "ClientIdentifier", "dhcp-client-identifier", Bytes;
    NWIP_DOMAIN_NAME = 62, "NwipDomainName", "nwip-domain-name", Text;
    NWIP_SUBOPTIONS = 63, "NwipSuboptions", "nwip-suboptions", Bytes;
    NISPLUS_DOMAIN_NAME = 64, "NisplusDomainName", "nisplus-domain-name", Text;
    NISPLUS_SERVERS = 65, "NisplusServers", "nisplus-servers", Addresses;
    TFTP_SERVER_NAME = 66, "TftpServerName", "tftp-server-name", Text;
    BOOTFILE_NAME = 67, "BootfileName", "boot-file-name", Text;
    MOBILE_IP_HOME_AGENT = 68, "MobileIpHomeAgent", "mobile-ip-home-agent", Addresses;
    SMTP_SERVER = 69, "SmtpServer", "smtp-server", Addresses;
    POP_SERVER = 70, "PopServer", "pop-server", Addresses;
    NNTP_SERVER = 71, "NntpServer", "nntp-server", Addresses;
    WWW_SERVER = 72, "WwwServer", "www-server", Addresses;
    FINGER_SERVER = 73, "FingerServer", "finger-server", Addresses;
    IRC_SERVER = 74, "IrcServer", "irc-server", Addresses;
    STREETTALK_SERVER = 75, "StreettalkServer", "streettalk-server", Addresses;
    STREETTALK_DIRECTORY_ASSISTANCE_SERVER = 76, "StreettalkDirectoryAssistanceServer", "streettalk-directory-assistance-server", Addresses;
    USER_CLASS = 77, "UserClass", "user-class", Text;
    SLP_DIRECTORY_AGENT = 78, "SlpDirectoryAgent", "slp-directory-agent", Bytes;
    SLP_SERVICE_SCOPE = 79, "SlpServiceScope", "slp-service-scope", Bytes;
    RAPID_COMMIT = 80, "RapidCommit", "rapid-commit", Bytes;
    FQDN = 81, "Fqdn", "fqdn", Bytes;
    RELAY_AGENT_INFORMATION = 82, "RelayAgentInformation", "dhcp-agent-options", Encapsulated;
    ISNS = 83, "Isns", "isns", Bytes;
    NDS_SERVERS = 85, "NdsServers", "nds-servers", Addresses;
    NDS_TREE_NAME = 86, "NdsTreeName", "nds-tree-name", Text;
    NDS_CONTEXT = 87, "NdsContext", "nds-context", Text;
    BCMS_CONTROLLER_NAMES = 88, "BcmsControllerNames", "bcms-controller-names", Names;
    BCMS_CONTROLLER_ADDRESS = 89, "BcmsControllerAddress", "bcms-controller-address", Addresses;
    AUTHENTICATION = 90, "Authentication", "authentication", Bytes;
    CLIENT_LAST_TRANSACTION_TIME = 91, "ClientLastTransactionTime", "client-last-transaction-time", U32;
    ASSOCIATED_IP = 92, "AssociatedIp", "associated-ip", Addresses;
    CLIENT_SYSTEM_ARCHITECTURE = 93, "ClientSystemArchitecture", "client-system", U16s;
    CLIENT_NETWORK_INTERFACE = 94, "ClientNetworkInterface", "client-ndi", Bytes;
    CLIENT_MACHINE_IDENTIFIER = 97, "ClientMachineIdentifier", "uuid-guid", Bytes;
    UAP_SERVERS = 98, "UapServers", "uap-servers", Text;
    GEOCONF_CIVIC = 99, "GeoconfCivic", "geoconf-civic", Bytes;
    PCODE = 100, "Pcode", "pcode", Text;
    TCODE = 101, "Tcode", "tcode", Text;
    IPV6_ONLY_PREFERRED = 108, "Ipv6OnlyPreferred", "v6-only-preferred", U32;
    NETINFO_SERVER_ADDRESS = 112, "NetinfoServerAddress", "netinfo-server-address", Addresses;
    NETINFO_SERVER_TAG = 113, "NetinfoServerTag", "netinfo-server-tag", Text;
    V4_CAPTIVE_PORTAL = 114, "V4CaptivePortal", "v4-captive-portal", Text;
    AUTO_CONFIG = 116, "AutoConfig", "auto-config", U8;
    NAME_SERVICE_SEARCH = 117, "NameServiceSearch", "name-service-search", U16s;
    SUBNET_SELECTION = 118, "SubnetSelection", "subnet-selection", Address;
    DOMAIN_SEARCH = 119, "DomainSearch", "domain-search", Names;
    SIP_SERVERS = 120, "SipServers", "sip-servers", Bytes;
    CLASSLESS_STATIC_ROUTE = 121, "ClasslessStaticRoute", "classless-static-route", Routes;
    CABLELABS_CLIENT_CONFIGURATION = 122, "CablelabsClientConfiguration", "cablelabs-client-configuration", Bytes;
    GEOCONF = 123, "Geoconf", "geoconf", Bytes;
    VIVCO_SUBOPTIONS = 124, "VivcoSuboptions", "vivco-suboptions", Bytes;
    VIVSO_SUBOPTIONS = 125, "VivsoSuboptions", "vivso-suboptions", Bytes;
    PANA_AGENT = 136, "PanaAgent", "pana-agent", Addresses;
    V4_LOST = 137, "V4Lost", "v4-lost", Names;
    CAPWAP_AC_V4 = 138, "CapwapAcV4", "capwap-ac-v4", Addresses;
    IPV4_ADDRESS_MOS = 139, "Ipv4AddressMos", "ipv4-address-mos", Bytes;
    IPV4_FQDN_MOS = 140, "Ipv4FqdnMos", "ipv4-fqdn-mos", Bytes;
    SIP_UA_CS_DOMAINS = 141, "SipUaCsDomains", "sip-ua-cs-domains", Names;
    IPV4_ADDRESS_ANDSF = 142, "Ipv4AddressAndsf", "ipv4-address-andsf", Addresses;
    V4_SZTP_REDIRECT = 143, "V4SztpRedirect", "v4-sztp-redirect", Bytes;
    GEOLOC = 144, "Geoloc", "geoloc", Bytes;
    FORCERENEW_NONCE_CAPABLE = 145, "ForcerenewNonceCapable", "forcerenew-nonce-capable", Bytes;
    RDNSS_SELECTION = 146, "RdnssSelection", "rdnss-selection", Bytes;
    V4_DOTS_RI = 147, "V4DotsRi", "v4-dots-ri", Names;
    V4_DOTS_ADDRESS = 148, "V4DotsAddress", "v4-dots-address", Addresses;
    TFTP_SERVER_ADDRESS = 150, "TftpServerAddress", "tftp-server-address", Addresses;
    STATUS_CODE = 151, "StatusCode", "status-code", Bytes;
    V4_PORTPARAMS = 159, "V4Portparams", "v4-portparams", Bytes;
    MUD_URL = 161, "MudUrl", "mud-url", Text;
    V4_DNR = 162, "V4Dnr", "v4-dnr", Bytes;
    IPXE_ENCAPSULATED = 175, "IpxeEncapsulated", "ipxe-encap-opts", Encapsulated;
    PXELINUX_MAGIC = 208, "PxelinuxMagic", "pxelinux-magic", Bytes;
    PXELINUX_CONFIGURATION_FILE = 209, "PxelinuxConfigurationFile", "configfile", Text;
    PXELINUX_PATH_PREFIX = 210, "PxelinuxPathPrefix", "pathprefix", Text;
    PXELINUX_REBOOT_TIME = 211, "PxelinuxRebootTime", "reboottime", U32;
    OPTION_6RD = 212, "Option6rd", "option-6rd", Bytes;
    V4_ACCESS_DOMAIN = 213, "V4AccessDomain", "v4-access-domain", Names;
    SUBNET_ALLOCATION = 220, "SubnetAllocation", "subnet-allocation", Bytes;
    VIRTUAL_SUBNET_SELECTION = 221, "VirtualSubnetSelection", "virtual-subnet-selection", Bytes;
    MS_CLASSLESS_STATIC_ROUTES = 249, "MsClasslessStaticRoutes", "ms-classless-static-routes", Routes;
    WPAD_URL = 252, "WpadUrl", "wpad-url", Text;
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
