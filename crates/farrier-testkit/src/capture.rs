//! Reads packet captures (classic pcap, Ethernet) into typed frames.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use farrier_proto::MacAddr;

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Microseconds since the first frame of the capture.
    pub time_us: u64,
    pub destination: MacAddr,
    pub source: MacAddr,
    /// Bytes on the wire; more than were captured when the capture is trimmed.
    pub wire_len: u32,
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Arp {
        operation: u16,
        sender: (MacAddr, Ipv4Addr),
        target: (MacAddr, Ipv4Addr),
    },
    Udp {
        source: SocketAddr,
        destination: SocketAddr,
        data: Vec<u8>,
    },
    Tcp {
        source: SocketAddr,
        destination: SocketAddr,
        sequence: u32,
        flags: u8,
        data: Vec<u8>,
    },
    /// IP with another protocol in it, ICMP for one.
    OtherIp {
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
    },
    Other {
        ethertype: u16,
    },
}

/// A capture that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("cannot read the capture {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("not a classic pcap file of Ethernet frames")]
    Format,
    #[error("record at byte {offset} is cut off")]
    CutOff { offset: usize },
}

/// Reads the capture at `path`.
pub fn read(path: &Path) -> Result<Vec<Frame>, CaptureError> {
    let bytes = std::fs::read(path).map_err(|source| CaptureError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&bytes)
}

/// The captures in a folder, by name.
///
/// # Panics
/// If the folder cannot be read.
#[must_use]
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pcap")
        })
        .collect();
    paths.sort();
    paths
}

/// Reads a capture from memory. Both byte orders and both time units are understood.
pub fn parse(bytes: &[u8]) -> Result<Vec<Frame>, CaptureError> {
    let reader = Reader::new(bytes).ok_or(CaptureError::Format)?;
    let mut frames = Vec::new();
    let mut first = None;
    let mut offset = GLOBAL_HEADER;
    while offset < bytes.len() {
        let record = reader
            .record(offset)
            .ok_or(CaptureError::CutOff { offset })?;
        let start = *first.get_or_insert(record.time_us);
        if let Some(frame) = frame(
            record.bytes,
            record.time_us.saturating_sub(start),
            record.wire_len,
        ) {
            frames.push(frame);
        }
        offset += RECORD_HEADER + record.bytes.len();
    }
    Ok(frames)
}

const GLOBAL_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const LINK_ETHERNET: u32 = 1;

struct Reader<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    nanoseconds: bool,
}

struct Record<'a> {
    time_us: u64,
    wire_len: u32,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (big_endian, nanoseconds) = match bytes.get(..4)? {
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, false),
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, false),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, true),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, true),
            _ => return None,
        };
        let reader = Self {
            bytes,
            big_endian,
            nanoseconds,
        };
        (reader.number(20)? == LINK_ETHERNET).then_some(reader)
    }

    fn number(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn record(&self, at: usize) -> Option<Record<'a>> {
        let fraction = u64::from(self.number(at + 4)?);
        let fraction_us = if self.nanoseconds {
            fraction / 1000
        } else {
            fraction
        };
        let length = usize::try_from(self.number(at + 8)?).ok()?;
        let start = at + RECORD_HEADER;
        Some(Record {
            time_us: u64::from(self.number(at)?) * 1_000_000 + fraction_us,
            wire_len: self.number(at + 12)?,
            bytes: self.bytes.get(start..start.checked_add(length)?)?,
        })
    }
}

/// None for frames too short to have an Ethernet header.
fn frame(bytes: &[u8], time_us: u64, wire_len: u32) -> Option<Frame> {
    let (destination, rest) = bytes.split_first_chunk::<6>()?;
    let (source, rest) = rest.split_first_chunk::<6>()?;
    let (ethertype, rest) = rest.split_first_chunk::<2>()?;
    let ethertype = u16::from_be_bytes(*ethertype);
    let payload = match ethertype {
        0x0800 => ipv4(rest),
        0x0806 => arp(rest),
        0x86dd => ipv6(rest),
        _ => None,
    };
    Some(Frame {
        time_us,
        destination: MacAddr(*destination),
        source: MacAddr(*source),
        wire_len,
        payload: payload.unwrap_or(Payload::Other { ethertype }),
    })
}

