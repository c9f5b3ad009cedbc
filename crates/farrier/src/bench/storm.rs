//! `farrier bench storm`: machines that boot, from the first DISCOVER to the script on their screen.
//!
//! Each has an address of its own, so that the server sees it as it would see a real one. This host must
//! therefore hold a whole network: `ip route add local 10.78.0.0/16 dev lo`, and the server must have a
//! route to it through this host.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType};
use farrier_proto::wire::option;
use tokio::net::UdpSocket;

use super::BOOT_SERVER_PORT;
use super::http::{Connection, Place};
use super::profile::{Firmware, Profile};
use super::relay::{Dora, Lease, Relay, arrivals, mac};
use super::tally::{Report, Tally};
use super::tftp::{Dice, Fetch};
use crate::exit::Failure;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server to boot from.
    #[arg(value_name = "SERVER")]
    target: Ipv4Addr,
    /// An address of this host, for the relay agent that the machines seem to be behind.
    #[arg(long)]
    relay: Ipv4Addr,
    #[arg(long, default_value_t = 10_000)]
    machines: u32,
    /// Within how many seconds all of them are switched on.
    #[arg(long, default_value_t = 60)]
    over: u32,
    /// Which firmware the machines have, in turn.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Firmware::Edk2X64, Firmware::IpxeBios, Firmware::Edk2Http])]
    firmware: Vec<Firmware>,
    /// Another server gives addresses: the machines have theirs already, from this one on, and ask for the
    /// boot file only.
    #[arg(long, value_name = "FIRST_ADDRESS")]
    proxy: Option<Ipv4Addr>,
    /// Other numbers are other machines.
    #[arg(long, default_value_t = 1)]
    seed: u16,
}

pub(super) async fn run(options: Options) -> anyhow::Result<Vec<Report>> {
    let site = Arc::new(Site {
        relay: Relay::open(options.target, options.relay).await?,
        server: options.target,
        proxy: options.proxy,
        holders: Mutex::default(),
    });
    if let Some(first) = options.proxy {
        check_address(first).await?;
    }
    let profiles: Vec<Profile> = options.firmware.iter().map(|f| f.profile()).collect();
    let rate = f64::from(options.machines) / f64::from(options.over.max(1));
    let started = Instant::now();
    let stories = arrivals(options.machines, rate, |number| {
        let profile = profiles[number as usize % profiles.len()];
        let machine = Machine {
            site: Arc::clone(&site),
            number,
            mac: mac(options.seed, number),
            story: Story::default(),
        };
        tokio::spawn(machine.boot(profile))
    })
    .await;
    let mut all = Story::default();
    for story in stories {
        all.add(story);
    }
    Ok(vec![
        all.dora.offers.report("offer", started),
        all.dora.acks.report("ack", started),
        all.boot_server.report("boot server", started),
        all.loaders.report("loader", started),
        all.scripts.report("script", started),
        all.boots.report("boot", started),
    ])
}

/// What all machines share.
#[derive(Debug)]
struct Site {
    relay: Arc<Relay>,
    server: Ipv4Addr,
    proxy: Option<Ipv4Addr>,
    /// Who was given which address: nobody else may be.
    holders: Mutex<HashMap<Ipv4Addr, MacAddr>>,
}

#[derive(Debug, Default)]
struct Story {
    dora: Dora,
    boot_server: Tally,
    loaders: Tally,
    scripts: Tally,
    boots: Tally,
}

impl Story {
    fn add(&mut self, other: Self) {
        self.dora.offers.add(other.dora.offers);
        self.dora.acks.add(other.dora.acks);
        self.boot_server.add(other.boot_server);
        self.loaders.add(other.loaders);
        self.scripts.add(other.scripts);
        self.boots.add(other.boots);
    }
}

struct Machine {
    site: Arc<Site>,
    number: u32,
    mac: MacAddr,
    story: Story,
}

