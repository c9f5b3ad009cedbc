//! Why HTTPS with a boot program did not come about, in words for who has to do something about it.
//!
//! Boot programs are the oldest TLS clients there are: edk2 without elliptic curves, iPXE from before 2024, and
//! firmware that nobody updates. What a TLS library says of them ("no common cipher suite") helps nobody.

use farrier_proto::wire::tls::{ClientHello, is_plain_http};

use crate::model::MachineId;
use crate::timeline::{Entry, Kind};
use crate::{Reason, WallTime};

/// What kind of key our certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    Rsa,
    P256,
    /// A certificate that somebody brought, for a key that few boot programs know.
    Other,
}

/// How the handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client sent an alert of this number.
    Alert(u8),
    /// The client closed the connection or fell silent.
    Left,
    /// We could not agree.
    Refused,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Reason,
    /// What it did, what was wanted and what helps: whole sentences.
    pub text: String,
    pub details: Vec<(&'static str, String)>,
}

impl Trouble {
    /// Judges a connection that began with `sent` and had ended before it was secure; nothing is to be said of one
    /// on which nothing came.
    #[must_use]
    pub fn of(sent: &[u8], ended: Ended, key: KeyKind) -> Option<Self> {
        if sent.is_empty() {
            return None;
        }
        let Ok(hello) = ClientHello::decode(sent) else {
            return Some(Self::not_understood(sent, ended));
        };
        let (reason, text) = match ended {
            Ended::Alert(alert) if is_distrust(alert) => (Reason::TlsNotTrusted, distrust(alert)),
            _ => unable(&hello, key).unwrap_or_else(|| left(ended)),
        };
        let mut trouble = Self {
            reason,
            text,
            details: vec![("offered", version(hello.newest))],
        };
        trouble.detail("cipher suites", &hello.suites, suite);
        trouble.detail("groups", &hello.groups, group);
        trouble.detail("signatures", &hello.signatures, |code| {
            format!("{code:#06x}")
        });
        Some(trouble)
    }

    /// The same for a timeline.
    #[must_use]
    pub fn entry(self, machine: MachineId, at: WallTime) -> Entry {
        let entry =
            Entry::new(machine, at, Kind::Warning, self.text).with("reason", self.reason.label());
        let details = self.details.into_iter();
        details.fold(entry, |entry, (name, value)| entry.with(name, value))
    }

    fn not_understood(sent: &[u8], ended: Ended) -> Self {
        let is_ssl2 = matches!(sent, [high, _, 1, ..] if high & 0x80 != 0);
        let text = if is_plain_http(sent) {
            "It spoke plain HTTP at the port for HTTPS: correct the URL it was given, https:// in front."
                .to_owned()
        } else if is_ssl2 {
            // A length with the high bit set, then message type 1.
            format!("Its boot program begins as SSL 2.0 did and {TOO_OLD} {REMEDY}")
        } else {
            format!(
                "{} It did not come to the point of saying what it is able to do.",
                left(ended).1
            )
        };
        Self {
            reason: if is_ssl2 {
                Reason::TlsTooOld
            } else {
                Reason::TlsFailed
            },
            text,
            details: Vec::new(),
        }
    }

    fn detail(&mut self, name: &'static str, codes: &[u16], word: impl Fn(u16) -> String) {
        if !codes.is_empty() {
            let words: Vec<_> = codes.iter().map(|code| word(*code)).collect();
            self.details.push((name, words.join(", ")));
        }
    }
}

