//! The last packets of each machine, for download as a capture: what a person would otherwise run tcpdump for.
//!
//! Kept in memory only and bounded threefold: packets of a machine, machines, bytes of all. Blocks of files are
//! left out; the question is nearly always in the packets around them.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use farrier_engine::WallTime;
use farrier_proto::MacAddr;

/// Recent packets by hardware address.
#[derive(Debug, Default)]
pub struct PacketLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    machines: HashMap<MacAddr, Tape>,
    /// Oldest first; the order in which machines are forgotten.
    order: VecDeque<MacAddr>,
    /// Taken by all tapes.
    bytes: usize,
}

/// The packets of one machine as records of a capture, one after the other: one piece of memory for all of them.
#[derive(Debug, Default)]
struct Tape {
    records: Vec<u8>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    at: WallTime,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: &'a [u8],
}

impl PacketLog {
    /// Keeps one UDP datagram.
    pub fn keep(
        &self,
        mac: MacAddr,
        at: WallTime,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        payload: &[u8],
    ) {
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.put(
            mac,
            Packet {
                at,
                source,
                destination,
                payload,
            },
        );
    }

    /// The same for either family; captures are of IPv4 only so far.
    pub fn keep_any(
        &self,
        mac: MacAddr,
        at: WallTime,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) {
        if let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) {
            self.keep(mac, at, source, destination, payload);
        }
    }

    /// The packets of these addresses as a capture file, in the order of time; none if nothing is kept.
    #[must_use]
    pub fn pcap(&self, macs: &[MacAddr]) -> Option<Vec<u8>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let tapes = macs.iter().filter_map(|mac| inner.machines.get(mac));
        let mut records: Vec<&[u8]> = tapes.flat_map(Tape::records).collect();
        if records.is_empty() {
            return None;
        }
        records.sort_by_key(|record| (word(record, 0), word(record, 1)));
        let mut file = PCAP_HEADER.to_vec();
        for record in records {
            file.extend(record);
        }
        Some(file)
    }
}

impl Inner {
    fn put(&mut self, mac: MacAddr, packet: Packet<'_>) {
        let tape = self.machines.entry(mac).or_insert_with(|| {
            self.order.push_back(mac);
            Tape::default()
        });
        self.bytes -= tape.records.capacity();
        tape.put(packet);
        self.bytes += tape.records.capacity();
        while self.order.len() > MAX_MACHINES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            if let Some(tape) = self.machines.remove(&oldest) {
                self.bytes -= tape.records.capacity();
            }
        }
    }
}

impl Tape {
    fn put(&mut self, packet: Packet<'_>) {
        if self.count == 0 {
            self.records.reserve_exact(USUAL_BYTES);
        }
        packet.write(&mut self.records);
        self.count += 1;
        if self.count > MAX_PACKETS {
            let first = self.records().next().map_or(0, <[u8]>::len);
            self.records.drain(..first);
            self.count -= 1;
        }
    }

    /// Oldest first.
    fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.records[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let length = usize::try_from(word(rest, 2)).unwrap_or(usize::MAX);
            let (record, behind) = rest.split_at_checked(RECORD_HEADER + length)?;
            rest = behind;
            Some(record)
        })
    }
}