impl Machine {
    async fn boot(mut self, profile: Profile) -> Story {
        let started = Instant::now();
        let mut boot = self.stages(profile).await;
        if boot.is_err() {
            // The network stays first in its boot order: it begins anew.
            self.story.boots.resent(1);
            boot = self.stages(profile).await;
        }
        match boot {
            Ok(()) => self.story.boots.done(started.elapsed(), 0),
            Err(why) => self.story.boots.failed(why),
        }
        self.story
    }

    async fn stages(&mut self, firmware: Profile) -> Result<(), String> {
        let mut lease = self.ask(&firmware).await?;
        let first = lease.ip;
        if !is_script(&lease.boot_file) {
            self.load(&firmware, &lease).await?;
            lease = self.ask(&firmware.loaded()).await?;
            if lease.ip != first {
                return Err("the loader got another address than the firmware".to_owned());
            }
        }
        self.script(&lease).await
    }

    /// An address and a boot file.
    async fn ask(&mut self, profile: &Profile) -> Result<Lease, String> {
        let lease = match self.site.proxy {
            None => {
                self.site
                    .relay
                    .lease(profile, self.mac, &mut self.story.dora)
                    .await?
            }
            Some(first) => {
                let own = Ipv4Addr::from_bits(first.to_bits() + self.number);
                self.ask_proxy(profile, own).await?
            }
        };
        let mut holders = self
            .site
            .holders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let holder = *holders.entry(lease.ip).or_insert(self.mac);
        if holder != self.mac {
            return Err(format!("{} was given to two machines", lease.ip));
        }
        if lease.boot_file.is_empty() {
            return Err("an address, but nothing to boot".to_owned());
        }
        Ok(lease)
    }

    /// An offer without an address, and, when it has no boot menu that is final, port 4011.
    async fn ask_proxy(&mut self, profile: &Profile, own: Ipv4Addr) -> Result<Lease, String> {
        let relay = &self.site.relay;
        let offer = relay
            .offer(profile, self.mac, &mut self.story.dora.offers)
            .await?;
        let is_final = offer.options.contains(option::VENDOR_SPECIFIC_INFORMATION);
        let is_http = offer
            .options
            .get(option::VENDOR_CLASS_IDENTIFIER)
            .is_some_and(|class| class.starts_with(b"HTTPClient"));
        let answer = if is_final || is_http {
            offer
        } else {
            let mut request = profile.message(MessageType::Request, offer.xid, self.mac);
            request.ciaddr = own;
            let started = Instant::now();
            let answer =
                boot_server(profile, &request, offer.siaddr, &mut self.story.boot_server).await;
            match answer {
                Ok(answer) => {
                    self.story.boot_server.done(started.elapsed(), 0);
                    answer
                }
                Err(why) => {
                    self.story.boot_server.failed(why.clone());
                    return Err(why);
                }
            }
        };
        Ok(Lease::read(&answer, self.site.server).at(own))
    }

    /// The first-stage loader, the way the firmware fetches.
    async fn load(&mut self, firmware: &Profile, lease: &Lease) -> Result<(), String> {
        if let Some(place) = Place::parse(&lease.boot_file) {
            let (loaders, started) = (&mut self.story.loaders, Instant::now());
            return match get(lease.ip, &place, None).await {
                Ok(bytes) => {
                    loaders.done(started.elapsed(), bytes);
                    Ok(())
                }
                Err(why) => {
                    loaders.failed(why.clone());
                    Err(why)
                }
            };
        }
        let fetch = Fetch {
            from: lease.ip,
            server: lease.next_server,
            name: lease.boot_file.clone(),
            options: firmware.tftp,
            expected: None,
            loss: 0.0,
        };
        if firmware.asks_size {
            fetch.ask_size().await?;
        }
        let mut dice = Dice(1);
        if fetch.once(&mut self.story.loaders, &mut dice).await {
            Ok(())
        } else {
            Err("the loader did not arrive".to_owned())
        }
    }

