//! DHCP options that people set: in layers, of which the most specific one that names an option counts.
//!
//! A set is put together once, when the configuration is read; for a packet its layers are only looked at.

use std::fmt;

use farrier_proto::wire::dhcpv4::Message;
use farrier_proto::wire::option;
use farrier_proto::wire::text::render_value;

/// Where an option was set. Later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Site,
    SharedNetwork(String),
    Subnet,
    Class(String),
    Reservation,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site => f.write_str("all networks"),
            Self::SharedNetwork(name) => write!(f, "shared network {name}"),
            Self::Subnet => f.write_str("subnet"),
            Self::Class(name) => write!(f, "class {name}"),
            Self::Reservation => f.write_str("reservation"),
        }
    }
}

/// Who gets an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Always,
    /// Who names it in option 55, and who names nothing there.
    Asked,
    /// Nobody: what a wider layer sets does not hold here.
    Never,
}

/// One option with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub code: u8,
    pub value: Vec<u8>,
    pub sent: Sent,
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = option::key(self.code).unwrap_or("option");
        let value = render_value(self.code, &self.value);
        write!(f, "{name} ({}) = {value}, from {}", self.code, self.origin)
    }
}

/// The options of one layer, or of several put together. Each at most once, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionSet(Vec<Setting>);

impl OptionSet {
    /// Of two settings of one option the last one counts.
    #[must_use]
    pub fn new(settings: Vec<Setting>) -> Self {
        let mut set = Self::default();
        for setting in settings {
            set.put(setting);
        }
        set
    }

    /// This set, and from `wider` what it does not name.
    #[must_use]
    pub fn over(self, wider: &Self) -> Self {
        let mut set = wider.clone();
        for setting in self.0 {
            set.put(setting);
        }
        set
    }

    #[must_use]
    pub fn find(&self, code: u8) -> Option<&Setting> {
        let at = self.0.binary_search_by_key(&code, |s| s.code).ok()?;
        self.0.get(at)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    fn put(&mut self, setting: Setting) {
        match self.0.binary_search_by_key(&setting.code, |s| s.code) {
            Ok(at) => self.0[at] = setting,
            Err(at) => self.0.insert(at, setting),
        }
    }
}

/// What `request` is told out of `layers`, the most specific first: routers, name servers and domain, which
/// firmware takes for granted; then what it asks for, in its order (RFC 2132 section 9.8); then what is sent
/// always.
#[must_use]
pub fn select<'a>(layers: &[&'a OptionSet], request: &Message) -> Vec<(u8, &'a [u8])> {
    if layers.iter().all(|layer| layer.is_empty()) {
        return Vec::new();
    }
    let (mut chosen, mut seen) = (Vec::new(), [false; 256]);
    let asked = request.parameter_request_list();
    for &code in BY_CUSTOM.iter().chain(asked) {
        if !std::mem::replace(&mut seen[usize::from(code)], true)
            && let Some(setting) = find(layers, code)
            && setting.sent != Sent::Never
        {
            chosen.push((code, setting.value.as_slice()));
        }
    }
    for setting in layers.iter().flat_map(|layer| layer.iter()) {
        // The first layer that names it decides, so a wider one is not asked again.
        if std::mem::replace(&mut seen[usize::from(setting.code)], true) {
            continue;
        }
        if setting.sent == Sent::Always || (setting.sent == Sent::Asked && asked.is_empty()) {
            chosen.push((setting.code, setting.value.as_slice()));
        }
    }
    chosen
}

/// What holds in `layers`, the most specific first, each with its origin.
#[must_use]
pub fn effective<'a>(layers: &[&'a OptionSet]) -> Vec<&'a Setting> {
    let mut all: Vec<&Setting> = (0..=u8::MAX)
        .filter_map(|code| find(layers, code))
        .collect();
    all.retain(|setting| setting.sent != Sent::Never);
    all
}

/// Why an option cannot be set, and what can be done instead. `narrow`: for a class or a reservation, where one
/// knows that no firmware is meant.
#[must_use]
pub fn refusal(code: u8, narrow: bool) -> Option<&'static str> {
    Some(match code {
        option::PAD | option::END | option::OPTION_OVERLOAD => {
            "It belongs to the encoding of a message; leave it out."
        }
        option::SUBNET_MASK => "It follows from `network` of the subnet.",
        option::IP_ADDRESS_LEASE_TIME | option::RENEWAL_TIME | option::REBINDING_TIME => {
            "It follows from `lease_seconds` of the subnet."
        }
        option::SERVER_IDENTIFIER => "It is our address: set `address` of the interface.",
        option::DHCP_MESSAGE_TYPE | option::MESSAGE => {
            "Each reply says what it is by itself; leave it out."
        }
        option::VENDOR_SPECIFIC_INFORMATION if !narrow => {
            "Firmware reads PXE settings in it: set it in a [[class]] or a reservation of clients that do not boot."
        }
        option::TFTP_SERVER_NAME | option::BOOTFILE_NAME if !narrow => {
            "The policy says what machines boot (`farrier policy`); for telephones set it in a [[class]]."
        }
        option::VENDOR_CLASS_IDENTIFIER | option::IPXE_ENCAPSULATED => {
            "It is part of the boot answer: `farrier policy` says what machines boot."
        }
        option::REQUESTED_IP_ADDRESS
        | option::PARAMETER_REQUEST_LIST
        | option::MAXIMUM_DHCP_MESSAGE_SIZE
        | option::CLIENT_IDENTIFIER
        | option::USER_CLASS
        | option::FQDN
        | option::RELAY_AGENT_INFORMATION
        | option::CLIENT_LAST_TRANSACTION_TIME
        | option::ASSOCIATED_IP
        | option::CLIENT_SYSTEM_ARCHITECTURE
        | option::CLIENT_NETWORK_INTERFACE
        | option::CLIENT_MACHINE_IDENTIFIER
        | option::SUBNET_SELECTION => {
            "Clients and relays say it, a server repeats it at most; leave it out."
        }
        option::RAPID_COMMIT
        | option::AUTHENTICATION
        | option::FORCERENEW_NONCE_CAPABLE
        | option::STATUS_CODE => "Farrier does not speak this extension; leave it out.",
        _ => return None,
    })
}

