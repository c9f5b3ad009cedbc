//! One file on its way to one TFTP client (RFC 1350 with RFC 2347-2349 and 7440).
//!
//! The caller keeps the content and the socket. It calls [`TftpTransfer::handle`] for each packet from
//! the client's TID and [`TftpTransfer::handle_timeout`] when [`TftpTransfer::poll_timeout`] has come;
//! after each of these, and after [`TftpTransfer::new`], it sends what
//! [`TftpTransfer::poll_transmit`] gives until that is nothing, then reads
//! [`TftpTransfer::poll_event`]. An event means that the transfer is over.
//!
//! Three rules keep loss cheap and mistakes harmless:
//! - Only progress touches the timer. A duplicate ACK that reset it would, with a client whose timer is as
//!   long, put off the retransmission both wait for.
//! - In lock step a duplicate ACK sends nothing (RFC 1123 section 4.2.3.1, the Sorcerer's Apprentice). With a
//!   window it may be the news that the window's first block was lost, so it is heeded once, and only for
//!   a window that began with a clean ACK: a spurious repetition can then not bring about the next. An ACK
//!   inside the window is treated alike, since edk2 sends one for every block it did not expect.
//! - Until the first ACK the request may be forged. An OACK, no larger than what asked for it, leaves four
//!   times at most. Block 1 is larger than its request, and RFC 1350 allows no smaller answer: it leaves once
//!   for each request that comes, four times at most, and never by a timer. A client whose block was lost
//!   asks again.

mod plan;
mod retransmission;
#[cfg(test)]
mod tests;

use std::time::Duration;

use plan::Plan;
use retransmission::Retransmission;

use crate::Instant;
use crate::wire::DecodeError;
use crate::wire::tftp::{ErrorCode, Packet, ReadRequest, TransferOptions};

/// A read transfer, seen from the server.
#[derive(Debug)]
pub struct TftpTransfer {
    state: State,
    plan: Plan,
    retransmission: Retransmission,
    started: Instant,
    resent_blocks: u32,
    answered: bool,
    pending: Option<Pending>,
    event: Option<Event>,
}

/// What the server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Larger requests get this. Path MTU less 32.
    pub max_blksize: u16,
    /// Larger requests get this, and never more than [`MAX_WINDOWSIZE`].
    pub max_windowsize: u16,
    /// What follows block 65535: 0 for nearly all clients, 1 for a few.
    pub first_block_after_wrap: u16,
    /// Seconds until something is sent again to who negotiates no interval (RFC 2349); none is measured.
    pub timeout_s: Option<u8>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_blksize: 1468,
            max_windowsize: MAX_WINDOWSIZE,
            first_block_after_wrap: 0,
            timeout_s: None,
        }
    }
}

/// Above this some clients break and nobody gains.
pub const MAX_WINDOWSIZE: u16 = 64;

/// A packet, or a run of DATA packets, to send to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// An OACK packet.
    Oack(Vec<u8>),
    /// An ERROR packet.
    Error(Vec<u8>),
    /// `count` DATA packets with consecutive block numbers from `first_block`, which do not wrap
    /// within the run. Block `i` carries `blksize` bytes of content from `offset + i * blksize`;
    /// the last of the run carries `last_len`, which is less only at the end of the file.
    Blocks {
        first_block: u16,
        offset: u64,
        blksize: u16,
        count: u16,
        last_len: u16,
    },
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every block was acknowledged. `retransmits` counts blocks sent again.
    Done {
        bytes: u64,
        duration: Duration,
        retransmits: u32,
    },
    /// The client only wanted to know the size or whether the file is there: it gave up before its
    /// first ACK with code 8 (UEFI) or 0 (BIOS ROMs). Nothing is wrong.
    Probe,
    /// The client gave up.
    ClientError { code: ErrorCode, text: String },
    /// The client fell silent.
    TimedOut { phase: Phase },
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before the first ACK.
    Opening,
    /// Blocks are on their way.
    Sending,
    /// Everything was sent and only the last ACK is missing; the client probably has the file.
    Closing,
}

/// Clients that negotiate nothing repeat their request three to five times.
const OPENING_REPEATS: u8 = 3;

/// Error texts of clients are kept up to here.
const MAX_ERROR_TEXT: usize = 128;

#[derive(Debug)]
enum State {
    Opening(Opening),
    Sending(Sending),
    Over,
}

