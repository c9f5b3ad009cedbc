//! What a recording of the switch holds: TCP put together again, UDP as it was, and a search through all of it.
//!
//! Only what tests ask for: IPv4 over Ethernet, in files as tcpdump writes them on this machine.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use memchr::memmem;

/// A recording, read whole.
#[derive(Debug, Default)]
pub struct Capture {
    frames: Vec<Vec<u8>>,
    /// One for each direction of each connection, in the order in which they were opened.
    pub streams: Vec<Stream>,
    pub datagrams: Vec<Datagram>,
}

/// What one end of a TCP connection sent.
#[derive(Debug)]
pub struct Stream {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    /// The number of the frame that opened it.
    pub began: usize,
    pub bytes: Vec<u8>,
    /// Nothing of it is missing from the recording.
    pub whole: bool,
}

/// One UDP packet.
#[derive(Debug)]
pub struct Datagram {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    /// The number of its frame.
    pub at: usize,
    pub payload: Vec<u8>,
}

/// A direction under way: where its numbers begin, and its pieces by their place.
struct Pieces {
    began: usize,
    first: u32,
    pieces: BTreeMap<u32, Vec<u8>>,
}

impl Capture {
    /// Reads a file that tcpdump wrote.
    ///
    /// # Errors
    /// When it is not such a file.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (head, mut rest) = bytes.split_at_checked(24).context("no head")?;
        if head[..4] != [0xd4, 0xc3, 0xb2, 0xa1] || head[20] != 1 {
            bail!("{} is not a recording of Ethernet", file.display());
        }
        let mut capture = Self::default();
        let mut open: HashMap<(SocketAddrV4, SocketAddrV4), Pieces> = HashMap::new();
        while let Some((head, after)) = rest.split_at_checked(16) {
            let size = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
            // The last frame may be cut: tcpdump was killed.
            let Some((frame, after)) = after.split_at_checked(size) else {
                break;
            };
            capture.take(frame, &mut open);
            rest = after;
        }
        let mut left: Vec<_> = open.into_iter().collect();
        left.sort_by_key(|(_, pieces)| pieces.began);
        capture.streams.extend(left.into_iter().map(joined));
        capture.streams.sort_by_key(|stream| stream.began);
        Ok(capture)
    }

    fn take(&mut self, frame: &[u8], open: &mut HashMap<(SocketAddrV4, SocketAddrV4), Pieces>) {
        let number = self.frames.len();
        self.frames.push(frame.to_vec());
        let Some((protocol, from, to, segment)) = ipv4(frame) else {
            return;
        };
        let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        if segment.len() < 8 {
            return;
        }
        let (from, to) = (
            SocketAddrV4::new(from, port(0)),
            SocketAddrV4::new(to, port(2)),
        );
        match protocol {
            17 => self.datagrams.push(Datagram {
                from,
                to,
                at: number,
                payload: segment[8..].to_vec(),
            }),
            6 if segment.len() >= 20 => {
                let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
                if segment[13] & SYN != 0 {
                    let new = Pieces {
                        began: number,
                        first: sequence.wrapping_add(1),
                        pieces: BTreeMap::new(),
                    };
                    // A repeated SYN opens nothing new, an old pair of ports does.
                    let same = open
                        .get(&(from, to))
                        .is_some_and(|old| old.first == new.first);
                    if !same && let Some(old) = open.insert((from, to), new) {
                        self.streams.push(joined(((from, to), old)));
                    }
                    return;
                }
                let data = segment
                    .get(usize::from(segment[12] >> 4) * 4..)
                    .unwrap_or_default();
                if let Some(stream) = open.get_mut(&(from, to))
                    && !data.is_empty()
                {
                    let place = sequence.wrapping_sub(stream.first);
                    let piece = stream.pieces.entry(place).or_default();
                    if piece.len() < data.len() {
                        *piece = data.to_vec();
                    }
                }
            }
            _ => {}
        }
    }

    /// The form in which a secret crossed the LAN, if it did: plain, hex digits, base64 or UTF-16, in a frame, in a
    /// connection, or in a file by TFTP.
    #[must_use]
    pub fn finds(&self, secret: &[u8]) -> Option<&'static str> {
        let files = self.files();
        let frames = self.frames.iter().map(Vec::as_slice);
        let streams = self.streams.iter().map(|stream| stream.bytes.as_slice());
        for (kind, form) in forms(secret) {
            let finder = memmem::Finder::new(&form);
            let mut all = frames
                .clone()
                .chain(streams.clone())
                .chain(files.iter().map(Vec::as_slice));
            if all.any(|bytes| finder.find(bytes).is_some()) {
                return Some(kind);
            }
        }
        None
    }

    /// What came by TFTP, blocks joined, repeated ones twice: good enough to be searched.
    fn files(&self) -> Vec<Vec<u8>> {
        let mut files: HashMap<_, Vec<u8>> = HashMap::new();
        for datagram in &self.datagrams {
            if datagram.payload.starts_with(&[0, 3]) {
                let file = files.entry((datagram.from, datagram.to)).or_default();
                file.extend_from_slice(datagram.payload.get(4..).unwrap_or_default());
            }
        }
        files.into_values().collect()
    }
}