fn arp(bytes: &[u8]) -> Option<Payload> {
    let party = |at: usize| {
        let mac = *bytes.get(at..)?.first_chunk::<6>()?;
        let ip = *bytes.get(at + 6..)?.first_chunk::<4>()?;
        Some((MacAddr(mac), Ipv4Addr::from(ip)))
    };
    let operation = u16::from_be_bytes(*bytes.get(6..)?.first_chunk()?);
    Some(Payload::Arp {
        operation,
        sender: party(8)?,
        target: party(18)?,
    })
}

fn ipv4(bytes: &[u8]) -> Option<Payload> {
    let header = bytes.first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 15) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let body = bytes.get(header_len..total_len.min(bytes.len()))?;
    let source = Ipv4Addr::from(*header[12..].first_chunk::<4>()?);
    let destination = Ipv4Addr::from(*header[16..].first_chunk::<4>()?);
    transport(header[9], source.into(), destination.into(), body)
}

/// Extension headers are not followed: no firmware captured so far sends any before UDP or TCP.
fn ipv6(bytes: &[u8]) -> Option<Payload> {
    let (header, body) = bytes.split_first_chunk::<40>()?;
    let source = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*header[24..].first_chunk::<16>()?);
    transport(header[6], source.into(), destination.into(), body)
}

fn transport(protocol: u8, source: IpAddr, destination: IpAddr, body: &[u8]) -> Option<Payload> {
    if !matches!(protocol, 6 | 17) {
        return Some(Payload::OtherIp {
            source,
            destination,
            protocol,
        });
    }
    let ports = body.first_chunk::<4>()?;
    let source = SocketAddr::new(source, u16::from_be_bytes([ports[0], ports[1]]));
    let destination = SocketAddr::new(destination, u16::from_be_bytes([ports[2], ports[3]]));
    if protocol == 17 {
        let length = usize::from(u16::from_be_bytes(*body.get(4..)?.first_chunk()?));
        let data = body.get(8..length.min(body.len()))?.to_vec();
        return Some(Payload::Udp {
            source,
            destination,
            data,
        });
    }
    let sequence = u32::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let data = body.get(usize::from(body.get(12)? >> 4) * 4..)?.to_vec();
    Some(Payload::Tcp {
        source,
        destination,
        sequence,
        flags: *body.get(13)?,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend([0; 8]);
        bytes.extend([0, 0, 4, 0, 1, 0, 0, 0]);
        for (i, frame) in (1_u32..).zip(frames) {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            bytes.extend([1_u32.to_le_bytes(), i.to_le_bytes(), length, length].concat());
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    fn udp_frame(data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 8, 0]);
        let total = u8::try_from(28 + data.len()).unwrap();
        frame.extend([
            0x45, 0, 0, total, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([0, 68, 0, 67, 0, total - 20, 0, 0]);
        frame.extend_from_slice(data);
        frame
    }

    #[test]
    fn reads_udp_and_drops_ethernet_padding() {
        let mut padded = udp_frame(b"hello");
        padded.extend([0; 9]);
        let frames = parse(&capture(&[&padded, &udp_frame(b"")])).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[1].time_us, 1);
        assert_eq!(frames[0].source.to_string(), "02:00:00:00:00:01");
        let Payload::Udp {
            source,
            destination,
            data,
        } = &frames[0].payload
        else {
            panic!()
        };
        assert_eq!(source.to_string(), "10.0.0.1:68");
        assert_eq!(destination.to_string(), "10.0.0.2:67");
        assert_eq!(data, b"hello");
    }

    #[test]
    fn refuses_other_files_and_cut_off_records() {
        assert!(matches!(
            parse(b"nothing at all, certainly no capture"),
            Err(CaptureError::Format)
        ));
        let bytes = capture(&[&udp_frame(b"hello")]);
        let cut = parse(&bytes[..bytes.len() - 1]);
        assert!(matches!(cut, Err(CaptureError::CutOff { offset: 24 })));
    }
}
