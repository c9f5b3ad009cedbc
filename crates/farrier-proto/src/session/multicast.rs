//! One file on its way to many TFTP clients at once: RFC 2090, and MTFTP of PXE 2.1.
//!
//! Both are one lock-step stream to a group, of which one client sends the ACKs: each ACK asks for the block after
//! it. Who listens from the start needs nothing more; who came late asks for what it lacks when its turn comes. They
//! differ in how a client learns that it is its turn:
//!
//! - RFC 2090: by an OACK with `mc` 1, and from then on it asks for whichever blocks it lacks. Everybody else has an
//!   OACK with `mc` 0 and waits.
//! - MTFTP: by block 1, which goes to it and to the group. There are no options, so blocks have 512 bytes. A stream
//!   runs from the first block to the last; who missed some listens to the next one, or opens it.
//!
//! The caller keeps content and sockets. It calls [`MulticastStream::request`] for each read request,
//! [`MulticastStream::handle`] for other packets of clients, and [`MulticastStream::handle_timeout`] when
//! [`MulticastStream::poll_timeout`] has come; after each it sends what [`MulticastStream::poll_transmit`] gives and
//! reads [`MulticastStream::poll_event`], both until they give nothing. After [`Event::Over`] the stream is no more.
//!
//! Rules that keep one client from harming the others:
//! - Only progress counts. Who repeats itself without receiving anything, as behind a switch that drops the group, is
//!   passed over like one that is silent.
//! - Within one turn the blocks only go up. A late duplicate of an ACK would send a block again that others take for
//!   the end of the stream (edk2's first MTFTP client gives up on it).
//! - No data leaves before the first ACK but MTFTP's block 1, so a forged request starts no stream.
//! - Whoever has acknowledged the last block is not asked again, whether it was its turn or not.

mod turn;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

use turn::{Turn, Waiting};

use crate::Instant;
use crate::session::tftp_transfer::Phase;
use crate::wire::DecodeError;
use crate::wire::tftp::{ErrorCode, Multicast, Packet, TransferOptions};

/// A stream, seen from the server.
#[derive(Debug)]
pub struct MulticastStream {
    dialect: Dialect,
    group: SocketAddrV4,
    content_len: u64,
    blksize: u16,
    /// Oldest first; who was passed over comes after all others.
    members: Vec<Member>,
    state: State,
    /// Block 1 leaves no sooner.
    opens: Instant,
    blocks: u64,
    pending: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// Which of the two protocols, and what it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The first block waits so long for more clients to come: a classroom is switched on within a second, and who
    /// misses no block needs no turn.
    Rfc2090 { gather: Duration },
    /// Sub-option 5 of option 43: who hears nothing for so long stops listening and opens a stream itself.
    Mtftp { delay: Duration },
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// An OACK.
    Packet { to: SocketAddrV4, bytes: Vec<u8> },
    /// A DATA packet with `len` bytes of content from `offset`, to the group or to one client.
    Block {
        to: SocketAddrV4,
        block: u16,
        offset: u64,
        len: u16,
    },
}

/// What has become of a client, or of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has acknowledged the last block.
    Done {
        peer: SocketAddrV4,
        duration: Duration,
    },
    /// It gave up.
    ClientError {
        peer: SocketAddrV4,
        code: ErrorCode,
        text: String,
    },
    /// It fell silent, or made no progress.
    TimedOut { peer: SocketAddrV4, phase: Phase },
    /// Nobody is left. So many blocks went to the group.
    Over { blocks: u64 },
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    Yes,
    /// It is one of the stream already, and asked again.
    Again,
    /// [`MAX_MEMBERS`] are reached, or the stream is over.
    No,
}

/// Clients of one stream; a large lecture hall.
pub const MAX_MEMBERS: usize = 512;

/// RFC 1350; the only size of MTFTP.
pub const DEFAULT_BLKSIZE: u16 = 512;

/// Whether a file can be sent so: block numbers do not start over, since a client that joins late could not tell
/// which block it sees.
#[must_use]
pub fn fits(content_len: u64, blksize: u16) -> bool {
    content_len / u64::from(blksize.max(1)) < u64::from(u16::MAX)
}

