//! `farrier bench http`, and the client that the storm uses too: HTTP/1.1 by hand, since loaders speak it
//! simply and a full client would cost more than the server that is measured.

mod tls;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::tally::{Report, Tally};
use super::tftp::own_address;
use crate::exit::Failure;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to fetch, with an address and not a name.
    url: String,
    /// Machines that fetch at the same time.
    #[arg(long, default_value_t = 16)]
    clients: u32,
    /// Gives each machine an address of its own, from this one on; this host must hold their network
    /// (`ip route add local NETWORK dev lo`).
    #[arg(long, value_name = "FIRST_ADDRESS")]
    from: Option<Ipv4Addr>,
    /// Fetches in all.
    #[arg(long, default_value_t = 64)]
    count: u32,
    /// Fetches pieces of this many bytes, one after the other, of a file of `--of` bytes.
    #[arg(long, requires = "of")]
    range: Option<u64>,
    #[arg(long)]
    of: Option<u64>,
    /// A new connection for each fetch.
    #[arg(long)]
    close: bool,
    /// Who signs the certificates of an https:// server: a PEM file. No session is taken up again, as by firmware.
    #[arg(long, value_name = "PEM")]
    trust: Option<PathBuf>,
}

pub(super) async fn run(options: Options) -> anyhow::Result<Vec<Report>> {
    let place = Place::parse(&options.url).ok_or_else(|| {
        Failure::usage("the URL must look like http://192.0.2.1:8067/boot/first.ipxe")
    })?;
    let tls = match (place.tls, &options.trust) {
        (true, Some(pem)) => Some(tls::trusting(pem)?),
        (true, None) => {
            let missing =
                "an https:// URL needs --trust, the PEM file of who signs the server's certificate";
            return Err(Failure::usage(missing).into());
        }
        (false, _) => None,
    };
    let (place, options) = (Arc::new(place), Arc::new(options));
    let taken = Arc::new(AtomicU32::new(0));
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..options.clients {
        let (place, options, taken) =
            (Arc::clone(&place), Arc::clone(&options), Arc::clone(&taken));
        let tls = tls.clone();
        let from = own_address(options.from, client);
        clients.spawn(async move { fetches(&place, tls.as_ref(), from, &options, &taken).await });
    }
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all.add(tally?);
    }
    Ok(vec![all.report("http", started)])
}

async fn fetches(
    place: &Place,
    tls: Option<&tls::Connector>,
    from: Ipv4Addr,
    options: &Options,
    taken: &AtomicU32,
) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    loop {
        let number = taken.fetch_add(1, Ordering::Relaxed);
        if number >= options.count {
            return tally;
        }
        let range = options.range.zip(options.of).map(|(size, of)| {
            let start = (u64::from(number) * size) % of.max(1);
            (start, (start + size).min(of) - 1)
        });
        let begun = Instant::now();
        let fetched = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(from, place.server, tls).await?,
            };
            let answer = open.get(place, range, None).await?;
            if !options.close {
                connection = Some(open);
            }
            Ok::<_, String>(answer)
        };
        match tokio::time::timeout(PATIENCE, fetched).await {
            Ok(Ok(bytes)) => tally.done(begun.elapsed(), bytes),
            Ok(Err(why)) => tally.failed(why),
            Err(_) => tally.failed("no answer in time"),
        }
    }
}

/// Where something lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tls: bool,
    pub(super) server: SocketAddrV4,
    pub(super) path: String,
}

impl Place {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (tls, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let server = host
            .parse()
            .or_else(|_| {
                host.parse()
                    .map(|ip| SocketAddrV4::new(ip, if tls { 443 } else { 80 }))
            })
            .ok()?;
        let fits = path.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self {
            tls,
            server,
            path: format!("/{path}"),
        })
    }
}

/// A connection that is kept open between requests.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// TCP, or TLS on it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection {
    pub(super) async fn open(
        from: Ipv4Addr,
        server: SocketAddrV4,
        tls: Option<&tls::Connector>,
    ) -> Result<Self, String> {
        let opened = async {
            let socket = TcpSocket::new_v4()?;
            if !from.is_unspecified() {
                socket.bind(SocketAddrV4::new(from, 0).into())?;
            }
            let stream = socket.connect(server.into()).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = opened.await.map_err(|e| format!("no connection: {e}"))?;
        let stream: Box<dyn Stream> = match tls {
            Some(tls) => Box::new(tls.connect(*server.ip(), stream).await?),
            None => Box::new(stream),
        };
        Ok(Self {
            stream,
            buffer: vec![0; 256 << 10],
        })
    }

    /// GET; the body goes into `keep`, or nowhere. Returns its length.
    pub(super) async fn get(
        &mut self,
        place: &Place,
        range: Option<(u64, u64)>,
        mut keep: Option<&mut Vec<u8>>,
    ) -> Result<u64, String> {
        let range = range.map_or_else(String::new, |(first, last)| {
            format!("Range: bytes={first}-{last}\r\n")
        });
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: iPXE/1.21.1+\r\n{range}\r\n",
            place.path, place.server
        );
        let said = |e: std::io::Error| e.to_string();
        self.stream.write_all(head.as_bytes()).await.map_err(said)?;
        // TLS may have kept some of it.
        self.stream.flush().await.map_err(said)?;
        let (mut filled, body) = self.head().await?;
        let length = content_length(&self.buffer[..body])?;
        let mut left = length;
        let mut start = body;
        loop {
            let here = (filled - start).min(usize::try_from(left).unwrap_or(usize::MAX));
            if let Some(keep) = &mut keep
                && keep.len() + here <= MAX_KEPT
            {
                keep.extend_from_slice(&self.buffer[start..start + here]);
            }
            left -= here as u64;
            if left == 0 {
                return Ok(length);
            }
            start = 0;
            filled = self.stream.read(&mut self.buffer).await.map_err(said)?;
            if filled == 0 {
                return Err("the connection ended inside a body".to_owned());
            }
        }
    }

    /// Reads up to the end of the header at least. Returns how much is read and where the body begins.
    async fn head(&mut self) -> Result<(usize, usize), String> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await;
            let read = read.map_err(|e| e.to_string())?;
            filled += read;
            let end = self.buffer[..filled]
                .windows(4)
                .position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                return Ok((filled, end + 4));
            }
            if read == 0 || filled == self.buffer.len() {
                return Err("no HTTP header".to_owned());
            }
        }
    }
}

fn content_length(head: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.contains(" 200 ") && !status.contains(" 206 ") {
        return Err(format!("answered `{status}`"));
    }
    lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| "no content-length: firmware needs one".to_owned())
}

const PATIENCE: Duration = Duration::from_secs(60);
/// Scripts are short; what is longer is a mistake.
const MAX_KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::{Place, content_length};

    #[test]
    fn urls_with_addresses_are_taken_and_others_not() {
        let place = Place::parse("http://10.0.0.1:8067/boot/x?a=b").unwrap();
        assert_eq!(
            (place.server.port(), place.path.as_str()),
            (8067, "/boot/x?a=b")
        );
        assert_eq!(Place::parse("http://10.0.0.1").unwrap().server.port(), 80);
        let secure = Place::parse("https://10.0.0.1/x").unwrap();
        assert_eq!((secure.tls, secure.server.port()), (true, 443));
        for wrong in ["http://example/x", "http://10.0.0.1/a b", "x"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_success_with_a_length_counts() {
        assert_eq!(
            content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"),
            Ok(12)
        );
        assert!(content_length(b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n").is_err());
        assert!(content_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
