//! The first message of a TLS connection (RFC 5246 section 7.4.1.2, RFC 8446 section 4.1.2), read to tell what a boot
//! program is able to do. The handshake itself is a TLS library's; it keeps to itself what it did not like.

use super::DecodeError;

/// A ClientHello, as far as it tells what the client can do. Values that nobody is to know (RFC 8701) are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The newest version it offers, as on the wire: 0x0303 is TLS 1.2.
    pub newest: u16,
    pub suites: Vec<u16>,
    /// Extension 10; empty if it did not come.
    pub groups: Vec<u16>,
    /// Extension 13; empty if it did not come.
    pub signatures: Vec<u16>,
}

impl ClientHello {
    /// Reads the bytes that a connection began with.
    ///
    /// # Errors
    ///
    /// When they are no ClientHello, or end within it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = unframed(bytes)?;
        let mut rest = Reader {
            bytes: &message,
            at: 0,
        };
        let kind = rest.byte("handshake type")?;
        if kind != CLIENT_HELLO {
            return Err(wrong("handshake type", 0, "1 (ClientHello)", kind.into()));
        }
        let length = usize::from(rest.byte("length")?) << 16 | usize::from(rest.word("length")?);
        let mut body = Reader {
            bytes: rest.take(length, "ClientHello")?,
            at: 0,
        };
        let version = body.word("version")?;
        body.take(32, "random")?;
        body.short("session id")?;
        let suites = words(body.long("cipher suites")?);
        body.short("compression methods")?;
        let mut hello = Self {
            newest: version,
            suites,
            ..Self::default()
        };
        // Before TLS 1.2 it may end here.
        if let Ok(extensions) = body.long("extensions") {
            hello.read_extensions(extensions);
        }
        Ok(hello)
    }

    fn read_extensions(&mut self, bytes: &[u8]) {
        let mut rest = Reader { bytes, at: 0 };
        while let (Ok(code), Ok(value)) = (rest.word("extension"), rest.long("extension")) {
            match code {
                SUPPORTED_GROUPS => self.groups = words(listed(value)),
                SIGNATURE_ALGORITHMS => self.signatures = words(listed(value)),
                SUPPORTED_VERSIONS => {
                    let versions = words(value.get(1..).unwrap_or_default());
                    self.newest = versions.into_iter().max().unwrap_or(self.newest);
                }
                _ => {}
            }
        }
    }
}

/// Whether a connection began as plain HTTP does.
#[must_use]
pub fn is_plain_http(bytes: &[u8]) -> bool {
    [b"GET ".as_slice(), b"HEAD ", b"POST "]
        .iter()
        .any(|method| bytes.starts_with(method))
}

/// The handshake message, out of the records it came in.
fn unframed(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut rest = Reader { bytes, at: 0 };
    let mut message = Vec::new();
    loop {
        let at = rest.at;
        let kind = rest.byte("record type")?;
        if kind != HANDSHAKE {
            return Err(wrong("record type", at, "22 (handshake)", kind.into()));
        }
        rest.word("record version")?;
        let length = rest.word("record length")?;
        message.extend_from_slice(rest.take(length.into(), "record")?);
        let whole = message
            .first_chunk()
            .map(|[_, high, middle, low]| u32::from_be_bytes([0, *high, *middle, *low]));
        if whole.is_some_and(|whole| message.len() >= usize::try_from(whole).unwrap_or(0) + 4) {
            return Ok(message);
        }
    }
}

/// A list behind its length, or as much of it as is there.
fn listed(value: &[u8]) -> &[u8] {
    value.get(2..).unwrap_or_default()
}

fn words(bytes: &[u8]) -> Vec<u16> {
    let (pairs, _) = bytes.as_chunks();
    let words = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
    words.filter(|word| word & 0x0f0f != 0x0a0a).collect()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..length) else {
            return Err(wrong(what, self.at, "more bytes", rest.len()));
        };
        self.at += length;
        Ok(taken)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(1, what)?.first().copied().unwrap_or_default())
    }

    fn word(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        let word = self.take(2, what)?.first_chunk().copied();
        Ok(u16::from_be_bytes(word.unwrap_or_default()))
    }

    /// What is behind a length of one byte.
    fn short(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.byte(what)?;
        self.take(length.into(), what)
    }

    /// What is behind a length of two bytes.
    fn long(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.word(what)?;
        self.take(length.into(), what)
    }
}

fn wrong(what: &'static str, offset: usize, expected: &'static str, found: usize) -> DecodeError {
    DecodeError {
        what,
        offset,
        expected,
        found,
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const SUPPORTED_VERSIONS: u16 = 43;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello of this version with these suites and extensions, in records of at most so many bytes.
    fn hello(version: u16, suites: &[u16], extensions: &[(u16, &[u8])], record: usize) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(0);
        let list: Vec<u8> = suites.iter().flat_map(|s| s.to_be_bytes()).collect();
        body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        body.extend(list);
        body.extend([1, 0]);
        let mut tail = Vec::new();
        for (code, value) in extensions {
            tail.extend(code.to_be_bytes());
            tail.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            tail.extend(*value);
        }
        if !extensions.is_empty() {
            body.extend(u16::try_from(tail.len()).unwrap().to_be_bytes());
            body.extend(tail);
        }
        let length = u32::try_from(body.len()).unwrap() | 1 << 24;
        let message = [&length.to_be_bytes(), body.as_slice()].concat();
        let framed = message.chunks(record).flat_map(|chunk| {
            let length = u16::try_from(chunk.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], chunk].concat()
        });
        framed.collect()
    }

    #[test]
    fn rfc5246_7_4_1_2_an_old_hello_ends_behind_its_compression() {
        let read = ClientHello::decode(&hello(0x0302, &[0x0035, 0x002f], &[], 4096)).unwrap();
        assert_eq!(read.newest, 0x0302);
        assert_eq!(read.suites, [0x0035, 0x002f]);
        assert!(read.groups.is_empty() && read.signatures.is_empty());
    }

    #[test]
    fn rfc8446_4_2_1_the_newest_version_is_in_an_extension() {
        let extensions: [(u16, &[u8]); 3] = [
            (43, &[6, 0x1a, 0x1a, 3, 4, 3, 3]),
            (10, &[0, 4, 0, 0x1d, 0, 0x17]),
            (13, &[0, 2, 8, 4]),
        ];
        // Records may cut it anywhere, and unknown values are there to be passed over (RFC 8701).
        for record in [5, 60, 4096] {
            let bytes = hello(0x0303, &[0x2a2a, 0x1301], &extensions, record);
            let read = ClientHello::decode(&bytes).unwrap();
            assert_eq!(read.newest, 0x0304);
            assert_eq!(read.suites, [0x1301]);
            assert_eq!(read.groups, [0x1d, 0x17]);
            assert_eq!(read.signatures, [0x0804]);
        }
    }

    #[test]
    fn what_is_no_hello_is_told_apart() {
        assert!(is_plain_http(b"GET /boot/first.ipxe HTTP/1.1\r\n"));
        let whole = hello(0x0301, &[5], &[], 4096);
        for end in 0..whole.len() {
            assert!(ClientHello::decode(&whole[..end]).is_err());
        }
        // An alert.
        let error = ClientHello::decode(&[21, 3, 1, 0, 2, 2, 40]).unwrap_err();
        assert_eq!(error.what, "record type");
    }
}