#[derive(Debug)]
struct Member {
    peer: SocketAddrV4,
    options: TransferOptions,
    since: Instant,
    /// When it asked last.
    asked: Instant,
    /// How often it was its turn and nothing came of it.
    strikes: u8,
    /// OACKs that may still leave for requests that come again.
    repeats_left: u8,
}

#[derive(Debug)]
enum State {
    Turn(Turn),
    /// MTFTP after the opening client has gone: silence lets who listens notice.
    Pause {
        until: Instant,
    },
    Over,
}

/// As with a single transfer.
const REPEATS: u8 = 3;
/// Passed over this often, a client is given up (RFC 2090: "a reasonable number of attempts").
const STRIKES: u8 = 2;
const MAX_ERROR_TEXT: usize = 128;

impl MulticastStream {
    /// A stream of `content_len` bytes to `group`, which must [fit](fits) `blksize`. It waits for its first request.
    #[must_use]
    pub fn new(
        now: Instant,
        dialect: Dialect,
        group: SocketAddrV4,
        (content_len, blksize): (u64, u16),
    ) -> Self {
        let gather = match dialect {
            Dialect::Rfc2090 { gather } => gather,
            Dialect::Mtftp { .. } => Duration::ZERO,
        };
        Self {
            dialect,
            group,
            content_len,
            blksize: blksize.max(1),
            members: Vec::new(),
            state: State::Pause {
                until: now + ABANDONED,
            },
            opens: now + gather,
            blocks: 0,
            pending: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether a client that asks with these options can read along.
    #[must_use]
    pub fn suits(&self, offered: &TransferOptions) -> bool {
        self.blksize <= offered.blksize.unwrap_or(DEFAULT_BLKSIZE)
            && (offered.blksize.is_some() || self.blksize == DEFAULT_BLKSIZE)
    }

    #[must_use]
    pub fn blksize(&self) -> u16 {
        self.blksize
    }

    #[must_use]
    pub fn group(&self) -> SocketAddrV4 {
        self.group
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    #[must_use]
    pub fn has(&self, peer: SocketAddrV4) -> bool {
        self.member(peer).is_some()
    }

    /// A client asks for the file.
    pub fn request(
        &mut self,
        now: Instant,
        peer: SocketAddrV4,
        offered: &TransferOptions,
    ) -> Joined {
        if self.has(peer) {
            self.requested_again(now, peer);
            return Joined::Again;
        }
        if self.is_over() || self.members.len() >= MAX_MEMBERS {
            return Joined::No;
        }
        let passed_over = self.members.iter().position(|m| m.strikes > 0);
        let newcomer = Member {
            peer,
            options: TransferOptions {
                blksize: offered.blksize.map(|_| self.blksize),
                tsize: offered.tsize.map(|_| self.content_len),
                ..TransferOptions::default()
            },
            since: now,
            asked: now,
            strikes: 0,
            repeats_left: REPEATS,
        };
        self.members
            .insert(passed_over.unwrap_or(self.members.len()), newcomer);
        match &self.state {
            State::Pause { .. } => self.invite(now, peer),
            // It is in the state in which block 1 tells it that it is its turn, which does not last.
            State::Turn(turn) if self.dialect.is_mtftp() && turn.is_stuck(now) => {
                let stuck = turn.peer();
                self.give_up(stuck);
                self.invite(now, peer);
            }
            State::Turn(_) => self.tell(peer, false),
            State::Over => {}
        }
        Joined::Yes
    }

    /// Takes a packet of a client. Beside ACK and ERROR nothing means anything here.
    pub fn handle(
        &mut self,
        now: Instant,
        peer: SocketAddrV4,
        bytes: &[u8],
    ) -> Result<(), DecodeError> {
        match Packet::decode(bytes)? {
            Packet::Ack { block } => self.handle_ack(now, peer, block),
            Packet::Error { code, text } => self.handle_error(now, peer, code, text),
            _ => {}
        }
        Ok(())
    }

    /// To be called when the time of [`Self::poll_timeout`] has come; earlier it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let others = self.others();
        match &mut self.state {
            State::Pause { until } if *until <= now => self.next(now),
            State::Turn(turn) if turn.is_over(now, others) => {
                let peer = turn.peer();
                self.pass_over(now, peer);
            }
            State::Turn(turn) if turn.is_due(now) => {
                turn.back_off(now);
                self.send_turn();
            }
            _ => {}
        }
    }

    /// The next thing to send. Call until it gives nothing.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.pending.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called. None once the stream is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Turn(turn) => Some(turn.wakes(self.others())),
            State::Pause { until } => Some(*until),
            State::Over => None,
        }
    }

