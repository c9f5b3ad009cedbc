//! Streams to a group.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use farrier_proto::Instant;
use farrier_proto::session::multicast::{Dialect, Event, MulticastStream, Transmit, fits};
use farrier_proto::wire::tftp::{ErrorCode, Packet, TransferOptions};

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 67, 1), 1758);
const PEERS: u8 = 8;

/// Any sequence of requests, packets and waits of some clients: never a block outside the file, never one before an
/// ACK but MTFTP's first, nothing for strangers, never a timer in the past, and over within two minutes of silence.
pub fn multicast_stream(bytes: &[u8]) {
    let Some((setup, script)) = bytes.split_first_chunk::<6>() else {
        return;
    };
    let content_len = u64::from(u32::from_le_bytes([setup[0], setup[1], setup[2] & 0x0f, 0]));
    let mtftp = setup[3] & 1 != 0;
    let blksize = if mtftp {
        512
    } else {
        8 + u16::from(setup[4]) * 8
    };
    if !fits(content_len, blksize) {
        return;
    }
    let wait = Duration::from_millis(u64::from(setup[5]) * 10);
    let dialect = if mtftp {
        Dialect::Mtftp { delay: wait }
    } else {
        Dialect::Rfc2090 { gather: wait }
    };
    let mut world = World {
        stream: MulticastStream::new(Instant(0), dialect, GROUP, (content_len, blksize)),
        now: Instant(0),
        asked: [false; PEERS as usize],
        acked: false,
        mtftp,
        content_len,
        blksize,
    };
    world.play(script);
    world.end();
}

struct World {
    stream: MulticastStream,
    now: Instant,
    asked: [bool; PEERS as usize],
    acked: bool,
    mtftp: bool,
    content_len: u64,
    blksize: u16,
}

impl World {
    fn play(&mut self, script: &[u8]) {
        for step in script.chunks_exact(3) {
            let who = step[0] % PEERS;
            let number = u16::from_le_bytes([step[1], step[2]]);
            match step[0] >> 4 {
                0..=3 => {
                    let offered = TransferOptions {
                        blksize: (!self.mtftp).then_some(self.blksize),
                        tsize: (number & 1 != 0).then_some(0),
                        ..TransferOptions::default()
                    };
                    self.asked[usize::from(who)] = true;
                    self.stream.request(self.now, peer(who), &offered);
                }
                4..=9 => self.say(who, &Packet::Ack { block: number }),
                // Near what a real client would say.
                10..=11 => self.say(
                    who,
                    &Packet::Ack {
                        block: number & 0x0f,
                    },
                ),
                12 => {
                    let code = ErrorCode(number);
                    self.say(who, &Packet::Error { code, text: b"x" });
                }
                13 => {
                    let _ = self.stream.handle(self.now, peer(who), &step[1..]);
                }
                14 => {
                    self.now = Instant(self.now.0 + u64::from(number));
                    self.stream.handle_timeout(self.now);
                }
                _ => drop(self.wake()),
            }
            self.drain();
        }
    }

    fn say(&mut self, who: u8, packet: &Packet<'_>) {
        self.acked |= matches!(packet, Packet::Ack { .. });
        let bytes = packet.encode();
        self.stream
            .handle(self.now, peer(who), &bytes)
            .expect("what was encoded can be decoded");
    }

    fn wake(&mut self) -> bool {
        let Some(wake) = self.stream.poll_timeout() else {
            return false;
        };
        self.now = self.now.max(wake);
        self.stream.handle_timeout(self.now);
        let next = self.stream.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "the timer moves");
        true
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.stream.poll_transmit() {
            let (Transmit::Packet { to, .. } | Transmit::Block { to, .. }) = &transmit;
            let asked = |who: u8| *to == peer(who) && self.asked[usize::from(who)];
            assert!(*to == GROUP || (0..PEERS).any(asked), "to nobody else");
            let Transmit::Block {
                block, offset, len, ..
            } = transmit
            else {
                continue;
            };
            assert!(self.acked || (self.mtftp && block == 1), "T8");
            assert_eq!(offset, (u64::from(block) - 1) * u64::from(self.blksize));
            assert!(len <= self.blksize && offset + u64::from(len) <= self.content_len);
            let full = len == self.blksize;
            assert!(full || offset + u64::from(len) == self.content_len);
        }
        while let Some(event) = self.stream.poll_event() {
            assert!(!matches!(event, Event::Over { .. }) || self.stream.is_over());
        }
    }

    fn end(&mut self) {
        let silent_since = self.now;
        while self.wake() {
            self.drain();
            assert!(self.now.since(silent_since) < Duration::from_secs(120));
        }
        assert!(self.stream.is_over());
    }
}

fn peer(who: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, who + 1), 2000)
}