/// The OACK, or block 1 where there is nothing to acknowledge, waits for its ACK.
#[derive(Debug)]
struct Opening {
    oack: bool,
    resent: bool,
    /// How often block 1 may still leave for a request that comes again.
    repeats_left: u8,
}

/// Positions count blocks from 1 and do not wrap.
#[derive(Debug)]
struct Sending {
    /// Every block up to here has arrived.
    acked: u64,
    /// Every block up to here was sent at least once.
    sent: u64,
    /// Some block of this window was sent more than once.
    resent: bool,
    /// Whether a duplicate ACK would be news, see the module's rules.
    heed_duplicate: bool,
}

#[derive(Debug)]
enum Pending {
    Oack,
    Blocks { first: u64, count: u64 },
    Error { code: ErrorCode, text: String },
}

impl TftpTransfer {
    /// Answers `request` with a file of `content_len` bytes. Netascii is served like octet, byte for
    /// byte: boot files are not text.
    #[must_use]
    pub fn new(now: Instant, request: &ReadRequest, content_len: u64, limits: Limits) -> Self {
        let plan = Plan::negotiate(request.options, content_len, limits);
        let interval = plan.options.timeout.or(limits.timeout_s);
        let oack = !plan.options.is_empty();
        Self {
            state: State::Opening(Opening {
                oack,
                resent: false,
                repeats_left: OPENING_REPEATS,
            }),
            retransmission: if oack {
                Retransmission::opening(now, interval)
            } else {
                Retransmission::awaiting_repeats(now, interval)
            },
            started: now,
            resent_blocks: 0,
            answered: false,
            pending: Some(if oack {
                Pending::Oack
            } else {
                Pending::Blocks { first: 1, count: 1 }
            }),
            event: None,
            plan,
        }
    }

    /// What was agreed: the options of the OACK, empty if none was needed.
    #[must_use]
    pub fn options(&self) -> TransferOptions {
        self.plan.options
    }

    /// How many bytes the client has acknowledged.
    #[must_use]
    pub fn acknowledged_bytes(&self) -> u64 {
        match &self.state {
            State::Opening(_) => 0,
            State::Sending(sending) => self.plan.offset(sending.acked + 1),
            State::Over => self.plan.content_len,
        }
    }

    /// Whether the client has answered from its TID. Until then its address may be forged.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// Takes a packet from the client's TID. Beside ACK and ERROR only the request itself means anything, see
    /// [`Self::handle_repeated_request`]; others are ignored.
    pub fn handle(&mut self, now: Instant, bytes: &[u8]) -> Result<(), DecodeError> {
        match Packet::decode(bytes)? {
            Packet::Ack { block } => self.handle_ack(now, block),
            Packet::Error { code, text } => self.handle_error(code, text),
            Packet::ReadRequest(_) => self.handle_repeated_request(),
            _ => {}
        }
        Ok(())
    }

    /// The client's request came again, at the server's port: what answered it was lost, or the network
    /// doubles packets. Block 1 is sent again; an OACK has its timer.
    pub fn handle_repeated_request(&mut self) {
        if let State::Opening(opening) = &mut self.state
            && !opening.oack
            && opening.repeats_left > 0
        {
            opening.repeats_left -= 1;
            self.resend();
        }
    }