/// What it cannot do that we insist on.
fn unable(hello: &ClientHello, key: KeyKind) -> Option<(Reason, String)> {
    if hello.newest < TLS_1_2 {
        let offered = version(hello.newest);
        return Some((
            Reason::TlsTooOld,
            format!("Its boot program speaks {offered} at most and {TOO_OLD} {REMEDY}"),
        ));
    }
    let has = |wanted: &[u16]| hello.suites.iter().any(|suite| wanted.contains(suite));
    let modern = hello.newest > TLS_1_2 && has(&TLS_1_3_SUITES);
    let (ours, other, theirs) = match key {
        KeyKind::Rsa => (&RSA_SUITES, &ECDSA_SUITES, "RSA"),
        KeyKind::P256 | KeyKind::Other => (&ECDSA_SUITES, &RSA_SUITES, "elliptic curves"),
    };
    if !modern && !has(ours) && !has(other) {
        return Some((
            Reason::TlsTooOld,
            format!(
                "Its boot program speaks {}, but none of its {} cipher suites is safe today, and it {TOO_OLD} {REMEDY}",
                version(hello.newest),
                hello.suites.len()
            ),
        ));
    }
    if !hello.groups.is_empty() && !hello.groups.iter().any(|group| GROUPS.contains(group)) {
        let text = format!(
            "Its boot program knows none of the groups X25519, P-256 and P-384 and {TOO_OLD} {REMEDY}"
        );
        return Some((Reason::TlsTooOld, text));
    }
    let signs = match key {
        KeyKind::Rsa => !hello
            .signatures
            .iter()
            .any(|code| RSA_SIGNATURES.contains(code)),
        KeyKind::P256 => !hello.signatures.contains(&P256_SIGNATURE),
        KeyKind::Other => false,
    };
    if (!modern && !has(ours)) || (signs && !hello.signatures.is_empty()) {
        let other = match key {
            KeyKind::Rsa => "Set boot.tls.key to p-256 in the configuration",
            _ => "Set boot.tls.key to rsa-3072 in the configuration",
        };
        return Some((
            Reason::TlsKeyKind,
            format!(
                "Its boot program cannot check a certificate for a key of {theirs}, which ours is. {other}, or give it \
                 plain HTTP (setting boot_tls)."
            ),
        ));
    }
    None
}

fn is_distrust(alert: u8) -> bool {
    (42..=46).contains(&alert) || alert == UNKNOWN_CA
}

fn distrust(alert: u8) -> String {
    let said = match alert {
        44 => "our certificate is revoked",
        45 => "our certificate is out of date; look at its clock, too",
        46 => "it does not accept our certificate",
        UNKNOWN_CA => "it does not know who signed our certificate",
        _ => "our certificate is bad",
    };
    format!(
        "Its boot program says that {said}. Enrol the authority of the boot certificate in its firmware, or give it \
         plain HTTP (setting boot_tls)."
    )
}

/// It was able to, as far as it said, and still there is no connection.
fn left(ended: Ended) -> (Reason, String) {
    let text = match ended {
        Ended::Alert(alert) => format!("It ended the HTTPS handshake with alert {alert}."),
        Ended::Left => {
            "It left in the middle of the HTTPS handshake and did not say why.".to_owned()
        }
        Ended::Refused => "The HTTPS handshake with it came to nothing.".to_owned(),
    };
    let hint = "Often it does not trust our certificate: enrol the authority in its firmware, or give it plain HTTP \
                (setting boot_tls).";
    (Reason::TlsFailed, format!("{text} {hint}"))
}

fn version(code: u16) -> String {
    match code {
        0x0304 => "TLS 1.3".to_owned(),
        TLS_1_2 => "TLS 1.2".to_owned(),
        0x0302 => "TLS 1.1".to_owned(),
        0x0301 => "TLS 1.0".to_owned(),
        0x0300 => "SSL 3.0".to_owned(),
        other => format!("version {other:#06x}"),
    }
}

/// The suites that boot programs offer, by what tells them apart: key exchange and cipher.
fn suite(code: u16) -> String {
    let name = match code {
        0x0005 => "RSA-RC4",
        0x000a => "RSA-3DES",
        0x002f => "RSA-AES128-CBC",
        0x0035 => "RSA-AES256-CBC",
        0x003c => "RSA-AES128-CBC-SHA256",
        0x003d => "RSA-AES256-CBC-SHA256",
        0x009c => "RSA-AES128-GCM",
        0x009d => "RSA-AES256-GCM",
        0x0033 => "DHE-RSA-AES128-CBC",
        0x0039 => "DHE-RSA-AES256-CBC",
        0x0067 => "DHE-RSA-AES128-CBC-SHA256",
        0x006b => "DHE-RSA-AES256-CBC-SHA256",
        0x009e => "DHE-RSA-AES128-GCM",
        0x009f => "DHE-RSA-AES256-GCM",
        0x1301 => "TLS13-AES128-GCM",
        0x1302 => "TLS13-AES256-GCM",
        0x1303 => "TLS13-CHACHA20",
        0xc02b => "ECDHE-ECDSA-AES128-GCM",
        0xc02c => "ECDHE-ECDSA-AES256-GCM",
        0xc02f => "ECDHE-RSA-AES128-GCM",
        0xc030 => "ECDHE-RSA-AES256-GCM",
        0xcca8 => "ECDHE-RSA-CHACHA20",
        0xcca9 => "ECDHE-ECDSA-CHACHA20",
        other => return format!("{other:#06x}"),
    };
    name.to_owned()
}