    /// What has happened. Call until it gives nothing.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn requested_again(&mut self, now: Instant, peer: SocketAddrV4) {
        if let Some(member) = self.members.iter_mut().find(|m| m.peer == peer) {
            member.asked = now;
        }
        let own_turn = match &self.state {
            State::Turn(turn) => turn.peer() == peer,
            State::Pause { .. } => return self.invite(now, peer),
            State::Over => return,
        };
        if let State::Turn(turn) = &self.state
            && self.dialect.is_mtftp()
        {
            // Its turn got stuck, and it starts over; or another's did. A duplicate of the first request must not
            // take a running stream back to its start.
            let restart = turn.is_stuck(now) && (!own_turn || !turn.is_invited());
            if restart {
                let stuck = turn.peer();
                if stuck != peer {
                    self.give_up(stuck);
                }
                return self.invite(now, peer);
            }
            if !own_turn || !turn.is_invited() {
                return;
            }
        }
        let Some(member) = self.members.iter_mut().find(|m| m.peer == peer) else {
            return;
        };
        if member.repeats_left == 0 {
            return;
        }
        member.repeats_left -= 1;
        match self.dialect {
            Dialect::Rfc2090 { .. } => self.tell(peer, own_turn),
            Dialect::Mtftp { .. } => self.open_with(peer),
        }
    }

    fn handle_ack(&mut self, now: Instant, peer: SocketAddrV4, block: u16) {
        let Some(member) = self.member(peer) else {
            return;
        };
        let (position, last) = (u64::from(block), self.last_block());
        if position == last {
            let duration = now.since(member.since);
            self.events.push_back(Event::Done { peer, duration });
            return self.leave(now, peer);
        }
        let opens = self.opens;
        let State::Turn(turn) = &mut self.state else {
            return;
        };
        if turn.peer() == peer && position < last && turn.asks_after(now, opens, block) {
            if let Some(member) = self.members.iter_mut().find(|m| m.peer == peer) {
                member.strikes = 0;
            }
            self.send_turn();
        }
    }

    fn handle_error(&mut self, now: Instant, peer: SocketAddrV4, code: ErrorCode, text: &[u8]) {
        if !self.has(peer) {
            return;
        }
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_ERROR_TEXT)]);
        let text = text.replace(char::is_control, " ");
        self.events
            .push_back(Event::ClientError { peer, code, text });
        self.leave(now, peer);
    }

    /// A client is out of the stream, which goes on with the next if it was its turn. Gives no event of its own.
    pub fn leave(&mut self, now: Instant, peer: SocketAddrV4) {
        self.members.retain(|member| member.peer != peer);
        let mut own_turn = matches!(&self.state, State::Turn(turn) if turn.peer() == peer);
        own_turn |= self.members.is_empty();
        if own_turn {
            self.next(now);
        }
    }

    /// Nothing came of its turn.
    fn pass_over(&mut self, now: Instant, peer: SocketAddrV4) {
        let Some(at) = self.members.iter().position(|member| member.peer == peer) else {
            return self.next(now);
        };
        self.members[at].strikes += 1;
        let stays = !self.dialect.is_mtftp()
            && self.members.len() > 1
            && self.members[at].strikes < STRIKES;
        if stays {
            let member = self.members.remove(at);
            self.members.push(member);
            self.tell(peer, false);
            return self.next(now);
        }
        let begun = matches!(&self.state, State::Turn(turn) if !turn.is_invited());
        self.give_up(peer);
        match self.dialect {
            // Only who has lost patience with the stream takes block 1 for its turn.
            Dialect::Mtftp { delay } if begun => {
                self.state = State::Pause {
                    until: now + delay + PAUSE_MARGIN,
                };
            }
            _ => self.next(now),
        }
    }

    /// Removes a client that answers no more, whoever's turn it is.
    fn give_up(&mut self, peer: SocketAddrV4) {
        let phase = match &self.state {
            State::Turn(turn) if turn.peer() == peer => match turn.waiting() {
                Waiting::Invited => Phase::Opening,
                Waiting::After(block) if u64::from(block) + 1 == self.last_block() => {
                    Phase::Closing
                }
                Waiting::After(_) => Phase::Sending,
            },
            _ => Phase::Opening,
        };
        self.members.retain(|member| member.peer != peer);
        self.events.push_back(Event::TimedOut { peer, phase });
    }

    fn next(&mut self, now: Instant) {
        match self.members.first() {
            Some(member) => self.invite(now, member.peer),
            None => {
                self.state = State::Over;
                self.events.push_back(Event::Over {
                    blocks: self.blocks,
                });
            }
        }
    }

    /// It is this client's turn.
    fn invite(&mut self, now: Instant, peer: SocketAddrV4) {
        let strikes = self.member(peer).map_or(0, |member| member.strikes);
        // Who has just asked is there; who asked a while ago may be gone.
        let fresh = self.member(peer).is_some_and(|member| member.asked == now);
        self.state = State::Turn(Turn::new(now, peer, strikes > 0 || fresh));
        self.send_turn();
    }

    /// Sends what the client whose turn it is waits for.
    fn send_turn(&mut self) {
        let State::Turn(turn) = &self.state else {
            return;
        };
        let peer = turn.peer();
        match (turn.waiting(), self.dialect) {
            (Waiting::After(_), _) if turn.is_held() => {}
            (Waiting::After(block), _) => self.send_block(self.group, block + 1),
            (Waiting::Invited, Dialect::Rfc2090 { .. }) => self.tell(peer, true),
            (Waiting::Invited, Dialect::Mtftp { .. }) => self.open_with(peer),
        }
    }

    /// RFC 2090: an OACK, which tells whose turn it is. MTFTP has no word for it.
    fn tell(&mut self, peer: SocketAddrV4, master: bool) {
        let Some(member) = self.member(peer).filter(|_| !self.dialect.is_mtftp()) else {
            return;
        };
        let joined = Multicast::Joined {
            group: Some(self.group),
            master,
        };
        let bytes = Packet::OptionAck(TransferOptions {
            multicast: Some(joined),
            ..member.options
        })
        .encode();
        self.pending.push_back(Transmit::Packet { to: peer, bytes });
    }

    /// MTFTP: block 1 for the client and for all.
    fn open_with(&mut self, peer: SocketAddrV4) {
        self.send_block(peer, 1);
        self.send_block(self.group, 1);
    }

    fn send_block(&mut self, to: SocketAddrV4, block: u16) {
        let offset = (u64::from(block) - 1) * u64::from(self.blksize);
        let left = self.content_len.saturating_sub(offset);
        self.blocks += u64::from(to == self.group);
        self.pending.push_back(Transmit::Block {
            to,
            block,
            offset,
            len: u16::try_from(left).unwrap_or(u16::MAX).min(self.blksize),
        });
    }

    /// Whether somebody else waits, as far as anybody can tell: who listens to MTFTP says nothing.
    fn others(&self) -> bool {
        self.members.len() > 1 || self.dialect.is_mtftp()
    }

    fn member(&self, peer: SocketAddrV4) -> Option<&Member> {
        self.members.iter().find(|member| member.peer == peer)
    }

    /// The last block is the one that is not full, so a file of whole blocks ends with an empty one.
    fn last_block(&self) -> u64 {
        self.content_len / u64::from(self.blksize) + 1
    }
}

impl Dialect {
    fn is_mtftp(self) -> bool {
        matches!(self, Self::Mtftp { .. })
    }
}

/// A stream that nobody joins ends by itself.
const ABANDONED: Duration = Duration::from_secs(1);
/// Clients count whole seconds, some with a tenth more.
const PAUSE_MARGIN: Duration = Duration::from_millis(300);