    /// To be called when the time of [`Self::poll_timeout`] has come; earlier it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.retransmission.is_over(now) {
            let phase = self.phase();
            self.end(Event::TimedOut { phase });
        } else if self.retransmission.is_due(now) {
            self.retransmission.back_off(now);
            self.resend();
        }
    }

    /// The next thing to send. Call until it gives nothing.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        match self.pending.take()? {
            Pending::Oack => {
                let packet = Packet::OptionAck(self.plan.options);
                Some(Transmit::Oack(packet.encode()))
            }
            Pending::Blocks { first, count } => {
                let run = self.plan.run_length(first, count);
                if run < count {
                    self.pending = Some(Pending::Blocks {
                        first: first + run,
                        count: count - run,
                    });
                }
                Some(self.plan.blocks(first, run))
            }
            Pending::Error { code, text } => {
                let packet = Packet::Error {
                    code,
                    text: text.as_bytes(),
                };
                Some(Transmit::Error(packet.encode()))
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called. None once the transfer is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Over => None,
            _ => Some(self.retransmission.wakes()),
        }
    }

    /// How it ended, once.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// Whether the transfer has ended, however it did.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Ends the transfer from our side, telling the client why. Gives no event.
    pub fn abort(&mut self, reason: &str) {
        if !self.is_over() {
            self.state = State::Over;
            self.pending = Some(Pending::Error {
                code: ErrorCode::NOT_DEFINED,
                text: reason.to_owned(),
            });
        }
    }

    fn handle_ack(&mut self, now: Instant, block: u16) {
        match &self.state {
            State::Opening(opening) => {
                let position = u64::from(!opening.oack);
                if u64::from(block) == position {
                    let resent = opening.resent;
                    self.answered = true;
                    self.state = State::Sending(Sending {
                        acked: 0,
                        sent: position,
                        resent,
                        heed_duplicate: false,
                    });
                    self.advance(now, position);
                }
            }
            State::Sending(sending) => {
                let position = (sending.acked..=sending.sent)
                    .find(|&position| self.plan.block_number(position) == block);
                match position {
                    Some(position) if position > sending.acked => self.advance(now, position),
                    Some(_) => self.handle_duplicate(),
                    None => {}
                }
            }
            State::Over => {}
        }
    }

    /// Progress: blocks up to `position` have arrived. If that is not the whole window, what follows
    /// was lost and is sent again at once (RFC 7440 section 4) - but only once per window, as a client
    /// reports the copies this makes as further gaps. After that only new blocks leave, and the timer
    /// finds what is truly missing.
    fn advance(&mut self, now: Instant, position: u64) {
        let State::Sending(sending) = &mut self.state else {
            return;
        };
        let last = self.plan.last_block();
        let missing = sending.sent - position;
        self.retransmission
            .progress(now, !sending.resent, missing == 0);
        if position == last {
            let duration = now.since(self.started);
            let retransmits = self.resent_blocks;
            self.end(Event::Done {
                bytes: self.plan.content_len,
                duration,
                retransmits,
            });
            return;
        }
        let repeated = if sending.resent { 0 } else { missing };
        let first = sending.sent - repeated + 1;
        let sent = last.min(position + u64::from(self.plan.windowsize));
        *sending = Sending {
            acked: position,
            sent,
            resent: missing > 0,
            heed_duplicate: missing == 0 && !sending.resent,
        };
        self.count_resent(repeated);
        if first <= sent {
            self.pending = Some(Pending::Blocks {
                first,
                count: sent + 1 - first,
            });
        }
    }

    fn handle_duplicate(&mut self) {
        let State::Sending(sending) = &self.state else {
            return;
        };
        let gap = self.plan.windowsize > 1 && sending.heed_duplicate;
        // A client that is still there after our last retransmission gets what it misses.
        if gap || self.retransmission.is_spent() {
            self.resend();
        }
    }

    fn handle_error(&mut self, code: ErrorCode, text: &[u8]) {
        self.answered = true;
        let probing = matches!(self.state, State::Opening(_))
            && matches!(code, ErrorCode::OPTION_REFUSED | ErrorCode::NOT_DEFINED);
        if probing {
            self.end(Event::Probe);
        } else if !self.is_over() {
            let text = String::from_utf8_lossy(&text[..text.len().min(MAX_ERROR_TEXT)]);
            let text = text.replace(char::is_control, " ");
            self.end(Event::ClientError { code, text });
        }
    }

    /// Sends again what is not acknowledged.
    fn resend(&mut self) {
        let (first, count) = match &mut self.state {
            State::Opening(opening) => {
                opening.resent = true;
                if opening.oack {
                    self.pending = Some(Pending::Oack);
                    return;
                }
                (1, 1)
            }
            State::Sending(sending) => {
                sending.resent = true;
                sending.heed_duplicate = false;
                (sending.acked + 1, sending.sent - sending.acked)
            }
            State::Over => return,
        };
        self.resent_blocks = self
            .resent_blocks
            .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.pending = Some(Pending::Blocks { first, count });
    }

    fn count_resent(&mut self, blocks: u64) {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        self.resent_blocks = self.resent_blocks.saturating_add(blocks);
    }

    fn phase(&self) -> Phase {
        match &self.state {
            State::Opening(_) => Phase::Opening,
            State::Sending(sending) if sending.sent == self.plan.last_block() => Phase::Closing,
            _ => Phase::Sending,
        }
    }

    fn end(&mut self, event: Event) {
        self.state = State::Over;
        self.pending = None;
        self.event = Some(event);
    }
}
