//! Whether an address is free before it is offered: ARP on our own links, ICMP echo behind relays (RFC 2131
//! section 2.2, RFC 5227).
//!
//! Only clients without a running lease on the address wait for it, and each for so short that firmware which
//! asks again after a second does not notice. What was asked of late is not asked again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farrier_net::link::{LinkListener, LinkSender};
use farrier_net::ping::EchoSocket;
use farrier_proto::MacAddr;
use farrier_proto::wire::arp;
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, timeout_at};

/// Who is behind one interface, and behind the relays that speak to us there.
#[derive(Debug)]
pub struct Vacancy {
    interface_index: u32,
    /// None where there is no Ethernet, as on the loopback interface: nobody is asked there.
    mac: Option<MacAddr>,
    sender: Arc<LinkSender>,
    seen: Arc<Mutex<Seen>>,
    /// Opened with the first question, since sockets belong to the runtime they are opened in.
    link: OnceCell<bool>,
    echo: OnceCell<Option<Arc<EchoSocket>>>,
}

/// Somebody uses the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Squatter {
    /// Unknown behind a relay.
    pub mac: Option<MacAddr>,
}

/// How a host can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Link,
    Relayed,
}

impl Vacancy {
    #[must_use]
    pub fn new(interface_index: u32, mac: Option<MacAddr>, sender: Arc<LinkSender>) -> Self {
        Self {
            interface_index,
            mac,
            sender,
            seen: Arc::default(),
            link: OnceCell::new(),
            echo: OnceCell::new(),
        }
    }

    /// Who uses `ip` and is not `client` itself. None too where nobody can be asked.
    pub async fn squatter(&self, ip: Ipv4Addr, client: MacAddr, way: Way) -> Option<Squatter> {
        let (until, changed, is_new) = match lock(&self.seen).begin(ip, Instant::now()) {
            Begun::Known(found) => return found.filter(|found| found.mac != Some(client)),
            Begun::Full => return None,
            Begun::Waiting {
                until,
                changed,
                is_new,
            } => (until, changed, is_new),
        };
        let again = until - WAIT / 2;
        for end in [again, until] {
            if is_new && let Err(error) = self.ask(ip, way).await {
                tracing::debug!(%ip, %error, "it cannot be asked whether an address is free");
                break;
            }
            let heard = changed.notified();
            let found = lock(&self.seen).found(ip);
            if found.is_some() || timeout_at(end, heard).await.is_ok() {
                break;
            }
        }
        let mut seen = lock(&self.seen);
        let found = seen.found(ip);
        if is_new && Instant::now() >= until {
            seen.ended(ip, way);
        }
        found.filter(|found| found.mac != Some(client))
    }

    async fn ask(&self, ip: Ipv4Addr, way: Way) -> io::Result<()> {
        match way {
            Way::Relayed => match self.echo().await {
                Some(echo) => echo.ask(ip).await,
                None => Err(io::ErrorKind::PermissionDenied.into()),
            },
            Way::Link => {
                let mac = self.mac.ok_or(io::ErrorKind::Unsupported)?;
                if !*self.link.get_or_init(|| async { self.listen() }).await {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                let question = arp::probe(mac, ip);
                self.sender
                    .send_frame(arp::ETHERTYPE, MacAddr([0xff; 6]), &question)
            }
        }
    }

    /// Hears ARP from now on, until this value is gone.
    fn listen(&self) -> bool {
        let listener = match LinkListener::open(self.interface_index, arp::ETHERTYPE) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "ARP cannot be heard, so addresses are offered unasked");
                return false;
            }
        };
        let seen = Arc::downgrade(&self.seen);
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok(len) = listener.receive(&mut buffer).await {
                let Some(seen) = seen.upgrade() else { return };
                if let Some((ip, mac)) = arp::claim(&buffer[..len]) {
                    lock(&seen).claimed(ip, Some(mac), Instant::now());
                }
            }
        });
        true
    }

    async fn echo(&self) -> Option<Arc<EchoSocket>> {
        let open = || async {
            let id = u16::try_from(std::process::id() & 0xffff).unwrap_or(1);
            let socket = match EchoSocket::open(id) {
                Ok(socket) => Arc::new(socket),
                Err(error) => {
                    tracing::warn!(%error, "no echo can be sent, so addresses behind relays are offered unasked");
                    return None;
                }
            };
            let (answers, seen) = (Arc::clone(&socket), Arc::downgrade(&self.seen));
            tokio::spawn(async move {
                while let Ok(ip) = answers.answered().await {
                    let Some(seen) = seen.upgrade() else { return };
                    lock(&seen).claimed(ip, None, Instant::now());
                }
            });
            Some(socket)
        };
        self.echo.get_or_init(open).await.clone()
    }
}