fn find<'a>(layers: &[&'a OptionSet], code: u8) -> Option<&'a Setting> {
    layers.iter().find_map(|layer| layer.find(code))
}

const BY_CUSTOM: [u8; 3] = [
    option::ROUTER,
    option::DOMAIN_NAME_SERVER,
    option::DOMAIN_NAME,
];

#[cfg(test)]
mod tests {
    use farrier_proto::MacAddr;
    use farrier_proto::wire::dhcpv4::Xid;

    use super::*;

    fn set(origin: &Origin, rows: &[(u8, u8, Sent)]) -> OptionSet {
        let setting = |&(code, value, sent): &(u8, u8, Sent)| Setting {
            code,
            value: vec![value],
            sent,
            origin: origin.clone(),
        };
        OptionSet::new(rows.iter().map(setting).collect())
    }

    fn asking(codes: &[u8]) -> Message {
        let mut request = Message::request(Xid(1), MacAddr([2, 0, 0, 0, 0, 1]));
        if !codes.is_empty() {
            request.options.set(option::PARAMETER_REQUEST_LIST, codes);
        }
        request
    }

    fn told(layers: &[&OptionSet], asked: &[u8]) -> Vec<(u8, u8)> {
        let chosen = select(layers, &asking(asked));
        chosen
            .iter()
            .map(|(code, value)| (*code, value[0]))
            .collect()
    }

    #[test]
    fn rfc2132_9_8_the_client_s_order_after_what_firmware_takes_for_granted() {
        use Sent::{Always, Asked, Never};
        let site = set(
            &Origin::Site,
            &[
                (3, 1, Asked),
                (6, 1, Asked),
                (42, 1, Asked),
                (119, 1, Asked),
                (210, 1, Always),
            ],
        );
        let subnet = set(&Origin::Subnet, &[(3, 2, Asked), (119, 2, Never)]);
        let machine = set(&Origin::Reservation, &[(12, 3, Asked), (210, 3, Asked)]);
        let layers = [&machine, &subnet, &site];
        type Row<'a> = (&'a str, &'a [u8], &'a [(u8, u8)]);
        let rows: [Row<'_>; 4] = [
            (
                "in its order",
                &[42, 12, 1, 119],
                &[(3, 2), (6, 1), (42, 1), (12, 3)],
            ),
            ("twice is once", &[42, 42], &[(3, 2), (6, 1), (42, 1)]),
            ("nothing asked for", &[1], &[(3, 2), (6, 1)]),
            (
                "nobody said what it wants",
                &[],
                &[(3, 2), (6, 1), (12, 3), (210, 3), (42, 1)],
            ),
        ];
        for (name, asked, expected) in rows {
            assert_eq!(told(&layers, asked), expected, "{name}");
        }
        assert_eq!(
            told(&[&subnet, &site], &[1]),
            [(3, 2), (6, 1), (210, 1)],
            "always"
        );
        let merged = subnet.clone().over(&site);
        for asked in [&[119, 42, 210][..], &[]] {
            assert_eq!(told(&[&merged], asked), told(&[&subnet, &site], asked));
        }
        let origins: Vec<_> = effective(&layers)
            .iter()
            .map(|s| (s.code, s.origin.clone()))
            .collect();
        assert_eq!(
            origins,
            [
                (3, Origin::Subnet),
                (6, Origin::Site),
                (12, Origin::Reservation),
                (42, Origin::Site),
                (210, Origin::Reservation)
            ]
        );
    }

    #[test]
    fn what_replies_say_by_rule_cannot_be_set() {
        for code in [
            0, 1, 43, 50, 51, 52, 53, 54, 58, 59, 60, 61, 66, 67, 82, 97, 175, 255,
        ] {
            let refused = refusal(code, false);
            assert!(refused.is_some_and(|why| why.ends_with('.')), "{code}");
        }
        for code in [3, 6, 12, 15, 42, 119, 121, 150, 209, 224, 252] {
            assert_eq!(refusal(code, false), None, "{code}");
        }
        assert_eq!(refusal(43, true), None);
        assert_eq!(refusal(66, true), None);
    }
}