fn group(code: u16) -> String {
    match code {
        0x001d => "X25519".to_owned(),
        0x0017 => "P-256".to_owned(),
        0x0018 => "P-384".to_owned(),
        other => format!("{other:#06x}"),
    }
}

const TLS_1_2: u16 = 0x0303;
const UNKNOWN_CA: u8 = 48;
/// What the listener takes; held to the TLS library's own lists by a test of the server.
pub const TLS_1_3_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
pub const RSA_SUITES: [u16; 3] = [0xc02f, 0xc030, 0xcca8];
pub const ECDSA_SUITES: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
pub const GROUPS: [u16; 4] = [0x0017, 0x0018, 0x001d, 0x11ec];
const RSA_SIGNATURES: [u16; 6] = [0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806];
const P256_SIGNATURE: u16 = 0x0403;
const TOO_OLD: &str =
    "is too old for HTTPS: TLS 1.2 with ECDHE and AES-GCM or ChaCha20 is wanted, or TLS 1.3.";
const REMEDY: &str =
    "Give it plain HTTP (setting boot_tls: never), or newer firmware or a newer loader.";

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(newest: u16, suites: &[u16], signatures: &[u16]) -> ClientHello {
        ClientHello {
            newest,
            suites: suites.to_vec(),
            groups: vec![0x17],
            signatures: signatures.to_vec(),
        }
    }

    #[test]
    fn what_a_boot_program_lacks_is_named() {
        let rsa = [0x0401];
        let both = [0x0401, 0x0403];
        for (name, hello, key, expected) in [
            (
                "TLS 1.1",
                hello(0x0302, &[0xc02f], &[]),
                KeyKind::Rsa,
                Some(Reason::TlsTooOld),
            ),
            (
                "iPXE of 2022",
                hello(0x0303, &[0x009f, 0x006b, 0x003d, 0x0035], &rsa),
                KeyKind::Rsa,
                Some(Reason::TlsTooOld),
            ),
            (
                "edk2 of today",
                hello(0x0303, &[0xc030, 0x009f], &both),
                KeyKind::Rsa,
                None,
            ),
            (
                "RSA only",
                hello(0x0303, &[0xc030], &rsa),
                KeyKind::P256,
                Some(Reason::TlsKeyKind),
            ),
            (
                "curves only",
                hello(0x0303, &[0xc02b], &[0x0403]),
                KeyKind::Rsa,
                Some(Reason::TlsKeyKind),
            ),
            (
                "1.3, RSA signatures",
                hello(0x0304, &[0x1301], &rsa),
                KeyKind::P256,
                Some(Reason::TlsKeyKind),
            ),
            ("1.3", hello(0x0304, &[0x1301], &both), KeyKind::P256, None),
            (
                "1.3 by another curve",
                ClientHello {
                    groups: vec![0x19],
                    ..hello(0x0304, &[0x1301], &both)
                },
                KeyKind::P256,
                Some(Reason::TlsTooOld),
            ),
        ] {
            assert_eq!(
                unable(&hello, key).map(|(reason, _)| reason),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_no_tls_is_told_as_what_it_is() {
        let told = |sent: &[u8], ended| Trouble::of(sent, ended, KeyKind::Rsa);
        assert_eq!(
            told(b"", Ended::Left),
            None,
            "somebody only looked whether the port is open"
        );
        let plain = told(b"GET /boot/first.ipxe HTTP/1.1\r\n", Ended::Refused).unwrap();
        assert!(
            plain.text.contains("plain HTTP at the port"),
            "{}",
            plain.text
        );
        let ssl2 = told(&[0x80, 0x2e, 1, 3, 1], Ended::Refused).unwrap();
        assert_eq!(ssl2.reason, Reason::TlsTooOld);
        assert!(ssl2.text.contains("boot_tls"), "{}", ssl2.text);
    }
}