/// What was asked of late. Only an address that we ask about is in it, so strangers' ARP cannot fill it.
#[derive(Debug, Default)]
struct Seen {
    questions: HashMap<Ipv4Addr, Question>,
    /// Which addresses each host has claimed, to know routers that answer for all.
    claims: HashMap<MacAddr, HashSet<Ipv4Addr>>,
    /// Addresses on our links that answered, one after the other without one that did not.
    links: usize,
    /// The same behind relays.
    relayed: usize,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Question {
    asked: Instant,
    found: Option<Squatter>,
    /// Something answered, believed or not.
    heard: bool,
    changed: Arc<Notify>,
}

enum Begun {
    Known(Option<Squatter>),
    Full,
    Waiting {
        until: Instant,
        changed: Arc<Notify>,
        is_new: bool,
    },
}

impl Seen {
    fn begin(&mut self, ip: Ipv4Addr, now: Instant) -> Begun {
        self.sweep(now);
        if let Some(question) = self.questions.get(&ip) {
            let until = question.asked + WAIT;
            if question.found.is_some() || until <= now {
                return Begun::Known(question.found);
            }
            let changed = Arc::clone(&question.changed);
            return Begun::Waiting {
                until,
                changed,
                is_new: false,
            };
        }
        if self.questions.len() >= MAX_QUESTIONS {
            return Begun::Full;
        }
        let changed = Arc::new(Notify::new());
        let question = Question {
            asked: now,
            found: None,
            heard: false,
            changed: Arc::clone(&changed),
        };
        self.questions.insert(ip, question);
        Begun::Waiting {
            until: now + WAIT,
            changed,
            is_new: true,
        }
    }

    fn found(&self, ip: Ipv4Addr) -> Option<Squatter> {
        self.questions.get(&ip)?.found
    }

    /// Somebody says that `ip` is its own. Whoever answers for every address is believed a few times only, since it
    /// would empty the pool: a router (proxy ARP), a firewall behind a relay, an attacker with a hardware address for
    /// each.
    fn claimed(&mut self, ip: Ipv4Addr, mac: Option<MacAddr>, now: Instant) {
        let Some(question) = self.questions.get_mut(&ip) else {
            return;
        };
        if question.asked + WAIT < now {
            // A client that took what it was offered announces it.
            return;
        }
        if let Some(mac) = mac {
            if self.claims.len() >= MAX_CLAIMANTS && !self.claims.contains_key(&mac) {
                return;
            }
            let claims = self.claims.entry(mac).or_default();
            claims.insert(ip);
            if claims.len() > MAX_CLAIMS {
                tracing::warn!(%mac, "a host answers ARP for many addresses and is not believed");
                return;
            }
        }
        if !std::mem::replace(&mut question.heard, true) {
            let in_a_row = match mac {
                Some(_) => &mut self.links,
                None => &mut self.relayed,
            };
            *in_a_row = in_a_row.saturating_add(1);
            if *in_a_row > MAX_IN_A_ROW {
                tracing::warn!(%ip, "every address that is asked for answers, so no answer is believed; are hosts with \
                    fixed addresses in the range?");
                return;
            }
        } else if question.found.is_none() {
            return;
        }
        question.found = Some(Squatter { mac });
        question.changed.notify_waiters();
    }

    /// The time to answer for an address is over.
    fn ended(&mut self, ip: Ipv4Addr, way: Way) {
        if self.questions.get(&ip).is_some_and(|asked| !asked.heard) {
            match way {
                Way::Link => self.links = 0,
                Way::Relayed => self.relayed = 0,
            }
        }
    }

