//! The DHCPv6 server's replies (RFC 8415 section 18.3), with the boot file of RFC 5970.

use std::net::Ipv6Addr;

use crate::wire::dhcpv6::{Message, MessageType};
use crate::wire::dhcpv6_option::{
    BOOT_FILE_PARAMETERS, BOOT_FILE_URL, CLIENT_ID, DNS_SERVERS, ENTERPRISE_INTEL, IA_ADDRESS,
    IA_NA, IA_PD, IA_TA, IaAddress, IaNa, Options, PREFERENCE, RAPID_COMMIT, SERVER_ID,
    STATUS_CODE, VENDOR_CLASS, encode_counted_texts,
};

/// RFC 8415 section 21.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    Success = 0,
    NoAddrsAvail = 2,
    NoBinding = 3,
    NotOnLink = 4,
    NoPrefixAvail = 6,
}

/// The answer to one set of addresses that the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IaAnswer {
    /// These, for so many seconds; T1 and T2 follow from it. A lifetime of zero takes one back.
    Addresses(Vec<IaAddress>),
    Refused(Status),
}

/// What to boot. The address of the server is in the URL, and must be literal: there is no siaddr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootUrl {
    pub url: String,
    /// Option 60 of RFC 5970; for an operating system, not for a loader.
    pub parameters: Vec<String>,
}

/// Everything that goes into a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub kind: MessageType,
    /// Our DUID.
    pub server_id: &'a [u8],
    /// One for each IA_NA of the request, by IAID.
    pub ias: Vec<(u32, IaAnswer)>,
    pub dns: &'a [Ipv6Addr],
    pub boot: Option<BootUrl>,
    /// For the message as a whole.
    pub status: Option<Status>,
}

/// Builds a reply. Temporary addresses and prefixes are refused by name, since a boot server has none.
#[must_use]
pub fn reply(request: &Message, answer: &Answer<'_>) -> Message {
    let mut options = Options::default();
    if let Some(client) = request.options.get(CLIENT_ID) {
        options.push(CLIENT_ID, client);
    }
    options.push(SERVER_ID, answer.server_id);
    for (iaid, ia) in &answer.ias {
        options.push(IA_NA, ia_na(*iaid, ia).encode());
    }
    if matches!(
        request.kind,
        MessageType::Solicit | MessageType::Request | MessageType::Renew | MessageType::Rebind
    ) {
        refuse_others(request, &mut options);
    }
    if let Some(status) = answer.status {
        options.push(STATUS_CODE, status_value(status));
    }
    match (request.kind, answer.kind) {
        // iPXE and edk2 wait for other offers unless told that there is no better one (section 18.2.1).
        (MessageType::Solicit, MessageType::Advertise) => options.push(PREFERENCE, [255]),
        (MessageType::Solicit, MessageType::Reply) => options.push(RAPID_COMMIT, []),
        _ => {}
    }
    if !answer.dns.is_empty() && request.requests(DNS_SERVERS) {
        let octets: Vec<u8> = answer.dns.iter().flat_map(Ipv6Addr::octets).collect();
        options.push(DNS_SERVERS, octets);
    }
    if let Some(boot) = &answer.boot {
        fill_boot(request, boot, &mut options);
    }
    Message {
        kind: answer.kind,
        xid: request.xid,
        options,
        cut_off: false,
    }
}

fn fill_boot(request: &Message, boot: &BootUrl, options: &mut Options) {
    // UEFI HTTP Boot drops an offer without it. PXE takes one with it for a hint to ask port 4011
    // instead of for a complete answer (edk2#10114), so PXE clients do not get theirs back.
    if request
        .pxe_vendor_class()
        .is_some_and(|class| class.starts_with(b"HTTPClient"))
    {
        let mut value = ENTERPRISE_INTEL.to_be_bytes().to_vec();
        value.extend(encode_counted_texts(&[b"HTTPClient"]));
        options.push(VENDOR_CLASS, value);
    }
    options.push(BOOT_FILE_URL, boot.url.as_bytes());
    if !boot.parameters.is_empty() {
        let texts: Vec<&[u8]> = boot.parameters.iter().map(String::as_bytes).collect();
        options.push(BOOT_FILE_PARAMETERS, encode_counted_texts(&texts));
    }
}

fn ia_na(iaid: u32, answer: &IaAnswer) -> IaNa {
    let mut options = Options::default();
    let mut shortest = 0;
    match answer {
        IaAnswer::Addresses(addresses) => {
            for address in addresses {
                options.push(IA_ADDRESS, address.encode());
            }
            let lent = addresses.iter().map(|address| address.preferred);
            shortest = lent.filter(|seconds| *seconds > 0).min().unwrap_or(0);
        }
        IaAnswer::Refused(status) => options.push(STATUS_CODE, status_value(*status)),
    }
    IaNa {
        iaid,
        // Section 21.4 recommends a half and eight tenths of the shortest lifetime.
        t1: shortest / 2,
        t2: shortest / 10 * 8,
        options,
    }
}

/// Section 18.3: what is not given is said to be not given, or the client asks for ever.
fn refuse_others(request: &Message, options: &mut Options) {
    for (code, value) in request.options.iter() {
        let (head, status) = match code {
            IA_TA => (4, Status::NoAddrsAvail),
            IA_PD => (12, Status::NoPrefixAvail),
            _ => continue,
        };
        let Some(iaid) = value.get(..head).and_then(|head| head.first_chunk::<4>()) else {
            continue;
        };
        let mut refusal = iaid.to_vec();
        refusal.resize(head, 0);
        let mut inner = Options::default();
        inner.push(STATUS_CODE, status_value(status));
        inner.encode_into(&mut refusal);
        options.push(code, refusal);
    }
}

fn status_value(status: Status) -> Vec<u8> {
    let text: &[u8] = match status {
        Status::Success => b"",
        Status::NoAddrsAvail => b"This server has no address for it.",
        Status::NoBinding => b"This server did not lend it.",
        Status::NotOnLink => b"The address is of another network.",
        Status::NoPrefixAvail => b"This server lends no prefixes.",
    };
    let mut value = (status as u16).to_be_bytes().to_vec();
    value.extend_from_slice(text);
    value
}