    /// The first script, then the machine's own: what iPXE does.
    async fn script(&mut self, lease: &Lease) -> Result<(), String> {
        let started = Instant::now();
        let scripts = &mut self.story.scripts;
        let fetched = async {
            let place = Place::parse(&lease.boot_file).ok_or("the script's URL cannot be read")?;
            let mut text = Vec::new();
            get(lease.ip, &place, Some(&mut text)).await?;
            let own = Place {
                path: format!(
                    "/boot/script?mac={}&platform=efi&buildarch=x86_64",
                    self.mac
                ),
                ..place
            };
            let mut script = Vec::new();
            let mut bytes = get(lease.ip, &own, Some(&mut script)).await?;
            if let Some(path) = named_in(&script) {
                script.clear();
                let named = Place { path, ..own };
                bytes += get(lease.ip, &named, Some(&mut script)).await?;
            }
            if !text.starts_with(b"#!ipxe") || !script.starts_with(b"#!ipxe") {
                return Err("what came is no script".to_owned());
            }
            Ok(bytes + text.len() as u64)
        };
        match fetched.await {
            Ok(bytes) => {
                scripts.done(started.elapsed(), bytes);
                Ok(())
            }
            Err(why) => {
                scripts.failed(why.clone());
                Err(why)
            }
        }
    }
}

/// Asks port 4011 from our own, as edk2 does, until the firmware would give up.
async fn boot_server(
    profile: &Profile,
    request: &Message,
    server: Ipv4Addr,
    tally: &mut Tally,
) -> Result<Message, String> {
    let own = SocketAddrV4::new(request.ciaddr, BOOT_SERVER_PORT);
    let socket = UdpSocket::bind(own)
        .await
        .map_err(|e| format!("{own} cannot be used: {e}"))?;
    let mut buffer = [0; 2048];
    for (sent, wait) in profile.waits().enumerate() {
        tally.resent(u64::from(sent > 0));
        let _ = socket
            .send_to(&request.encode(), (server, BOOT_SERVER_PORT))
            .await;
        let Ok(Ok(len)) = tokio::time::timeout(wait, socket.recv(&mut buffer)).await else {
            continue;
        };
        if let Ok(answer) = Message::decode(&buffer[..len])
            && answer.message_type() == Some(MessageType::Ack)
        {
            return Ok(answer);
        }
    }
    Err("no answer on port 4011 within the firmware's tries".to_owned())
}

/// GET, tried again as iPXE does while the server is away.
async fn get(from: Ipv4Addr, place: &Place, mut keep: Option<&mut Vec<u8>>) -> Result<u64, String> {
    if place.tls {
        return Err("it is sent to HTTPS, which a storm does not speak".to_owned());
    }
    let mut last = String::new();
    for _ in 0..CONNECTS {
        if let Some(keep) = &mut keep {
            keep.clear();
        }
        let fetched = async {
            Connection::open(from, place.server, None)
                .await?
                .get(place, None, keep.as_deref_mut())
                .await
        };
        match tokio::time::timeout(PATIENCE, fetched).await {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(why)) => last = why,
            Err(_) => "no answer in time".clone_into(&mut last),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

/// The path of the script that an answer sends iPXE to, if it is under a name of its own.
fn named_in(answer: &[u8]) -> Option<String> {
    let answer = str::from_utf8(answer).ok()?;
    let line = answer.lines().find(|line| line.starts_with("chain "))?;
    let (_, name) = line.split_once("/boot/named/")?;
    let name = name.split(' ').next()?;
    Some(format!("/boot/named/{name}"))
}

fn is_script(boot_file: &str) -> bool {
    boot_file.ends_with(".ipxe")
}

async fn check_address(first: Ipv4Addr) -> anyhow::Result<()> {
    match UdpSocket::bind((first, 0)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::usage(format!("{first} cannot be used: {error}"))
            .hint("this host must hold the machines' network: ip route add local NETWORK dev lo")
            .into()),
    }
}

/// iPXE repeats a lost SYN after 1, 2, 4 ... seconds and gives up after about a minute.
const CONNECTS: u32 = 8;
const PAUSE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