    /// Forgets what is old, now and then.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|last| now < last + SWEEP_EACH) {
            return;
        }
        self.swept = Some(now);
        self.questions
            .retain(|_, question| now < question.asked + GOOD_FOR);
        let questions = &self.questions;
        self.claims.retain(|_, claims| {
            claims.len() > MAX_CLAIMS || claims.iter().any(|ip| questions.contains_key(ip))
        });
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hosts on a LAN answer ARP in a few milliseconds. The most impatient firmware asks again after a second, and
/// nine of ten offers should be out after a quarter.
const WAIT: Duration = Duration::from_millis(150);
/// A client that asks again after this is worth another question.
const GOOD_FOR: Duration = Duration::from_secs(60);
const SWEEP_EACH: Duration = Duration::from_secs(5);
/// More than come in a boot storm of ten thousand machines within [`GOOD_FOR`]; beyond it nobody is asked.
const MAX_QUESTIONS: usize = 16_384;
/// A host with more addresses of ours than this is a router with proxy ARP.
const MAX_CLAIMS: usize = 3;
/// So many hosts in a row with addresses of our ranges are no hosts but one that answers for all.
const MAX_IN_A_ROW: usize = 16;
/// Invented hardware addresses are not kept without end.
const MAX_CLAIMANTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn mac(last: u8) -> MacAddr {
        MacAddr([0x52, 0x54, 0, 0, 0, last])
    }

    fn is_new(begun: &Begun) -> bool {
        matches!(begun, Begun::Waiting { is_new: true, .. })
    }

    #[test]
    fn an_address_is_asked_for_once_in_a_while_and_the_answer_is_remembered() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert!(is_new(&seen.begin(ip(1), start)));
        let again = seen.begin(ip(1), start);
        assert!(
            matches!(again, Begun::Waiting { is_new: false, .. }),
            "the second waits with the first"
        );
        seen.claimed(ip(1), Some(mac(9)), start);
        seen.claimed(ip(2), Some(mac(9)), start);
        let found = Some(Squatter { mac: Some(mac(9)) });
        assert_eq!(seen.found(ip(1)), found);
        assert_eq!(seen.questions.len(), 1, "what nobody asked is not kept");
        let later = start + GOOD_FOR + SWEEP_EACH;
        assert!(is_new(&seen.begin(ip(1), later)));
        let taken = later + WAIT * 2;
        seen.claimed(ip(1), Some(mac(1)), taken);
        assert!(
            matches!(seen.begin(ip(1), taken), Begun::Known(None)),
            "who announces later took the offer"
        );
    }

    #[test]
    fn a_router_that_answers_for_all_is_believed_a_few_times_only() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        for last in 1..=9 {
            seen.begin(ip(last), start);
            seen.claimed(ip(last), Some(mac(200)), start);
        }
        let believed = (1..=9).filter(|last| seen.found(ip(*last)).is_some());
        assert_eq!(believed.count(), MAX_CLAIMS);
        let later = start + GOOD_FOR * 2;
        seen.begin(ip(20), later);
        seen.claimed(ip(20), Some(mac(200)), later);
        assert_eq!(seen.found(ip(20)), None, "it is still known for what it is");
    }

    #[test]
    fn a_firewall_that_answers_for_all_behind_a_relay_does_not_empty_the_range() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let mut ask = |last: u8, answered: bool| {
            seen.begin(ip(last), start);
            if answered {
                seen.claimed(ip(last), None, start);
                seen.claimed(ip(last), None, start);
            }
            seen.ended(ip(last), Way::Relayed);
            seen.found(ip(last)).is_some()
        };
        let believed = (1..=40).filter(|last| ask(*last, true));
        assert_eq!(believed.count(), MAX_IN_A_ROW);
        assert!(!ask(50, false));
        assert!(
            ask(51, true),
            "one that is free shows that it is no firewall"
        );
    }

    #[test]
    fn t10_an_attacker_with_a_hardware_address_for_each_does_not_empty_the_range() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        for last in 1..=200 {
            seen.begin(ip(last), start);
            seen.claimed(ip(last), Some(mac(last)), start);
            seen.ended(ip(last), Way::Link);
        }
        let believed = (1..=200).filter(|last| seen.found(ip(*last)).is_some());
        assert_eq!(believed.count(), MAX_IN_A_ROW);
    }

    #[test]
    fn what_strangers_make_us_ask_is_bounded() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        for number in 0..u32::try_from(MAX_QUESTIONS).unwrap() {
            seen.begin(Ipv4Addr::from(number + 1), start);
        }
        assert!(matches!(
            seen.begin(Ipv4Addr::BROADCAST, start),
            Begun::Full
        ));
        let later = start + GOOD_FOR + SWEEP_EACH;
        assert!(is_new(&seen.begin(Ipv4Addr::BROADCAST, later)));
    }
}