/// One of the four words that a record begins with: seconds, microseconds, length, length.
fn word(record: &[u8], number: usize) -> u32 {
    let bytes = record.get(4 * number..4 * number + 4);
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

impl Packet<'_> {
    /// One record with the IPv4 and UDP headers it would have had (RFC 791, RFC 768; no UDP checksum).
    fn write(&self, file: &mut Vec<u8>) {
        let length = u16::try_from(28 + self.payload.len()).unwrap_or(u16::MAX);
        let micros = u64::try_from(self.at.0).unwrap_or(0).saturating_mul(1000);
        let seconds = u32::try_from(micros / 1_000_000).unwrap_or(u32::MAX);
        let rest = u32::try_from(micros % 1_000_000).unwrap_or(0);
        for word in [seconds, rest, u32::from(length), u32::from(length)] {
            file.extend(word.to_le_bytes());
        }
        let mut header = [0; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[8] = 64;
        header[9] = 17;
        header[12..16].copy_from_slice(&self.source.ip().octets());
        header[16..20].copy_from_slice(&self.destination.ip().octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        file.extend(header);
        file.extend(self.source.port().to_be_bytes());
        file.extend(self.destination.port().to_be_bytes());
        file.extend((length - 20).to_be_bytes());
        file.extend([0, 0]);
        file.extend(self.payload);
    }
}

/// RFC 1071.
fn checksum(header: &[u8; 20]) -> u16 {
    let words = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Little-endian, version 2.4, link type 101: IP packets without a frame.
const PCAP_HEADER: [u8; 24] = [
    0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 101, 0, 0, 0,
];
const RECORD_HEADER: usize = 16;
/// A question and its answer.
const USUAL_BYTES: usize = 1000;
/// A boot has some twenty packets besides its files' blocks.
const MAX_PACKETS: usize = 96;
const MAX_MACHINES: usize = 4096;
const MAX_BYTES: usize = 16 << 20;
const MAX_PAYLOAD: usize = 1472;

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use farrier_engine::WallTime;
    use farrier_proto::MacAddr;

    use super::{MAX_BYTES, MAX_PACKETS, PacketLog, checksum, word};

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn at(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new([10, 0, 0, 1].into(), port)
    }

    #[test]
    fn a_capture_holds_whole_packets_in_the_order_of_time() {
        let log = PacketLog::default();
        log.keep(MAC, WallTime(2500), at(67), at(68), b"second");
        log.keep(MAC, WallTime(1000), at(68), at(67), b"first");
        let file = log.pcap(&[MAC]).unwrap();
        assert_eq!(&file[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        let first = &file[24..24 + 16 + 28 + 5];
        assert_eq!(&first[..12], [1, 0, 0, 0, 0, 0, 0, 0, 33, 0, 0, 0]);
        assert_eq!(
            checksum(first[16..36].try_into().unwrap()),
            0,
            "the header's sum fits"
        );
        assert_eq!(&first[36..40], [0, 68, 0, 67]);
        assert_eq!(&first[44..], b"first");
        assert_eq!(file.len(), 24 + (16 + 28 + 5) + (16 + 28 + 6));
        assert!(log.pcap(&[MacAddr([2; 6])]).is_none());
    }

    #[test]
    fn t10_invented_addresses_push_out_the_oldest_and_memory_stays_bounded() {
        let log = PacketLog::default();
        for n in 0..30_000u32 {
            let [_, a, b, c] = n.to_be_bytes();
            log.keep(
                MacAddr([2, 0, 0, a, b, c]),
                WallTime(0),
                at(68),
                at(67),
                &[0; 4000],
            );
        }
        let inner = log.inner.lock().unwrap();
        let tapes = inner.machines.values();
        let bytes: usize = tapes.map(|tape| tape.records.capacity()).sum();
        assert_eq!(bytes, inner.bytes);
        assert!(bytes <= MAX_BYTES);
        assert_eq!(inner.order.len(), inner.machines.len());
    }

    #[test]
    fn a_machine_keeps_its_latest_packets() {
        let log = PacketLog::default();
        for n in 0..200 {
            log.keep(MAC, WallTime(n), at(68), at(67), b"x");
        }
        let inner = log.inner.lock().unwrap();
        let tape = &inner.machines[&MAC];
        assert_eq!(
            (tape.count, tape.records().count()),
            (MAX_PACKETS, MAX_PACKETS)
        );
        let micros = |record: &[u8]| word(record, 1);
        assert_eq!(tape.records().next().map(micros), Some(104_000));
        assert_eq!(tape.records().last().map(micros), Some(199_000));
    }
}