const SYN: u8 = 2;

/// Protocol, addresses and what is inside.
fn ipv4(frame: &[u8]) -> Option<(u8, Ipv4Addr, Ipv4Addr, &[u8])> {
    let packet = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
    let head = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    // Segmentation offload leaves the length of the largest ones to the card; short frames are padded.
    let end = if total == 0 { packet.len() } else { total };
    let address = |at: usize| {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    Some((
        *packet.get(9)?,
        address(12)?,
        address(16)?,
        packet.get(head..end)?,
    ))
}

fn joined(((from, to), pieces): ((SocketAddrV4, SocketAddrV4), Pieces)) -> Stream {
    let mut stream = Stream {
        from,
        to,
        began: pieces.began,
        bytes: Vec::new(),
        whole: true,
    };
    // What is numbered before the beginning is a keep-alive.
    for (place, piece) in pieces.pieces.into_iter().filter(|(n, _)| n >> 31 == 0) {
        let (place, end) = (place as usize, stream.bytes.len());
        let new = end.saturating_sub(place);
        stream.whole &= place <= end;
        stream
            .bytes
            .extend_from_slice(piece.get(new..).unwrap_or_default());
    }
    stream
}

/// A text in the forms in which it could leave by mistake.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let wide = secret.iter().flat_map(|byte| [*byte, 0]).collect();
    let mut forms = vec![
        ("plain", secret.to_vec()),
        ("hex", hex.to_uppercase().into_bytes()),
        ("hex", hex.into_bytes()),
        ("UTF-16", wide),
    ];
    // What stands before it shifts base64 by 0, 1 or 2 bytes; the digits at both ends hold bits of neighbours.
    for shift in 0..3 {
        let text = BASE64_STANDARD_NO_PAD.encode([&[0; 2][..shift], secret].concat());
        let inner = &text.as_bytes()[[0, 2, 3][shift]..text.len() - 1];
        forms.push(("base64", inner.to_vec()));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of TCP from port 1 to port 2.
    fn tcp(sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&[8, 0, 0x45, 0]);
        frame.extend_from_slice(&u16::try_from(40 + data.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend_from_slice(&[0, 1, 0, 2]);
        frame.extend_from_slice(&sequence.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame.extend_from_slice(data);
        frame
    }

    fn recorded(frames: &[Vec<u8>]) -> Capture {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        for frame in frames {
            let size = u32::try_from(frame.len()).unwrap().to_le_bytes();
            bytes.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(&size);
            bytes.extend_from_slice(&size);
            bytes.extend_from_slice(frame);
        }
        let file = std::env::temp_dir().join(format!("farrier-capture-{}", std::process::id()));
        fs::write(&file, bytes).unwrap();
        let capture = Capture::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        capture
    }

    #[test]
    fn a_secret_is_found_across_segments_in_any_order_and_form() {
        let start = u32::MAX - 3;
        let capture = recorded(&[
            tcp(start, SYN, b""),
            tcp(start.wrapping_add(6), 0, b"cret c2VjcmV0IGtleQ"),
            tcp(start.wrapping_add(1), 0, b"+ +se"),
            tcp(start.wrapping_add(1), 0, b"+ +se"),
        ]);
        let stream = &capture.streams[0];
        assert!(stream.whole);
        assert_eq!(stream.bytes, b"+ +secret c2VjcmV0IGtleQ");
        assert_eq!(capture.finds(b"+secret c"), Some("plain"));
        assert_eq!(capture.finds(b"secret key"), Some("base64"));
        assert_eq!(capture.finds(b"another key"), None);
        let torn = recorded(&[tcp(9, SYN, b""), tcp(20, 0, b"late")]);
        assert!(!torn.streams[0].whole);
    }

    #[test]
    fn base64_hides_nothing_wherever_it_begins() {
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "x", "xy"] {
                let text = BASE64_STANDARD_NO_PAD.encode(format!("{before}secret key{after}"));
                let found = forms(b"secret key")
                    .into_iter()
                    .any(|(_, form)| text.contains(std::str::from_utf8(&form).unwrap_or("\0")));
                assert!(found, "{before}, {after}: {text}");
            }
        }
    }
}
